"""One setting of the C library that PyTorch's speed on a CPU hangs on."""

from __future__ import annotations

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30
_MMAP_BYTES = 32 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library keep the memory that this process frees, instead of giving it back at once.

    Each batch frees its activations and asks for as much again, and by default glibc unmaps large blocks: the
    kernel then clears the same pages again and again. Training a small encoder takes about half the time so.

    :return: whether the C library took the setting; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))
