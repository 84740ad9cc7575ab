"""Memory of this machine, and what the C library does with what a process frees: keep it, or give it back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_KEEP_BYTES = 1 << 30
_MMAP_BYTES = 32 << 20
_SMALL_MMAP_BYTES = 4 << 20
_SMALL_KEEP_BYTES = 32 << 20


def memory_gb() -> float:
    """Return the memory that a process may have here, in 10^9 bytes: the machine's, or its container's."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            found.append(int(Path(limit).read_text()))
    return min(found) / 1e9


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library keep the memory that this process frees, instead of giving it back at once.

    Each batch frees its activations and asks for as much again, and by default glibc unmaps large blocks: the
    kernel then clears the same pages again and again. Training a small encoder takes about half the time so.

    :return: whether the C library took the setting; False where it is not glibc.
    """
    return _set(_M_MMAP_THRESHOLD, _MMAP_BYTES) and _set(_M_TRIM_THRESHOLD, _KEEP_BYTES)


@functools.cache
def give_back_freed_memory() -> bool:
    """Let the C library give back what this process frees: for passes over large tables.

    By default glibc learns from the first large blocks to keep others, in as many pools as there are threads,
    and a job that works through a table part by part grows with the number of parts. A little is kept, and
    Arrow uses the same pools: to get each page from the kernel anew took a third of a job's CPU time.

    :return: whether the C library took the setting; False where it is not glibc.
    """
    import pyarrow as pa

    if not (_set(_M_MMAP_THRESHOLD, _SMALL_MMAP_BYTES) and _set(_M_TRIM_THRESHOLD, _SMALL_KEEP_BYTES)):
        return False
    pa.set_memory_pool(pa.system_memory_pool())
    return _set(_M_ARENA_MAX, 2)


def trim() -> None:
    """Give back what is free now, Arrow's pool included."""
    from pyarrow import default_memory_pool

    default_memory_pool().release_unused()
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _set(what: int, value: int) -> bool:
    library = _glibc()
    return library is not None and bool(library.mallopt(what, value))


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt, library.malloc_trim  # noqa: B018 (musl has neither)
    except (OSError, AttributeError):
        return None
    return library
