"""SHA-256 of files, remembered: what has not changed is not read again, so that a nightly look is cheap."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelmill.system.disk import try_write

SETTLED_NANOSECONDS = 2_000_000_000
"""A file that changed more recently is not remembered: it could change again within one tick of its clock."""


def file_digests(folder: Path, names: Iterable[str], *, memory: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of files.

    :param folder: where they are.
    :param names: paths relative to it.
    :param memory: directory in which digests are kept, with size, times and inode of the files; None: each
        file is read.
    :return: 64 hexadecimal digits by name.
    :raises OSError: if a file is missing, cannot be read, or is a device or a pipe.
    """
    place = None if memory is None else memory / f"{_name(folder)}.json"
    known = {} if place is None else load_memory(place)
    found, kept = dict[str, str](), dict[str, Any]()
    for name in names:
        status = (folder / name).stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{folder / name} is not a regular file")
        seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
        entry = known.get(name)
        if entry is None or entry[0] != seen:
            entry = [seen, file_digest(folder / name)]
        found[name] = entry[1]
        if max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - SETTLED_NANOSECONDS:
            kept[name] = entry
    if place is not None and kept != known:
        keep_memory(place, kept)
    return found


def _name(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_memory(place: Path, content: Mapping[str, Any]) -> None:
    """Write what was seen, with its own digest: a memory that is damaged would call good files damaged.

    :param place: JSON file; where it cannot be written, nothing happens.
    :param content: what JSON can say.
    """
    text = json.dumps(content)
    try_write(place, json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "seen": text}))


def load_memory(place: Path) -> dict[str, Any]:
    """Return what :func:`keep_memory` has written; empty if it is not there, or not as it was written."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(place.read_text())
        if hashlib.sha256(kept["seen"].encode()).hexdigest() == kept["sha256"]:
            return dict(json.loads(kept["seen"]))
    return {}


_BYTES = hashlib.sha256().digest_size
_CHUNK = 1 << 20


def seal(path: Path) -> None:
    """Append the SHA-256 of a file to it. Readers of NumPy's format pass over what follows the array."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(digest)


def is_sealed(path: Path) -> bool:
    """Return whether a file is there, and is as it was when it was sealed."""
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - _BYTES
            digest = hashlib.sha256()
            while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
            return left == 0 and file.read() == digest.digest()
    except OSError:
        return False
