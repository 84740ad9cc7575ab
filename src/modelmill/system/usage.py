"""What a process takes of its machine: time, CPU, memory, disk."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path

SECONDS, CPU_SECONDS = "used/seconds", "used/cpu_seconds"
MEMORY_MB, DISK_MB = "used/memory_mb", "used/disk_mb"
"""Names of the metrics that each step's run has."""
_KIB_TO_MB = 1024 / 1e6


@dataclass(frozen=True)
class UsageMeter:
    """What this process, and those that it has waited for, take from now on."""

    began: float
    cpu: float

    @classmethod
    def start(cls) -> UsageMeter:
        """Begin to measure."""
        return cls(time.monotonic(), _cpu_seconds())

    @classmethod
    def of_process(cls) -> UsageMeter:
        """Measure from where this process began: its imports count, too. Where that is unknown, from now."""
        try:
            fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return cls.start()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # seconds after boot: proc(5), starttime
        return cls(time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - began), 0.0)

    def metrics(self, folder: Path) -> dict[str, float]:
        """Return what was taken, by the metrics' names.

        Memory is the most that the process, or the largest of its children that have ended, has had resident
        since it began. Disk is what lies in the folder now.

        :param folder: the step's work directory.
        :return: seconds, CPU seconds, and 10⁶ bytes of memory and of disk.
        """
        return {
            SECONDS: time.monotonic() - self.began,
            CPU_SECONDS: _cpu_seconds() - self.cpu,
            MEMORY_MB: max(_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * _KIB_TO_MB,
            DISK_MB: _bytes_in(folder) / 1e6,
        }


def _peak() -> int:
    """Return the most that this program has had resident, in KiB.

    A process's own ``ru_maxrss`` also has what it shared with its parent before it became this program: a
    step that a large process has started would seem as large.
    """
    with contextlib.suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE):
            return int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _bytes_in(folder: Path) -> int:
    """Return the size of a folder's files. What goes meanwhile is left out: the step has done its work."""
    size = 0
    for place, _, names in os.walk(folder):  # skips folders that are gone
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(place, name).lstat().st_size
    return size


def _cpu_seconds() -> float:
    usages = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
