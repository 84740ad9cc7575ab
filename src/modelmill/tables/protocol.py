"""Checks of every table that is opened: are the features of Delta's protocol known, is the log whole.

A reader that ignores an unknown feature reads wrong rows: without deletion vectors deleted rows come back,
without column mapping columns are null. So a feature is either read by a way that was tested on golden tables
(``scripts/check_golden_tables.py``) or refused by name. Features for writers only (generated columns,
constraints, row tracking, clustering, change data feed, …) do not change what a reader sees.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelmill.errors import TableError
from modelmill.tables.log_files import check_deletion_vectors
from modelmill.tables.storage import is_local, table_files, table_location

if TYPE_CHECKING:
    from deltalake import DeltaTable

LOG_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
"""Reader features under which the active files, read one by one, are the table."""

SCAN_FEATURES = frozenset({"columnMapping", "deletionVectors"})
"""Reader features that a data file alone does not show: delta-rs's own scan applies them."""

READER_FEATURES = LOG_FEATURES | SCAN_FEATURES

NOT_SCANNED = frozenset({"vacuumProtocolCheck"})
"""Reader features that delta-rs's scan refuses: not supported together with :data:`SCAN_FEATURES`."""

_COMMIT_FILE = re.compile(r"(\d{20})\.json")


def reader_features(table: DeltaTable) -> frozenset[str]:
    """Return the reader features that a table's rows depend on.

    :param table: the table.
    :return: names as the protocol spells them; ``reader version N`` for a version of the future.
    """
    protocol = table.protocol()
    used = set(protocol.reader_features or ())
    # Reader version 2 allows column mapping, and the mode says whether it is in use.
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        used.add("columnMapping")
    else:
        used.discard("columnMapping")
    if protocol.min_reader_version > 3:
        used.add(f"reader version {protocol.min_reader_version}")
    return frozenset(used)


def needs_scan(table: DeltaTable) -> bool:
    """Return whether a table is more than its files: columns have other names there, or rows are deleted.

    :param table: the table.
    :return: False also where deletion vectors are allowed and no file has one, as is common.
    :raises TableError: if a deletion vector cannot be read, or lies outside the table.
    """
    from deltalake.exceptions import DeltaError

    used = reader_features(table) & SCAN_FEATURES
    if used != {"deletionVectors"}:
        return bool(used)
    place = table_location(table.table_uri)
    if is_local(place):
        check_deletion_vectors(place, version=table.version())
    try:
        return any(batch.num_rows for batch in table.deletion_vectors())
    except (DeltaError, OSError) as error:
        raise TableError(
            f"the table's deletion vectors must be readable ({' '.join(str(error).split())[:300]})",
            got=table.table_uri,
            remedy="restore the file, or use another version of the table",
        ) from error


def check_features(table: DeltaTable, place: str) -> None:
    """Refuse a table that needs a feature which is not supported.

    :param table: the table.
    :param place: its place, for the message.
    :raises TableError: naming the features.
    """
    used = reader_features(table)
    refused = used - READER_FEATURES
    if used & SCAN_FEATURES and used & NOT_SCANNED:
        refused |= used & NOT_SCANNED
    if refused:
        raise features_refused(refused, place)


def features_refused(features: frozenset[str], place: str) -> TableError:
    """Return the error for a table that needs features that are not read."""
    what = ", ".join(sorted(features))
    return TableError(
        f"the table must be readable without features that are not supported ({place})",
        got=what,
        remedy="drop them where the table is written (ALTER TABLE … DROP FEATURE …), or hand in a copy",
    )


_SMALL = 256
"""Size in bytes below which a commit file is read: a real one is larger, since it says who made it."""


def check_log(table: DeltaTable, place: str) -> None:
    """Refuse a log with an empty commit file: delta-rs would read it as a commit without any rows.

    :param table: the table, at its version.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :raises TableError: if a commit up to that version is empty or blank, or a folder stands for one.
    """
    for version, (name, size, _) in commit_files_of(place).items():
        if version <= table.version() and (size == 0 or (size < _SMALL and _is_blank(place, name))):
            raise TableError(
                f"a commit file of the log must not be empty: rows of that commit would be lost ({place})",
                got=f"{name}, {size} bytes",
                remedy=f"restore the file, or read version {max(version - 1, 0)}",
            )


def _is_blank(place: str, name: str) -> bool:
    with table_files(place).open_input_stream(name) as stream:
        return not stream.read().strip()


def commit_files_of(place: str) -> dict[int, tuple[str, int, int]]:
    """List the commit files that a table's log still has.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :return: path, size in bytes and time of the last change in milliseconds since 1970, by version, in order.
    """
    from pyarrow.fs import FileSelector, FileType

    found = {}
    for info in table_files(place).get_file_info(FileSelector("_delta_log")):
        name = _COMMIT_FILE.fullmatch(info.base_name)
        if name and info.type == FileType.Directory:
            raise TableError(
                f"a commit of the log must be a file ({place})",
                got=f"_delta_log/{info.base_name}, a folder",
                remedy="remove the folder, or restore the file",
            )
        if name:
            modified = int(info.mtime.timestamp() * 1000) if info.mtime else 0
            found[int(name[1])] = (f"_delta_log/{info.base_name}", info.size or 0, modified)
    return dict(sorted(found.items()))


def refused_by_reader(error: Exception, place: str) -> TableError | None:
    """Return the refusal of a feature that delta-rs names when it opens a table.

    :param error: what delta-rs raised.
    :param place: the table.
    :return: the error; None if it is about something else.
    """
    text = str(error)
    found = re.search(r"Feature '([^']+)' is not supported", text)
    if found:
        return features_refused(frozenset({found[1]}), place)
    if "Max catalog version" in text:
        return features_refused(frozenset({"catalogManaged"}), place)
    if "Unsupported Delta table type" in text:
        kind = re.search(r"Unsupported Delta table type: '([^']+)'", text)
        return features_refused(frozenset({f"type {kind[1]}" if kind else "a type of the future"}), place)
    return None
