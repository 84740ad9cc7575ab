"""The newest commit of a Delta table: two file lookups if nothing has changed.

Made for a thread beside an event loop: of delta-rs's calls, only those are used that release the
interpreter's lock while they wait for the store. Its listing of a folder does not: that would stop the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.tables.log_files import check_log_files
from modelmill.tables.storage import check_place, is_local, table_files, table_location

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_MOST_STEPS = 16
"""A table that is further ahead is opened instead: that takes a few requests, however many versions."""


@dataclass(frozen=True)
class Commit:
    """A version of a table, as its commit file shows it."""

    version: int
    modified: int
    """Time of the commit file's last change, in seconds since 1970: Delta's own time of a version, unless the
    table has in-commit timestamps. Stores differ in what they say beyond the second."""
    size: int
    """Of the commit file, in bytes; 0 if only a checkpoint is left of it."""


def newest_commit(uri: str, *, known: Commit | None = None) -> Commit | None:
    """Return a table's newest commit.

    Versions follow each other without a gap. So where the known commit is as it was and the next one does
    not exist, nothing has changed. Where the known one is gone, or is another one, the table is opened: its
    log may have been cleaned up, or another table may have taken its place.

    :param uri: path or URI.
    :param known: the newest commit at the last look; None at the first one.
    :return: the commit; None if there is no Delta table yet.
    :raises OSError: if the store does not answer, or refuses.
    :raises DeltaError: if the log cannot be read; only where the table had to be opened.
    :raises TableError: if the URI is empty or not allowed, or the log would end the process that reads it.
    """
    place = table_location(uri)
    check_place(place)
    files = table_files(place)
    if known is None or _commit(files, known.version) != known:
        return _opened(place, files)
    newest = known
    for _ in range(_MOST_STEPS):
        following = _commit(files, newest.version + 1)
        if following is None:
            return newest
        newest = following
    return _opened(place, files)


def _opened(place: str, files: FileSystem) -> Commit | None:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    if is_local(place):
        if not (Path(place) / "_delta_log").is_dir():
            return None
        check_log_files(place)
    try:
        version = DeltaTable(place).version()
    except TableNotFoundError:
        return None
    if version < 0:  # a log without a commit
        return None
    return _commit(files, version) or Commit(version=version, modified=0, size=0)


def _commit(files: FileSystem, version: int) -> Commit | None:
    (info,) = files.get_file_info([f"_delta_log/{version:020d}.json"])
    if not info.is_file:
        return None
    modified = int(info.mtime.timestamp()) if info.mtime else 0
    return Commit(version=version, modified=modified, size=int(info.size or 0))
