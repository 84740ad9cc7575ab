"""Locks between the processes of one machine; the kernel releases them on any kind of death."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file.

    :param path: the lock's file; made with its folder if it does not exist, never removed.
    :param on_wait: called once if another process holds it.
    :yield: while the lock is held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a file that is there, if no process holds it.

    :param path: the lock's file.
    :yield: whether it is held here; False too if there is no such file.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("r+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held elsewhere, or not there
            yield False
            return
        yield True


def is_held(path: Path) -> bool | None:
    """Return whether a process holds a lock.

    :param path: the lock's file.
    :return: None if there is no such file: the lock was taken elsewhere, if at all.
    """
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None
