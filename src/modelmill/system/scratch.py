"""Folders for temporary files whose owner is known: what a killed process leaves is told from what is used.

Beside each folder lies a lock, which its process holds while it lives; the kernel releases it on any kind of
death. Who makes a folder first removes those of the same kind that dead processes have left.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from modelmill.system.locks import is_held, locked

_LOCK = ".owner"
_SETTLED_SECONDS = 60.0
"""Within this time after a lock's file was made, its process may be about to take it."""


@contextlib.contextmanager
def scratch_folder(prefix: str, *, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that is gone at the end.

    :param prefix: beginning of its name.
    :param parent: folder to make it in; None: where temporary files go.
    :yield: the folder; only this user may read it.
    """
    _sweep(parent or Path(tempfile.gettempdir()), prefix)
    # The lock first: a folder without one has no owner, and would stay for ever.
    file, name = tempfile.mkstemp(prefix=prefix, suffix=_LOCK, dir=parent)
    os.close(file)
    lock = Path(name)
    folder = lock.with_name(lock.name.removesuffix(_LOCK))
    try:
        with locked(lock):
            folder.mkdir(mode=0o700)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)


@functools.cache
def _sweep(parent: Path, prefix: str) -> None:
    """Remove what dead processes have left, once in the life of this one."""
    for folder in abandoned(parent, prefix=prefix):
        with contextlib.suppress(OSError):
            remove_abandoned(folder)


def abandoned(parent: Path, *, prefix: str = "") -> list[Path]:
    """Return the folders that dead processes have left.

    :param parent: where they were made.
    :param prefix: beginning of their names.
    :return: the folders, in the order of their names; nothing that a process holds, and nothing whose owner
        is not known.
    """
    if not parent.is_dir():
        return []
    found = []
    for lock in sorted(parent.glob(f"{glob.escape(prefix)}*{_LOCK}")):
        folder = lock.with_name(lock.name.removesuffix(_LOCK))
        with contextlib.suppress(OSError):
            status = lock.lstat()
            old = status.st_mtime < time.time() - _SETTLED_SECONDS and status.st_uid == os.getuid()
            if old and not folder.is_symlink() and is_held(lock) is False:
                found.append(folder)
    return found


def remove_abandoned(folder: Path) -> bool:
    """Remove a folder that a dead process has left, and its lock.

    :param folder: see :func:`abandoned`.
    :return: False if a process holds it now, or this user may not remove it.
    """
    lock = folder.with_name(folder.name + _LOCK)
    if is_held(lock) is not False:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        return False  # the lock stays: by it the rest is found again
    lock.unlink(missing_ok=True)
    return True
