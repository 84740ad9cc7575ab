"""What is looked at in a table's log on this machine before delta-rs reads it.

delta-rs recurses into JSON, so deep JSON ends the process; it follows links, waits for ever for a named pipe,
and reads the deletion vectors that a log names wherever they lie. So the files of a log are regular ones in
the table's folder, their JSON is bounded in depth, also the JSON within their strings and within the strings
of a checkpoint, and deletion vectors lie in the table.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from modelmill.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_DEEP = 200
"""Brackets within each other, at most."""

_HARMLESS_BYTES = 4096
"""A file of fewer bytes is not nested so deep that it ends a process, which takes some ten thousand."""

_LARGEST_HINT = 1 << 20
"""Bytes of ``_last_checkpoint``, which is a line of JSON."""

_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_IN_USE = re.compile(r"\d{20}\..*(?:json|parquet|crc)|_last_checkpoint")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_NAME_LENGTH = 20
"""Characters at the end of a relative deletion vector's place that encode the UUID in its file's name."""


def check_log_files(place: str, *, version: int | None = None) -> None:
    """Refuse a log on this machine that would end, or stop, the process in which delta-rs reads it.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param version: version that is to be read; None: the newest.
    :raises TableError: naming the file.
    """
    for path in _files(place, version):
        try:
            status = path.stat()
            seen = (str(path), status.st_size, status.st_mtime_ns)
            if seen in _shallow or status.st_size < _HARMLESS_BYTES:
                continue
            if path.suffix == ".parquet":
                deep = any(is_deep(text) for text in _long_texts(path))
            else:
                deep = is_deep(path.read_bytes())
        except OSError:
            continue  # opening the table says what is wrong with it
        if deep:
            raise TableError(
                f"a commit's JSON must not be nested more than {MOST_DEEP} deep ({place})",
                got=path.name,
                remedy="restore the file from a copy",
            )
        _shallow.add(seen)


_shallow: set[tuple[str, int, int]] = set()
"""Path, size and time of the log files that this process has looked at."""


def _files(place: str, version: int | None) -> list[Path]:
    """List the files of the log that are read for a version; all of the log are regular files of it."""
    log = Path(place, "_delta_log")
    try:
        found = {entry.name: entry for folder in (log, log / "_sidecars") for entry in _entries(folder)}
    except OSError:
        return []  # opening the table says what is wrong with it
    home = os.path.realpath(log)
    for name, entry in found.items():
        if entry.is_file(follow_symlinks=False) or not _IN_USE.fullmatch(name):
            continue
        # A folder in place of a commit is refused with what to do about it where commits are listed.
        if not entry.is_dir(follow_symlinks=False) and not _is_regular_in(entry.path, home):
            raise TableError(
                f"the log's files are regular files, and no links out of it ({place})",
                got=name,
                remedy="restore the file from a copy",
            )
    hint = found.get("_last_checkpoint")
    if hint is not None and hint.stat().st_size > _LARGEST_HINT:
        raise TableError(
            f"_last_checkpoint has at most {_LARGEST_HINT:,} bytes ({place})", got=hint.stat().st_size
        )
    # A log may have thousands of commits: only those behind the checkpoint that is read are looked at.
    newest = max((name[:20] for name in found if re.fullmatch(r"\d{20}\.json", name)), default="")
    until = newest if version is None else f"{version:020d}"
    checkpoints = (
        name[:20] for name in found if _CHECKPOINT.fullmatch(name) and found[name].stat().st_size and newest
    )
    since = max((name for name in checkpoints if name <= until), default="")
    return [
        Path(entry.path)
        for name, entry in sorted(found.items())
        if name.endswith((".json", ".parquet")) and (name >= since or "_sidecars" in entry.path)
    ] + ([Path(hint.path)] if hint is not None else [])


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    if folder.name != "_sidecars" or folder.is_dir():
        with os.scandir(folder) as entries:
            yield from entries


def _is_regular_in(path: str, home: str) -> bool:
    real = Path(os.path.realpath(path))
    return real.is_file() and real.is_relative_to(home)


def is_deep(content: bytes) -> bool:
    """Return whether JSON is nested more than :data:`MOST_DEEP` deep, or JSON in one of its strings is.

    :param content: JSON, one document or several, whole or cut off.
    :return: True also for texts that are no JSON and open so many brackets more than they close.
    """
    if _openers(content) <= MOST_DEEP or all(map(_is_flat_json, content.splitlines())):
        return False
    brackets = _STRING.sub(b"", content).translate(None, _NO_BRACKETS)
    for _ in range(MOST_DEEP):  # each turn takes the innermost level away, or two of them
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        found = before - len(brackets)
        if not found:
            break
    if _openers(brackets) > (0 if found else MOST_DEEP):
        return True
    return any(
        is_deep(_ESCAPE.sub(_unescaped, string[1:-1]))
        for string in (match[0] for match in _STRING.finditer(content))
        if _openers(string) > MOST_DEEP
    )


def _is_flat_json(line: bytes) -> bool:
    """Return whether a line is a document of its own, or blank: a commit has a line for each of its files."""
    if _openers(line) > MOST_DEEP:
        return False
    try:
        json.loads(line.decode() or "0")
    except ValueError:
        return not line.strip()
    return True


def _openers(content: bytes) -> int:
    """Count the brackets that open, those that an escape may stand for included."""
    return content.count(b"[") + content.count(b"{") + content.count(b"u00")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return chr(int(escape[1], 16)).encode("utf-8", "replace") if escape[1] else escape[2]


def _long_texts(path: Path) -> Iterator[bytes]:
    """Yield the texts of a checkpoint that hold enough brackets to be deep."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
        columns = ["add.stats", "metaData.schemaString", "metaData.configuration", "add.tags"]
        for batch in parquet.iter_batches(columns=columns):
            for array in _text_arrays(batch.columns):
                yield from _with_brackets(array)
    except pa.ArrowException:
        return  # opening the table says what is wrong with it


