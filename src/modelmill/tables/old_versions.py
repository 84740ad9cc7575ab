"""Files of a table that only versions of long ago need.

Delta keeps the files of every version until somebody removes them. Its ``VACUUM`` commits that it has done
so, which makes a new version of the table: whatever reads the newest one would run again. So the log is only
read here, and the files go without a commit, as every reader of Delta expects of files that the log has
removed. What is kept is what a reader can ask for: the versions that were the newest at some time in the last
days, and versions that somebody names. The log itself is Delta's own to clean up
(``delta.logRetentionDuration``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from modelmill.errors import TableError
from modelmill.tables.files import commit_actions, path_within
from modelmill.tables.opening import open_table
from modelmill.tables.protocol import commit_files_of
from modelmill.tables.storage import is_local, table_files, table_location
from modelmill.tables.versions import version_at


@dataclass(frozen=True)
class OldFile:
    """A file that no version within the policy needs."""

    table: str
    path: str
    """Relative to the table's directory."""
    size: int
    """In bytes."""
    last: int
    """Last version that needs it."""


@dataclass
class _Use:
    """Versions that need a file: from one, until another one that does not."""

    since: int
    until: int | None = None

    def covers(self, version: int) -> bool:
        return self.since <= version and (self.until is None or version < self.until)


def oldest_version(uri: str, since: datetime) -> int:
    """Return the oldest version that a reader can ask for by a time since then.

    :param uri: the table.
    :param since: with its zone.
    :return: the version that was the newest then; the oldest one if the log does not reach back so far.
    :raises TableError: if the table cannot be read.
    """
    place = table_location(uri)
    table = open_table(place)
    try:
        return version_at(table, place, since)
    except TableError:
        return min(commit_files_of(place), default=table.version())


def old_files(uri: str, *, since: datetime, pinned: Collection[int] = ()) -> list[OldFile]:
    """Find the files that only versions before a time need.

    :param uri: the table.
    :param since: versions that were the newest at this time or later stay whole.
    :param pinned: older versions that stay whole, too.
    :return: the files that are there, in the order of their paths.
    :raises TableError: if the table or a commit of its log cannot be read, or a file lies outside of it.
    """
    place = table_location(uri)
    first, uses = oldest_version(place, since), _uses(place)
    newest = open_table(place).version()
    last = {
        path: max(newest if one.until is None else one.until - 1 for one in found)
        for path, found in uses.items()
        if not any(
            one.until is None or one.until > first or any(one.covers(version) for version in pinned)
            for one in found
        )
    }
    return [OldFile(place, path, size, last[path]) for path, size in _there(place, sorted(last))]


def _uses(place: str) -> dict[str, list[_Use]]:
    """Return which versions need each file that the log has removed, or has added."""
    uses: dict[str, list[_Use]] = {}
    for version in commit_files_of(place):
        actions = commit_actions(place, version) or []
        for action in actions:
            if "remove" in action:
                found = uses.setdefault(path_within(action["remove"]["path"], place), [])
                if found and found[-1].until is None:
                    found[-1].until = version
                elif not found:  # the commit that added it has been cleaned up
                    found.append(_Use(0, version))
        for action in actions:  # a file whose rows are marked as deleted is removed and added again
            if "add" in action:
                uses.setdefault(path_within(action["add"]["path"], place), []).append(_Use(version))
            if "cdc" in action:
                uses.setdefault(path_within(action["cdc"]["path"], place), []).append(
                    _Use(version, version + 1)
                )
    return uses


def _there(place: str, paths: list[str]) -> Iterator[tuple[str, int]]:
    from pyarrow.fs import FileType

    if paths:
        for path, info in zip(paths, table_files(place).get_file_info(paths), strict=True):
            if info.type == FileType.File:
                yield path, info.size or 0


def remove_old_file(file: OldFile) -> bool:
    """Remove a file of old versions, and its folder if that is empty then.

    :param file: as :func:`old_files` found it: the log never needs it again.
    :return: whether it is gone.
    """
    try:
        table_files(file.table).delete_file(file.path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if is_local(file.table) and "/" in file.path:
        with contextlib.suppress(OSError):  # it has other files
            Path(file.table, file.path).parent.rmdir()
    return True
