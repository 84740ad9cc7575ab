"""What has to be on the disk before something else relies on it, and disks that take no more."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from modelmill.errors import ConfigError, ModelmillError, TransientError

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_SAID = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|File too large"
    r"|database or disk is full|os error (?:27|28|30|122)\b",
    re.IGNORECASE,
)
"""How libraries in Rust, C++ and SQL say it; their exceptions have no ``errno``."""
_FULL_BYTES = 1 << 20


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk; OSError if it cannot be written out."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def try_write(path: Path, text: str) -> None:
    """Write a small file that is read whole or not at all; where it cannot be written, nothing happens.

    For what makes the next run faster, and no more.

    :param path: the file; its folder is made.
    :param text: its content.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(text)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def make_writable(folder: Path) -> Path:
    """Make a folder, and make sure that files can be made in it.

    :param folder: below the deployment's home.
    :return: the folder.
    :raises ConfigError: if this user may not write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"the work directory must be writable ({error.strerror})",
            got=str(folder),
            remedy="set MODELMILL_HOME to a directory that this user may write",
        ) from error
    return folder


def disk_error(error: BaseException, folder: Path) -> TransientError | None:
    """Return an error that names the disk, if it takes no more.

    :param error: what was raised; also what it was raised from is looked at.
    :param folder: a folder on the disk that is most likely meant, such as the work directory.
    :return: the error; None if it is about something else, or says so already.
    """
    if isinstance(error, ModelmillError):
        return None
    for one in _causes(error):
        is_full = isinstance(one, OSError) and one.errno in _ERRNOS
        # SQLite says only this of a write that found no room.
        masked = "disk I/O error" in str(one) and _is_full(folder)
        said = _SAID.search(str(one))
        if is_full or masked or said:
            named = one.filename if isinstance(one, OSError) else None
            place = named or next(filter(_is_full, (folder, Path(tempfile.gettempdir()))), folder)
            reason = said[0] if said else one.strerror if isinstance(one, OSError) else "disk I/O error"
            return TransientError(
                f"the disk must take what a step writes ({reason})",
                got=str(place),
                remedy="make room (modelmill gc lists what killed processes left), or raise the quota; the "
                "step goes on where it was when it is tried again",
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen, current = set[int](), error
    while id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__ or current


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False
