"""Opening Delta tables.

What is read must be what was written, or an error. delta-rs refuses most of what it cannot read, but not all:
it takes an empty commit file (what a power loss leaves) for a commit without rows. So every table passes
:func:`open_table`, which refuses such logs and every reader feature that was not seen to be read right.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError, TransientError
from modelmill.tables.log_files import check_log_files
from modelmill.tables.protocol import (
    check_features,
    check_log,
    refused_by_reader,
)
from modelmill.tables.storage import check_place, is_local, one_line, table_location, unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


_FAR = 100_000
"""delta-rs takes time for each version up to the one that is asked for, be it there or not: 1.5 seconds for
ten millions. Above this one it is asked first how far the table is."""


def open_table(uri: str, *, version: int | None = None) -> DeltaTable:
    """Open a Delta table, and make sure that what is read is what was written.

    :param uri: path or URI.
    :param version: version to read; None: the newest.
    :return: the table at that version.
    :raises TableError: if it is missing, no Delta table, has no such version, needs a reader feature that we
        do not read, or its log is damaged.
    :raises TransientError: if its store does not answer.
    """
    place = table_location(uri)
    check_place(place)
    _check_exists(place)
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    if is_local(place):
        check_log_files(place, version=version)
    try:
        if version is not None and version > _FAR:
            _check_reached(place, version)
        table = DeltaTable(place, version=version)
    except (DeltaError, OSError, ValueError, OverflowError) as error:
        raise _open_error(place, version, error) from error
    if table.version() < 0:  # a log without a commit
        raise _no_table(place)
    check_features(table, place)
    check_log(table, place)
    return table


def transaction_version(table: DeltaTable, transaction: str) -> int | None:
    """Return the version of an application transaction that a table's log has.

    :param table: the table, as one version.
    :param transaction: the application's id.
    :return: its version; None if no commit has it.
    :raises TableError: if the log cannot say, because it was damaged: opening a table does not read this.
    """
    from deltalake.exceptions import DeltaError

    try:
        found: int | None = table.transaction_version(transaction)
    except DeltaError as error:
        place = table_location(table.table_uri)
        raise _open_error(place, None, error) from error
    return found


def table_schema(ref: TableRef | DatasetRef) -> pa.Schema:
    """Return the columns of a table, at its version, as Arrow has them; see :func:`open_table` for errors."""
    import pyarrow as pa

    return pa.schema(open_table(ref.uri, version=ref.version).schema().to_arrow())


def _check_exists(place: str) -> None:
    if not is_local(place):
        return
    if not Path(place).is_dir():
        raise TableError("the table must exist", got=place, remedy="check the path, or write the table first")
    if not (Path(place) / "_delta_log").is_dir():
        raise TableError(
            "the directory must be a Delta table (it has no _delta_log)",
            got=place,
            remedy="name a Delta table's directory, or load plain files with the component ingest",
        )


def _check_reached(place: str, version: int) -> None:
    from deltalake import DeltaTable

    newest = DeltaTable(place).version()
    if version > newest:
        raise _no_version(place, version, newest)


def _no_version(place: str, version: int, newest: int) -> TableError:
    return TableError(
        f"the table must have the version that is asked for ({place})",
        got=version,
        remedy=f"its newest version is {newest}; old ones may have been cleaned up",
    )


def _no_table(place: str) -> TableError:
    return TableError("the table must be a readable Delta table", got=place, remedy="check the path")


def _open_error(place: str, version: int | None, error: Exception) -> TableError | TransientError:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    known = refused_by_reader(error, place) or unreachable(place, error)
    if known:
        return known
    if version is not None:
        with contextlib.suppress(DeltaError, OSError, ValueError):
            return _no_version(place, version, DeltaTable(place).version())
    if isinstance(error, TableNotFoundError):
        return _no_table(place)
    return TableError(
        f"the table's log must be readable ({one_line(error)})",
        got=place,
        remedy="restore its _delta_log, or read a version before the damage",
    )
