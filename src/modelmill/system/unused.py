"""What a cache has that nobody has used for long: whoever needs it makes it again.

A file counts as used when it was written or read, as its file system says it (Linux's ``relatime`` notes a
reading once a day; ``noatime`` notes none, so that an entry goes some days after it was made).
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelmill.system.locks import is_held, lock_of, locked

CACHES = ("automata", "compress", "features", "logits", "models", "teacher_logits", "tokens")
"""Folders of the cache whose entries can be made again. Others remember what was seen, and stay."""
_DAY = 86_400


@dataclass(frozen=True)
class Unused:
    """An entry of a cache: a file, or a folder such as a model's."""

    path: Path
    size: int
    """In bytes."""
    days: float
    """Since it was last used."""


def unused(cache: Path, *, days: float) -> Iterator[Unused]:
    """Find entries that nobody has used for some days.

    :param cache: the cache, with a folder for each kind of entry.
    :param days: how long.
    :yield: the entries, in the order of their paths; none whose lock is held.
    """
    for kind in CACHES:
        folder = cache / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name.startswith(".") or path.is_symlink():
                continue  # locks, and what is being made
            idle, size = _state(path)
            if idle >= days and not is_held(_lock(path)):
                yield Unused(path, size, idle)


def remove_unused(one: Unused, *, days: float) -> bool:
    """Remove an entry, unless somebody has used it since it was found.

    :param one: the entry.
    :param days: as for :func:`unused`.
    :return: whether it is gone.
    """
    path, lock = one.path, _lock(one.path)
    with contextlib.ExitStack() as stack:
        if lock.exists():
            if is_held(lock):
                return False
            stack.enter_context(locked(lock))
        if not path.exists() or _state(path)[0] < days:
            return False
        if path.is_file():
            path.unlink()
            return True
        # Nobody may find half of a folder, such as a model without its weights.
        hidden = Path(tempfile.mkdtemp(prefix=".unused-", dir=path.parent))
        path.rename(hidden / path.name)
        shutil.rmtree(hidden)
        return True


def _lock(path: Path) -> Path:
    """Return the lock under which an entry is made and opened.

    Token ids are named ``KEY-DIGEST.arrow``, and who looks for them knows the key alone.
    """
    return lock_of(path.with_name(path.name.partition("-")[0]) if path.parent.name == "tokens" else path)


def _state(path: Path) -> tuple[float, int]:
    """Return the days since the last use of an entry, and its size in bytes."""
    last, size = 0.0, 0
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = file.lstat()
            last = max(last, status.st_mtime)
            if stat.S_ISREG(status.st_mode):  # to look into a folder, as this does, is no use
                last, size = max(last, status.st_atime), size + status.st_size
    return (time.time() - last) / _DAY, size
