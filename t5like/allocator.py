"""How the C library hands out memory to a computation on the CPU."""

import ctypes
import functools
import platform

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TOP_PAD_BYTES = 64 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Makes this process reuse the memory it frees instead of returning it; returns whether that worked.

    XLA asks for the same gigabytes at every step. By default glibc takes each large block from the system and gives
    it back, so every step pays for fresh pages again: a third of a T5-small step's CPU time where it was measured.
    Only glibc has these knobs; elsewhere nothing changes.
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
