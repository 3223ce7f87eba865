"""How the C library hands out memory to a computation on the CPU."""

import ctypes
import functools
import importlib.util
import os
import platform

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TOP_PAD_BYTES = 64 << 20


def computes_on_cpu() -> bool:
    """Returns whether JAX will compute on the CPU, found out without starting JAX."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms.split(",")[0] == "cpu"
    return not any(importlib.util.find_spec(name) for name in ("libtpu", "jax_plugins"))


@functools.cache
def keep_freed_memory() -> bool:
    """Makes this process reuse the memory it frees instead of returning it; returns whether that worked.

    XLA asks for the same gigabytes at every step. By default glibc takes each large block from the system and gives
    it back, so every step pays for fresh pages again: a seventh of a T5-small step's time where it was measured.
    Only glibc has these knobs; elsewhere nothing changes.

    Call it before any library starts its threads: each of those keeps the heap it began with, and a heap that is not
    the first one can hold no large block.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    knobs = {
        _M_MMAP_MAX: 0,  # large blocks come from the heap as well ...
        _M_ARENA_MAX: 1,  # ... from the one heap that can grow to any size, whichever thread asks ...
        _M_TRIM_THRESHOLD: -1,  # ... and stay there when freed
        _M_TOP_PAD: _TOP_PAD_BYTES,
    }
    return all(mallopt(knob, value) == 1 for knob, value in knobs.items())
