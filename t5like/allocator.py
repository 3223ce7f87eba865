"""How the C library hands out memory to a computation on the CPU."""

import ctypes
import functools
import importlib.util
import os
import pathlib
import platform

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TOP_PAD_BYTES = 64 << 20
_MADV_HUGEPAGE = 14  # of Linux's mman.h
_HUGE_PAGE_BYTES = 2 << 20
_STRICT = "2"  # of vm.overcommit_memory: what is asked for is taken from others, used or not


def computes_on_cpu() -> bool:
    """Returns whether JAX will compute on the CPU, found out without starting JAX."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms.split(",")[0] == "cpu"
    return not any(importlib.util.find_spec(name) for name in ("libtpu", "jax_plugins"))


@functools.cache
def keep_freed_memory() -> bool:
    """Makes this process reuse the memory it frees, in huge pages where Linux has them; returns whether that worked.

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
    is_kept = all(mallopt(knob, value) == 1 for knob, value in knobs.items())
    if is_kept:
        _use_huge_pages()
    return is_kept


def _use_huge_pages() -> None:
    """Asks Linux for huge pages where the heap will grow, which makes reading weights faster: fewer pages to look up.

    The heap is grown as far as memory goes and freed again at once, so that nothing of it is used; what is asked of
    addresses that are not there yet would be forgotten. Where that cannot be had, pages are small as before.
    """
    try:
        is_strict = pathlib.Path("/proc/sys/vm/overcommit_memory").read_text().strip() == _STRICT
    except OSError:
        return
    if is_strict:
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    block = libc.malloc(size)
    if block:
        first = -(-block // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        libc.madvise(first, block + size - first, _MADV_HUGEPAGE)
        libc.free(block)
