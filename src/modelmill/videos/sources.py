"""A video's bytes: opened once, checked, and handed to libav as a file object, never as a name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from modelmill.videos.limits import SUBTITLE_BYTES, VideoLimits
from modelmill.videos.refusals import RefusedVideoError

_SIDECARS = (".srt", ".vtt", ".ass", ".SRT", ".VTT", ".ASS")


@dataclass(frozen=True)
class Source:
    """A video to work on."""

    file: BinaryIO
    size: int
    """In bytes."""
    sidecar: bytes | None = None
    """Content of the file of subtitles that lies beside it; at most :data:`SUBTITLE_BYTES`."""
    sidecar_name: str = ""


@contextlib.contextmanager
def open_source(named: Mapping[str, Any], limits: VideoLimits) -> Iterator[Source]:
    """Open a video.

    :param named: ``path`` or ``content``; ``digest``: its SHA-256, checked if it is there; ``sidecars``:
        whether files of subtitles beside it are read.
    :param limits: how large it may be.
    :yields: the video.
    :raises RefusedVideoError: if it cannot be read, is too large, or has another digest.
    """
    content: bytes | None = named.get("content")
    with contextlib.ExitStack() as stack:
        if content is not None:
            file: BinaryIO = io.BytesIO(content)
            size = len(content)
        else:
            file = stack.enter_context(_opened(named["path"]))
            size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise RefusedVideoError("empty")
        if size > limits.max_bytes:
            raise RefusedVideoError("too_large", f"{size:,} bytes of {limits.max_bytes:,}")
        if named.get("digest"):
            _check_digest(file, named["digest"])
        sidecar, name = None, ""
        if content is None and named.get("sidecars"):
            sidecar, name = _sidecar(Path(named["path"]))
        yield Source(file, size, sidecar, name)


def _opened(path: str) -> BinaryIO:
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reasons = {errno.ENOENT: "missing", errno.ENOTDIR: "missing", errno.ELOOP: "link"}
        raise RefusedVideoError(reasons.get(error.errno or 0, "unreadable"), error.strerror or "") from error
    except ValueError as error:  # a NUL in the name
        raise RefusedVideoError("missing", str(error)) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise RefusedVideoError("not_a_file")
    return os.fdopen(number, "rb")


def digest_of(file: BinaryIO) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits, and go back to its start."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _check_digest(file: BinaryIO, wanted: str) -> None:
    found = digest_of(file)
    if found != wanted.lower():
        raise RefusedVideoError("changed", f"SHA-256 {found[:12]} instead of {wanted[:12]}")


def _sidecar(path: Path) -> tuple[bytes | None, str]:
    for beside in sidecars_of(path):
        with contextlib.suppress(RefusedVideoError), _opened(str(beside)) as file:
            return file.read(SUBTITLE_BYTES), beside.name
    return None, ""


def local_path(path: str) -> str:
    """Return the path that a ``file:`` URI names, as Spark lists files; another text as it is.

    :param path: as a table has it. ``%20`` is a space unless there is a file with these three characters.
    :return: the path.
    """
    rest = path.removeprefix("file:")
    if rest == path:
        return path
    plain = f"/{rest[2:].partition('/')[2]}" if rest.startswith("//") else rest
    return plain if "\0" in plain or os.path.lexists(plain) else unquote(plain)


def sidecar_digest(path: str) -> str | None:
    """Return the SHA-256 of the file of subtitles that lies beside a video; None if there is none."""
    content, name = _sidecar(Path(path))
    return None if content is None else hashlib.sha256(f"{name}\0".encode() + content).hexdigest()


def sidecars_of(path: Path) -> list[Path]:
    """Return the files that may have a video's subtitles, the first one that there is counts."""
    if not path.name:  # the root folder
        return []
    return [beside for suffix in _SIDECARS if (beside := path.with_suffix(suffix)) != path]
