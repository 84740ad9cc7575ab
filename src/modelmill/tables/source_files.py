"""Files to load into a Delta table: found, identified by content, checked before Spark reads them."""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import json
import lzma
import os
import re
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelmill.errors import TableError, TransientError
from modelmill.settings import source_places
from modelmill.system.digests import SETTLED_NANOSECONDS, file_digest, file_digests
from modelmill.tables.storage import STORES, is_local, table_location

_CHUNK = 1 << 20
_LONG_NUMBER = re.compile(rb"[:\[,]\s*-?\d{19}")
_LONGEST_LINE = 1 << 28
"""Bytes of a line of JSON: it is held as a whole, here and by the engine."""
_UNPACKED, _TIMES = 1 << 30, 300
"""Bytes up to which a file may unpack whatever its own size is, and to how many times its size beyond that.
Texts become a third to a thirtieth; zeros a thousandth."""


@dataclass(frozen=True)
class SourceFile:
    """One file to load."""

    path: str
    """Absolute path or URI."""
    size: int
    """In bytes."""
    digest: str
    """SHA-256 of the content; for a remote file, of what its store gives as its identity."""
    state: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Size, times and inode of a local file before it was hashed; empty if it had just been written."""

    @property
    def transactions(self) -> tuple[str, ...]:
        """Application transaction ids: the same name with the same content is loaded once.

        Of a local file that a link leads to, there is one of the path that names it, and one of its own.
        """
        paths = [self.path, os.path.realpath(self.path)] if is_local(self.path) else [self.path]
        contents = [f"{path}\0{self.digest}".encode() for path in dict.fromkeys(paths)]
        return tuple(f"modelmill-file-{hashlib.sha256(content).hexdigest()}" for content in contents)


_SYSTEM = ("/etc", "/proc", "/sys", "/dev", "/boot", "/run", "/var/run")
"""Folders whose files are loaded only if the deployment says so."""
_KEY_FILES = (
    *("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "BOTO_CONFIG"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "AZURE_FEDERATED_TOKEN_FILE", "KUBECONFIG", "NETRC"),
    *("MODELMILL_SIGNING_KEY", "MLFLOW_TRACKING_CLIENT_CERT_PATH", "AIRFLOW_CONFIG"),
)
"""Variables that name files with credentials."""


def check_source(source: str) -> None:
    """Make sure that the deployment allows to load files from a place.

    :param source: path, glob or URL.
    :raises TableError: if it lies elsewhere.
    """
    place, places = table_location(source), source_places()
    if is_local(place) and "::" not in source:
        real = Path(os.path.realpath(place))
        roots = [Path(table_location(one)).resolve() for one in places if is_local(one)]
        allowed = any(map(real.is_relative_to, roots)) if places else not _is_private(real)
    else:
        scheme = urlsplit(place).scheme
        plain = "::" not in source and not any(
            unquote(unquote(part)) in ("..", ".") for part in place.split("/")
        )
        below = any(f"{place}/".startswith(f"{one.rstrip('/')}/") for one in places if not is_local(one))
        allowed = plain and (below if places else scheme in STORES)
    if not allowed:
        shown = ", ".join(places) or (
            "local folders that are neither the system's nor hidden in a home, and object stores"
        )
        raise TableError(
            f"files are loaded from places that the deployment allows ({shown})",
            got=source,
            remedy="copy them there, or add the place to MODELMILL_SOURCES",
        )


def _is_private(real: Path) -> bool:
    """Return whether a file is the system's, or holds what programs log in with.

    Such are the hidden folders of a home (``.aws``, ``.ssh``, ``.kube``, ``.mlflow``), the files in Airflow's
    own home, and those that a variable names.
    """
    if any(real.is_relative_to(Path(one).resolve()) for one in _SYSTEM):
        return True
    homes = {
        Path.home().resolve(),
        Path("/root"),
        *(home for home in real.parents if home.parent == Path("/home")),
    }
    if any(_begins_hidden(real.relative_to(home)) for home in homes if real.is_relative_to(home)):
        return True
    airflow = Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow").resolve()
    keys = {Path(os.environ[name]).resolve() for name in _KEY_FILES if os.environ.get(name)}
    return real.parent == airflow or real in keys


def _begins_hidden(path: Path) -> bool:
    return bool(path.parts) and path.parts[0].startswith(".")


def list_files(source: str, *, memory: Path | None = None) -> list[SourceFile]:
    """Find the files that a path or glob names.

    :param source: path, glob or fsspec URL. Names that begin with ``.`` or ``_`` are skipped, as Spark does.
    :param memory: see :func:`modelmill.system.digests.file_digests`.
    :return: the files in the order of their paths.
    :raises TableError: if the place cannot be read, or files are not to be loaded from there.
    """
    check_source(source)
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        store, pattern = fsspec.core.url_to_fs(table_location(source))
        found = {pattern: store.info(pattern)} if store.isfile(pattern) else store.glob(pattern, detail=True)
        paths = [
            path
            for path, info in sorted(found.items())
            if info["type"] == "file" and not path.rsplit("/", 1)[-1].startswith((".", "_"))
        ]
        if isinstance(store, LocalFileSystem):
            for path in paths:
                check_source(path)  # a link may lead anywhere
            states = {path: _state(path) for path in paths}
            digests = _digests(paths, memory)
            return [SourceFile(path, int(found[path]["size"]), digests[path], states[path]) for path in paths]
        return [
            SourceFile(store.unstrip_protocol(path), int(found[path]["size"]), str(store.ukey(path)))
            for path in paths
        ]
    except (OSError, ValueError, ImportError) as error:
        raise TableError(
            f"the files to load must be readable ({error})",
            got=source,
            remedy="check the path and its rights",
        ) from error


def _digests(paths: Sequence[str], memory: Path | None) -> dict[str, str]:
    names: dict[Path, list[str]] = {}
    for path in paths:
        names.setdefault(Path(path).parent, []).append(Path(path).name)
    return {
        str(folder / name): digest
        for folder, inside in names.items()
        for name, digest in file_digests(folder, inside, memory=memory).items()
    }


def _state(path: str) -> tuple[int, ...]:
    """Return what tells whether a file was changed; empty if the file system's clock is too coarse for it."""
    now, status = time.time_ns(), Path(path).stat()
    if max(status.st_mtime_ns, status.st_ctime_ns) > now - SETTLED_NANOSECONDS:
        return ()
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def check_unchanged(files: Sequence[SourceFile]) -> None:
    """Make sure, once files have been read, that they are what was found.

    A file that is written to meanwhile would be loaded in part under the digest of what it was before, and
    once more as a whole the next time; one that is moved away would count as loaded without its rows.

    :param files: as :func:`list_files` gave them.
    :raises TransientError: naming a file that is gone or has changed.
    """
    import fsspec

    for file in files:
        try:
            if is_local(file.path):
                same = _state(file.path) == file.state != () or file_digest(Path(file.path)) == file.digest
            else:
                store, path = fsspec.core.url_to_fs(file.path)
                store.invalidate_cache()
                same = str(store.ukey(path)) == file.digest
        except OSError:
            same = False
        if not same:
            raise TransientError(
                "a file must stay as it is while it is loaded",
                got=file.path,
                remedy="write files under another name, such as one that begins with a dot, and rename them "
                "when they are whole",
            )


