"""The cores of this machine."""

from __future__ import annotations

import os

_MAX_THREADS = 16


def usable_cores() -> int:
    """Return the number of cores that this process may use, at most 16."""
    return max(1, min(len(os.sched_getaffinity(0)), _MAX_THREADS))
