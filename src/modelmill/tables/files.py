"""The data files of a table's version, and whether they are as they were written.

Every active file must be there with the size that the log gives: an engine may take a missing file for one
without rows. modelmill's commits also name the SHA-256 of each file that they add, since a single flipped bit
in a Parquet file decodes to other values in almost half of all cases. The log says which files are active; a
file's digest is in the commit that added it, so commits are read from the newest backwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from modelmill.errors import TableError
from modelmill.system import digests
from modelmill.tables.storage import is_local, table_files, table_location

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyarrow.fs import FileInfo

COMMIT_KEY = "modelmill"
"""Key in ``commitInfo`` of what modelmill records about a commit."""
MANIFEST = "sha256"
"""Key of the SHA-256 of each file that the commit adds."""

TRANSACTIONS = "transactions"
"""Key of the number of application transactions that the commit has."""

_FOREIGN_COMMITS = 50
"""After so many commits in a row by other writers, no more digests are looked for."""

_CHUNK = 1 << 22

_verified: set[tuple[str, str, str, int, int]] = set()
"""Place, path, digest, size and time of change of the files that this process has hashed."""


@dataclass(frozen=True)
class ActiveFile:
    """One data file of a table's version."""

    path: str
    """Relative to the table's directory, as it is on disk."""
    size: int
    """In bytes, as the log says."""
    rows: int | None
    """As the log says, deleted ones included; None if it does not say."""
    partition: Mapping[str, Any]
    """Value of each partition column, typed; None for null."""


def logged_files(table: DeltaTable) -> pa.Table:
    """Return what the log says of a version's data files, a row for each.

    :param table: the table, at its version.
    :return: ``path`` as the log has it, ``size_bytes``, ``num_records``, ``modification_time``, bounds
        (``min.COLUMN``, ``max.COLUMN``) and ``partition.COLUMN``; in the order of the log.
    """
    import pyarrow as pa

    # pa.table() first imports pandas, to ask whether this is a data frame: a third of a reused step's time.
    return pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()


def active_files(table: DeltaTable, place: str) -> list[ActiveFile]:
    """List the data files of a version, and make sure that they are there, whole.

    :param table: the table, at its version.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :return: the files in the order of their names, numbers in them by value.
    :raises TableError: if a file is gone or has another size than the log says, or lies outside the table.
    """
    partitions = table.metadata().partition_columns
    names = ["path", "size_bytes", "num_records", *(f"partition.{name}" for name in partitions)]
    files = []
    for row in logged_files(table).select(names).to_pylist():
        values = {name: row[f"partition.{name}"] for name in partitions}
        path = path_within(row["path"], place)
        files.append(ActiveFile(path, row["size_bytes"], row["num_records"], values))
    check_present(files, place)
    return sorted(files, key=lambda file: _natural(file.path))


def path_within(logged: str, place: str) -> str:
    """Return the path of a data file as it is on disk.

    :param logged: as the log has it: a URL, with percent signs.
    :param place: the table.
    :return: the path, relative to the table's directory.
    :raises TableError: if it leads out of that directory, by ``..``, an absolute path or a link.
    """
    path = unquote(logged)
    # Stores may decode a path once more.
    within = not any(
        urlsplit(text).scheme or "\0" in text or text.startswith("/") or ".." in re.split(r"[/\\]", text)
        for text in (logged, path, unquote(path))
    )
    if within and is_local(place):
        within = os.path.realpath(f"{place}/{path}") == f"{os.path.realpath(place)}/{os.path.normpath(path)}"
    if not within:
        raise TableError(
            f"a table's files must lie in its directory, not elsewhere as a shallow clone's do ({place})",
            got=logged,
            remedy="hand in a deep copy of the table",
        )
    return path