def check_not_own_files(files: Sequence[SourceFile], table: str) -> None:
    """Refuse to load a table from its own files: it would double with every run.

    :param files: the files.
    :param table: the table, as :func:`~modelmill.tables.storage.table_location` gives it.
    :raises TableError: if one of the files lies in the table's directory.
    """
    for file in files:
        if file.path.startswith(f"{table}/"):
            raise TableError(
                "a table is not loaded from its own files",
                got=file.path,
                remedy="name another source or table",
            )


def check_content(files: Sequence[SourceFile], format_: str, options: Mapping[str, str]) -> None:
    """Refuse files that the engines' readers would misread without an error.

    They take an empty Parquet file for one without rows. In a CSV file, bytes that are not UTF-8 become
    another character, and a quote that is never closed swallows the rows behind it. In a JSON file, a whole
    number beyond 64 bits loses its last digits. A compressed file may stand for more than any machine holds.
    Only files on this machine are read for these checks.

    :param files: the files.
    :param format_: ``json``, ``csv`` or ``parquet``.
    :param options: the reader's options.
    :raises TableError: naming the file.
    """
    given = set(map(str.lower, options))
    # These options change what the characters, bytes and lines mean.
    check = {
        "csv": _check_size if {"encoding", "charset", "quote", "escape"} & given else _check_csv,
        "json": _check_size if {"encoding", "charset", "multiline"} & given else _check_json,
    }.get(format_)
    for file in files:
        if format_ == "parquet" and file.size == 0:
            raise _unreadable(file, "a Parquet file has a footer, and this one has 0 bytes")
        if check and is_local(file.path):
            try:
                check(file)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise _unreadable(file, str(error)) from error


