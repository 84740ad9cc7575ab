"""Locks between the processes of one machine; the kernel releases them on any kind of death."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def lock_of(path: Path) -> Path:
    """Return the lock that is held while an entry of a cache is made: it lies beside the entry."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file.

    :param path: the lock's file; made with its folder if it does not exist. Only who holds it may remove it.
    :param on_wait: called once if another process holds it.
    :yield: while the lock is held.
    """
    with contextlib.ExitStack() as stack:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = stack.enter_context(path.open("w"))
            except FileNotFoundError:  # who held it has removed the folder just now
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait:
                    on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file):
                break
            stack.close()
        yield


def _is_at(path: Path, file: IO[str]) -> bool:
    """Return whether an open file is the one at its path: who held the lock may have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


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
        yield _is_at(path, file)


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
