"""Ends a set of servers for certain, even when the process that started them dies. Run as a script.

The guard reads process ids, one a line, from a pipe that only its starter holds open. When the pipe ends,
because the starter closed it or died, the guard ends those processes and everything that descends from them.

Descendants leave process groups and sessions (each Airflow task has a group, each step a session): hence
three ways to find them: the tree of parents, the session, and a mark in the environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

import psutil

MARK = "MODELMILL_LOCAL_MARK"
"""Environment variable whose value tells one set of servers from all others."""
GRACE_SECONDS = 8.0
"""Time that the servers have to end after SIGTERM."""
LATER_GRACE_SECONDS = 2.0
"""Time that what they leave behind has to end after SIGTERM of its own, before SIGKILL."""


def end_all(leaders: Iterable[int], mark: str) -> None:
    """End processes and their descendants: SIGTERM to the leaders, then to what is left, then SIGKILL.

    :param leaders: ids of processes that lead sessions.
    :param mark: value of :data:`MARK` in their environment.
    """
    known = list(leaders)
    found = family(known, mark)
    _terminate(process for pid, process in found.items() if pid in known)
    _wait([process for pid, process in found.items() if pid in known], seconds=GRACE_SECONDS)
    found = _alive(found) | family(known, mark)
    _terminate(found.values())
    _wait(found.values(), seconds=LATER_GRACE_SECONDS)
    for _ in range(50):
        found = _alive(found) | family(known, mark)
        if not found:
            return
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        _wait(found.values(), seconds=0.2)


def family(leaders: Iterable[int], mark: str) -> dict[int, psutil.Process]:
    """Return the live processes that descend from some processes or carry their mark.

    :param leaders: ids of processes that lead sessions.
    :param mark: value of :data:`MARK` in their environment.
    :return: processes by id, without this one.
    """
    sessions = set(leaders)
    everything = {process.pid: process for process in psutil.process_iter()}
    found: dict[int, psutil.Process] = {}
    for pid, process in everything.items():
        if pid != os.getpid() and (_session(pid) in sessions or _has_mark(process, mark)):
            found[pid] = process
            with contextlib.suppress(psutil.Error):
                found |= {child.pid: child for child in process.children(recursive=True)}
    return {pid: process for pid, process in _alive(found).items() if pid != os.getpid()}


def _terminate(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def _wait(processes: Iterable[psutil.Process], *, seconds: float) -> None:
    # Not psutil.wait_procs: for it, a dead process that its parent has not reaped yet is still there.
    deadline, waiting = time.monotonic() + seconds, list(processes)
    while time.monotonic() < deadline and any(map(_is_alive, waiting)):
        time.sleep(0.05)


def _alive(processes: dict[int, psutil.Process]) -> dict[int, psutil.Process]:
    return {pid: process for pid, process in processes.items() if _is_alive(process)}


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):  # gone, or a process that nobody may look into
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _watch(mark: str) -> None:
    """Collect process ids until the pipe ends, then end them."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    leaders = [int(line) for line in sys.stdin]
    began = time.monotonic()
    end_all(leaders, mark)
    sys.stdout.write(f"ended {len(leaders)} servers in {time.monotonic() - began:.1f} s\n")


if __name__ == "__main__":
    _watch(sys.argv[1])