class _Unpacked:
    """How large a file's content is. A compressed file of a few MB may stand for all memory and disk."""

    def __init__(self, file: SourceFile) -> None:
        self._left = max(_UNPACKED, file.size * _TIMES)

    def add(self, size: int) -> None:
        """Count bytes; ValueError if there are too many."""
        self._left -= size
        if self._left < 0:
            raise ValueError(f"a compressed file has at most 1 GiB in it, or {_TIMES} times its size")


def _check_size(file: SourceFile) -> None:
    import fsspec

    if fsspec.utils.infer_compression(file.path) is None:
        return
    unpacked = _Unpacked(file)
    with fsspec.open(file.path, "rb", compression="infer") as content:
        while chunk := content.read(_CHUNK):
            unpacked.add(len(chunk))


def _check_json(file: SourceFile) -> None:
    import fsspec

    long: list[str] = []

    def whole(digits: str) -> None:
        if not -(2**63) <= int(digits) < 2**63:
            long.append(digits)

    unpacked = _Unpacked(file)
    with fsspec.open(file.path, "rb", compression="infer") as lines:
        while line := lines.readline(_LONGEST_LINE):
            unpacked.add(len(line))
            if len(line) == _LONGEST_LINE:
                raise ValueError(f"a line of JSON has less than {_LONGEST_LINE >> 20} MiB")
            if _LONG_NUMBER.search(line):
                with contextlib.suppress(
                    json.JSONDecodeError, UnicodeDecodeError
                ):  # the engine says it better
                    json.loads(line, parse_int=whole)
                if long:
                    raise ValueError(f"a whole number has at most 64 bits: write {long[0][:40]} as text")


def _check_csv(file: SourceFile) -> None:
    import fsspec

    decode, quotes, unpacked = codecs.getincrementaldecoder("utf-8")(), 0, _Unpacked(file)
    with fsspec.open(file.path, "rb", compression="infer") as content:
        while chunk := content.read(_CHUNK):
            unpacked.add(len(chunk))
            decode.decode(chunk)
            quotes += chunk.count(b'"')
        decode.decode(b"", final=True)
    if quotes % 2:  # an even number of quotes: all are closed, with next to no exceptions
        with fsspec.open(file.path, "rt", encoding="utf-8", newline="", compression="infer") as text:
            try:
                csv.field_size_limit(sys.maxsize)
                for _ in csv.reader(text, strict=True):
                    pass
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise ValueError("a quote is opened and never closed") from error


def _unreadable(file: SourceFile, reason: str) -> TableError:
    return TableError(
        f"the files must be readable as what they are said to be ({reason})",
        got=file.path,
        remedy="restore the file, or remove it",
    )