def _natural(path: str) -> list[tuple[int, int | str]]:
    """Sort ``_10`` after ``_9``: engines number their files without leading zeros."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path)]


def check_present(files: Sequence[ActiveFile], place: str) -> None:
    """Make sure that data files are there, whole.

    :param files: the files.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :raises TableError: if one is gone, or has another size than the log says.
    """
    infos = _file_infos(place, [file.path for file in files])
    for file in files:
        size = infos[file.path].size if file.path in infos else None
        if size != file.size:
            found = "missing" if size is None else f"{size:,} bytes instead of {file.size:,}"
            raise TableError(
                f"a file of the table must be there, with the size that the log says ({place})",
                got=f"{file.path}: {found}",
                remedy="restore it from a copy, or read a newer version: vacuum removes old files",
            )


def _file_infos(place: str, paths: Iterable[str]) -> dict[str, FileInfo]:
    """Return size and time of each file that exists."""
    from pyarrow.fs import FileSelector, FileType

    files = table_files(place)
    # A store is asked for whole listings, a thousand names at a time, a disk for each file.
    wanted = list(paths) if is_local(place) else FileSelector("", recursive=True)
    return {info.path: info for info in files.get_file_info(wanted) if info.type == FileType.File}


def check_digests(
    table: DeltaTable,
    place: str,
    files: Sequence[ActiveFile],
    *,
    shown: str,
    memory: Path | None = None,
    since: int = -1,
) -> frozenset[str]:
    """Compare files with the digests that the commits which added them name.

    :param table: the table, at its version.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param files: the version's files.
    :param shown: the table and version, for the message.
    :param memory: see :func:`file_digests`; None: what this process has not hashed yet is read.
    :param since: version up to which the commits were looked at before: the files are of later ones.
    :return: paths of the files whose content is as written. The others have no digest in the log, since
        another writer added them or their commit was cleaned up; their name and size are as the log says.
    :raises TableError: if a file differs, or a commit of ours has lost or gained a file.
    """
    named = _named_digests(table, place, {file.path for file in files}, shown, since)
    if not named:
        return frozenset()
    infos = _file_infos(place, named)
    seen = {
        path: (place, path, digest, infos[path].size or 0, infos[path].mtime_ns or 0)
        for path, digest in named.items()
    }
    unread = [path for path in named if seen[path] not in _verified]
    for path, digest in file_digests(place, unread, memory=memory).items():
        if digest != named[path]:
            raise TableError(
                f"a file of the table must be as it was written ({shown})",
                got=path,
                remedy="restore it from a copy, or build the dataset again",
            )
        if memory is None:
            _verified.add(seen[path])
    return frozenset(named)


def _named_digests(table: DeltaTable, place: str, active: set[str], shown: str, since: int) -> dict[str, str]:
    """Return the digests of active files, from the newest commit backwards."""
    missing, digests, foreign = set(active), dict[str, str](), 0
    version = table.version()
    # A commit that lost a file leaves nothing missing, so those before the last file's are checked too.
    while version > since and foreign < _FOREIGN_COMMITS:
        actions = commit_actions(place, version)
        if actions is None:
            break  # cleaned up
        added = {unquote(action["add"]["path"]) for action in actions if "add" in action}
        info: dict[str, Any] = next(
            (action["commitInfo"] for action in actions if "commitInfo" in action), {}
        )
        about = info.get(COMMIT_KEY) or {}
        foreign = 0 if about else foreign + 1
        named = about.get(MANIFEST)
        _check_lines(actions, info, version, shown)
        if named is not None:
            _check_commit(set(named), added, version, shown)
            digests |= {path: named[path] for path in added & missing}
        missing -= added
        if _replaces_everything(info) and (named is not None or not missing):
            _check_commit(set(), missing, version, shown)
            break
        version -= 1
    return digests


def check_newest_commit(table: DeltaTable) -> None:
    """Make sure that the commit of a table's version has all its lines.

    :param table: the table, as one version.
    :raises TableError: if lines are missing.
    """
    place, version = table_location(table.table_uri), table.version()
    actions = commit_actions(place, version) or []
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    _check_lines(actions, info, version, place)


def _check_lines(
    actions: Sequence[Mapping[str, Any]], info: Mapping[str, Any], version: int, shown: str
) -> None:
    """Refuse a commit that was cut at the end of a line: what it has is counted in its first one."""
    counted = {"txn": (info.get(COMMIT_KEY) or {}).get(TRANSACTIONS)}
    if info.get("operation") == "WRITE" and str(info.get("engineInfo", "")).startswith("delta-rs"):
        metrics = info.get("operationMetrics") or {}
        counted |= {"add": metrics.get("num_added_files"), "remove": metrics.get("num_removed_files")}
    for kind, number in counted.items():
        found = sum(kind in action for action in actions)
        if number is not None and found < number:
            raise TableError(
                f"a commit must have all lines that it was written with ({shown})",
                got=f"{commit_file(version)}: {found} of {number} with {kind!r}",
                remedy="restore the commit file from a copy, or write the table again",
            )


def _replaces_everything(info: Mapping[str, Any]) -> bool:
    parameters = info.get("operationParameters") or {}
    return parameters.get("mode") == "Overwrite" and not parameters.get("predicate")


def _check_commit(named: set[str], found: set[str], version: int, shown: str) -> None:
    if named != found:
        raise TableError(
            f"a commit must have the files that it says it has ({shown})",
            got=f"{commit_file(version)}: {', '.join(sorted(named ^ found))}",
            remedy="restore the commit file from a copy, or build the dataset again",
        )


def commit_actions(place: str, version: int) -> list[dict[str, Any]] | None:
    """Read the actions of one commit.

    delta-rs's ``history`` counts down from the version that was opened: wrong where there are later ones.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param version: the commit.
    :return: the actions; None if the log no longer has the file.
    :raises TableError: if the file is damaged.
    """
    content = commit_bytes(place, version)
    if content is None:
        return None
    try:
        return [json.loads(line) for line in content.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise TableError(
            f"a commit file must be lines of JSON ({error})",
            got=f"{place}/{commit_file(version)}",
            remedy="restore it from a copy, or read a version before it",
        ) from error


def commit_bytes(place: str, version: int) -> bytes | None:
    """Read the file of one commit; on a local disk without Arrow, which takes long to import.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param version: the commit.
    :return: its content; None if the log no longer has the file.
    """
    try:
        if is_local(place):
            return Path(place, commit_file(version)).read_bytes()
        with table_files(place).open_input_stream(commit_file(version)) as stream:
            return bytes(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None


def commit_file(version: int) -> str:
    """Return the path of a commit's file.

    :param version: the commit.
    :return: relative to the table's directory.
    """
    return f"_delta_log/{version:020d}.json"


def file_digests(place: str, paths: Sequence[str], *, memory: Path | None = None) -> dict[str, str]:
    """Return the SHA-256 of files of a table.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param paths: relative to the table's directory.
    :param memory: see :func:`modelmill.system.digests.file_digests`; only for a table on a local disk.
    :return: 64 hexadecimal digits by path.
    """
    if is_local(place):
        return digests.file_digests(Path(place), paths, memory=memory)
    files = table_files(place)
    found = {}
    for path in paths:
        digest = hashlib.sha256()
        with files.open_input_stream(path) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        found[path] = digest.hexdigest()
    return found
