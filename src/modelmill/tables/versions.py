"""Versions of a table: the newest one, the one at a time, when each was committed, whether it is the same.

A commit's time is its in-commit timestamp if the table has them, else the time of its file, corrected so
that a later version never has an earlier time (as Delta's own reader does).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import InputError, TableError
from modelmill.tables.files import commit_actions, commit_bytes, logged_files
from modelmill.tables.opening import open_table
from modelmill.tables.protocol import commit_files_of
from modelmill.tables.storage import table_location

if TYPE_CHECKING:
    from deltalake import DeltaTable

_ENABLED = "delta.enableInCommitTimestamps"
_SINCE_VERSION = "delta.inCommitTimestampEnablementVersion"


def version_at(table: DeltaTable, place: str, moment: datetime) -> int:
    """Return the newest version that a table had at a time.

    :param table: the table, at its newest version.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param moment: with its zone.
    :return: the version.
    :raises TableError: if the time is still to come, or lies before the first commit that the log still has.
    """
    if moment > datetime.now(UTC):
        raise TableError(
            f"a table is read as it stood at a time that has passed ({place})",
            got=moment.isoformat(),
            remedy="name an earlier time, or none for the newest version",
        )
    asked = round(moment.timestamp() * 1000)
    commits = [version for version in commit_files_of(place) if version <= table.version()]
    if not commits:
        raise TableError(
            f"the log must still have commits, to tell what stood at a time ({place})",
            got=moment.isoformat(),
            remedy=f"name a version; the newest is {table.version()}",
        )
    times = _Times(table, place)
    low, high = 0, len(commits)  # bisection: in-commit timestamps cost a read each
    while low < high:
        middle = (low + high) // 2
        if times.of(commits[middle]) <= asked:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        first = commits[0]
        since = datetime.fromtimestamp(times.of(first) / 1000, UTC).isoformat(timespec="milliseconds")
        raise TableError(
            f"a table is read as it stood at a time that its log reaches back to ({place})",
            got=moment.isoformat(),
            remedy=f"its oldest commit is version {first}, of {since}"
            + ("; older ones have been cleaned up" if first else ""),
        )
    return commits[low - 1]


def commit_time(ref: TableRef | DatasetRef) -> datetime:
    """Return when a version of a table was committed.

    :param ref: the table, at the version.
    :return: the time, in UTC.
    :raises TableError: if the log no longer has that commit.
    """
    from modelmill.tables.opening import open_table

    place, times = table_location(ref.uri), None
    with contextlib.suppress(KeyError):
        times = _Times(open_table(ref.uri), place).of(ref.version)
    if times is None:
        raise TableError(
            f"the log must still have the commit, to tell when it was made ({place})",
            got=f"version {ref.version}",
            remedy="use a newer version of the table",
        )
    return datetime.fromtimestamp(times / 1000, UTC)


class _Times:
    """Time of each commit, in milliseconds since 1970; never falls from one version to the next."""

    def __init__(self, table: DeltaTable, place: str) -> None:
        settings = table.metadata().configuration
        enabled = settings.get(_ENABLED, "false").lower() == "true"
        self._place = place
        self._inside_since = int(settings.get(_SINCE_VERSION) or 0) if enabled else None
        self._files: dict[int, int] = {}
        last = -1
        for version, (_, _, modified) in commit_files_of(place).items():
            last = max(modified, last + 1)
            self._files[version] = last

    def of(self, version: int) -> int:
        if self._inside_since is None or version < self._inside_since:
            return self._files[version]
        for action in commit_actions(self._place, version) or ():
            if "inCommitTimestamp" in action.get("commitInfo", {}):
                return int(action["commitInfo"]["inCommitTimestamp"])
        raise TableError(
            f"each commit of this table must name its time ({self._place})",
            got=f"version {version} without inCommitTimestamp",
            remedy="name a version instead of a time",
        )


def resolve_table(uri: str, *, version: int | None = None, timestamp: datetime | None = None) -> TableRef:
    """Return a reference to a table as it is now, or was at a time.

    :param uri: path or URI.
    :param version: version; None: the newest.
    :param timestamp: instead of a version: a time with its zone; the newest version of that time is taken.
    :return: the reference, absolute.
    :raises TableError: see :func:`open_table`; or the table had no version at that time.
    """
    if timestamp is not None:
        version = version_at(open_table(uri), table_location(uri), timestamp)
    return TableRef(uri=table_location(uri), version=open_table(uri, version=version).version())


def table_fingerprint(ref: TableRef | DatasetRef) -> str:
    """Return a digest that tells a version of a table from the same version of one that was written anew.

    It is made of the table's first commit, which has its id, and of the version's own. Where log clean-up has
    taken that one, of the id and the log's entries for the version's files. Files are not read.

    :param ref: the table.
    :return: 64 hexadecimal digits.
    :raises TableError: see :func:`~modelmill.tables.opening.open_table`.
    """
    place = table_location(ref.uri)
    commit = None
    with contextlib.suppress(OSError):  # opening it says what is wrong
        commit, first = commit_bytes(place, ref.version), commit_bytes(place, 0) or b""
    if commit is not None:
        return hashlib.sha256(hashlib.sha256(first).digest() + commit).hexdigest()
    table = open_table(ref.uri, version=ref.version)
    columns = ["path", "size_bytes", "modification_time"]
    files = logged_files(table).select(columns).sort_by("path").to_pylist()
    content = json.dumps([str(table.metadata().id), files], default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def table_states(references: Iterable[object]) -> dict[str, str]:
    """Return the state of every table among references: one that is written anew has another state.

    :param references: anything; what is no table is left out.
    :return: :func:`table_fingerprint` by table and version, or ``missing``.
    :raises TransientError: if a store does not answer.
    """
    return {str(one): _state(one) for one in references if isinstance(one, TableRef | DatasetRef)}


def _state(ref: TableRef | DatasetRef) -> str:
    try:
        return table_fingerprint(ref)
    except InputError:
        return "missing"  # whoever reads it says why