def _text_arrays(arrays: Iterable[pa.Array]) -> Iterator[pa.Array]:
    import pyarrow as pa

    for array in arrays:
        if pa.types.is_struct(array.type):
            yield from _text_arrays(array.flatten())
        elif pa.types.is_map(array.type):
            yield from _text_arrays([array.keys, array.items])
        elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            yield array


def _with_brackets(array: pa.Array) -> Iterator[bytes]:
    import pyarrow.compute as pc

    signs = [pc.count_substring(array, pattern) for pattern in ("[", "{", "u00")]
    many = pc.greater(pc.add(pc.add(signs[0], signs[1]), signs[2]), MOST_DEEP)
    for text in array.filter(many):
        yield text.as_buffer().to_pybytes()


def check_deletion_vectors(place: str, *, version: int) -> None:
    """Make sure that the deletion vectors of a table on this machine lie in its folder.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param version: version that is to be read.
    :raises TableError: if one lies elsewhere, or is a link or no regular file.
    """
    for path in _files(place, version):
        for vector in _vectors(path):
            kind, where = vector.get("storageType"), str(vector.get("pathOrInlineDv"))
            if kind != "i" and not _is_in_table(kind, where, place):
                raise TableError(
                    f"a table's deletion vectors must lie in its directory ({place})",
                    got=where,
                    remedy="hand in a deep copy of the table",
                )


def _is_in_table(kind: Any, where: str, place: str) -> bool:
    home = os.path.realpath(place)
    if kind == "p":
        parts = urlsplit(where)
        file = unquote(parts.path)
        return parts.scheme == "file" and not parts.netloc and _is_regular_in(file, home)
    folder = Path(place, unquote(where[:-_NAME_LENGTH]))
    if not Path(os.path.realpath(folder)).is_relative_to(home):
        return False
    return all(_is_regular_in(str(path), home) for path in folder.glob("deletion_vector_*"))


def _vectors(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the deletion vectors that a file of the log names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(columns=["add.deletionVector"]):
                adds = batch.column(0).to_pylist() if batch.num_columns else []
                yield from (add["deletionVector"] for add in adds if add and add.get("deletionVector"))
            return
        for line in path.read_bytes().splitlines():
            action = json.loads(line) if b"add" in line or b"\\u" in line else {}
            add = action.get("add") if isinstance(action, dict) else None
            if isinstance(add, dict) and isinstance(add.get("deletionVector"), dict):
                yield add["deletionVector"]
    except (OSError, ValueError, RecursionError, pa.ArrowException):
        return  # reading the table says what is wrong with it
