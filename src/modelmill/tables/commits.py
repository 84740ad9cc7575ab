"""Committing staged Parquet files to a Delta table, exactly once.

Every commit carries application transactions (Delta's ``txn`` action). A process that dies between the commit
and its answer leaves a commit that nobody knows of; its successor finds the transaction and adds nothing. Two
processes with the same transaction conflict, and the loser finds the winner's commit.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelmill.errors import TransientError
from modelmill.system.disk import flush
from modelmill.tables.files import COMMIT_KEY, commit_actions
from modelmill.tables.opening import open_table
from modelmill.tables.storage import is_local, table_exists, table_files, table_location
from modelmill.tables.write_checks import not_writable, transient, write_check

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable, Schema

MAX_COMMIT_RETRIES = 200
"""delta-rs gives up after 15 by default, which 16 concurrent writers exhaust."""

_ATTEMPTS = 20


@dataclass(frozen=True)
class DataFile:
    """One Parquet file in a table's directory that no commit knows yet."""

    path: str
    """Relative to the table's directory."""
    size: int
    """In bytes."""
    rows: int
    modified: int
    """Time of the last change, in milliseconds since 1970."""


def committed_version(uri: str, transaction: str) -> int | None:
    """Return the version that a transaction was committed as.

    :param uri: the table.
    :param transaction: application transaction id.
    :return: the version; the newest one if the log no longer says; None if it was never committed.
    :raises TableError: see :func:`~modelmill.tables.opening.open_table`.
    """
    if not table_exists(uri):
        return None
    return _version_of(open_table(uri), table_location(uri), transaction)


def _version_of(table: DeltaTable, place: str, transaction: str) -> int | None:
    if table.transaction_version(transaction) is None:
        return None
    for version in range(table.version(), -1, -1):
        actions = commit_actions(place, version)
        if actions is None:
            break  # cleaned up
        if any(action.get("txn", {}).get("appId") == transaction for action in actions):
            return version
    return table.version()


def is_committed(uri: str, folder: str) -> bool:
    """Return whether files of a folder may be part of a table: a writer that is interrupted does not know.

    :param uri: the table.
    :param folder: the folder, relative to the table's directory.
    :return: whether its newest version has files in it; True too if that cannot be told.
    """
    import pyarrow as pa

    place = table_location(uri)
    try:
        if not table_exists(place):
            return False
        paths = pa.table(open_table(place).get_add_actions()).column("path").to_pylist()
    except Exception:  # the log cannot be read: what may be needed stays
        return True
    return any(path.startswith(f"{folder}/") for path in paths)


def write_rows(
    uri: str,
    rows: pa.Table,
    *,
    mode: Literal["append", "overwrite"],
    transaction: str,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Write rows that are in memory to a table, in one transaction that happens once.

    :param uri: the table; made if there is none.
    :param rows: what to write.
    :param mode: whether the rows that the table has stay.
    :param transaction: application transaction id. If it is in the table already, nothing is written.
    :param metadata: what else the commit says of itself, JSON.
    :return: the version of that transaction.
    :raises TableError: if the table cannot be written.
    :raises TransientError: if another writer was always faster.
    """
    from deltalake import Schema

    place = table_location(uri)
    before = committed_version(place, transaction)
    if before is not None:
        return before
    return commit_files(
        place,
        [stage_rows(rows, place)],
        schema=Schema.from_arrow(rows.schema),
        mode=mode,
        transaction=transaction,
        metadata=metadata,
    )


def stage_rows(rows: pa.Table, place: str) -> DataFile:
    """Write a Parquet file into a table's directory; a commit makes it part of the table.

    :param rows: what to write.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :return: the file.
    :raises TableError: if the directory cannot be written.
    :raises TransientError: if its store does not take the file.
    """
    import pyarrow.parquet as pq

    name = f"part-{uuid.uuid4()}.parquet"
    try:
        if is_local(place):
            Path(place).mkdir(parents=True, exist_ok=True)
        files = table_files(place)
        pq.write_table(rows, name, filesystem=files)
        info = files.get_file_info(name)
    except OSError as error:
        if is_local(place):
            raise not_writable(place, error.strerror or error) from error
        raise transient(error, place) from error
    return DataFile(path=name, size=info.size, rows=rows.num_rows, modified=int(time.time() * 1000))


def commit_files(
    uri: str,
    files: Sequence[DataFile],
    *,
    schema: Schema,
    mode: Literal["append", "overwrite"],
    transaction: str,
    parts: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    properties: Mapping[str, str] | None = None,
) -> int:
    """Add files to a table, which is made if there is none, in one transaction that happens once.

    :param uri: the table.
    :param files: what to add; all below the table's directory.
    :param schema: schema of the files; in mode ``overwrite`` the table takes it.
    :param mode: whether the rows that the table has stay.
    :param transaction: application transaction id. If it is in the table already, nothing is added.
    :param parts: further transaction ids that this commit settles, such as one for each file loaded.
    :param metadata: what else the commit says of itself, JSON.
    :param properties: properties of a table that is made, such as ``delta.enableChangeDataFeed``.
    :return: the version committed now, or by an earlier attempt.
    :raises TableError: if the table cannot be written.
    :raises TransientError: if another writer was always faster, or settled some of the parts: plan again.
    """
    place = table_location(uri)
    settle_on_disk(place, files)
    last: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            before = _commit_once(
                place, files, schema, mode, transaction, parts, metadata or {}, properties or {}
            )
        except commit_errors() as error:
            last = error
            if not is_conflict(error):
                raise transient(error, place) from error
            continue
        version = before if before is not None else committed_version(place, transaction)
        if version is None:
            raise TransientError("a commit must be in the log after it was made", got=place)
        sync_log(place)
        return version
    raise TransientError(f"another writer was faster {_ATTEMPTS} times ({last})", got=place)


def commit_errors() -> tuple[type[Exception], ...]:
    """Return what delta-rs raises when a commit does not go through."""
    from deltalake.exceptions import DeltaError

    return DeltaError, OSError


def is_conflict(error: Exception) -> bool:
    """Return whether a commit failed because another writer was faster.

    :param error: what delta-rs raised.
    :return: True if it may go through upon a newer version.
    """
    from deltalake.exceptions import CommitFailedError

    return isinstance(error, CommitFailedError) or "already exists" in str(error)


def _commit_once(
    place: str,
    files: Sequence[DataFile],
    schema: Schema,
    mode: Literal["append", "overwrite"],
    transaction: str,
    parts: Sequence[str],
    metadata: Mapping[str, Any],
    properties: Mapping[str, str],
) -> int | None:
    """Commit, or return the version that the transaction was committed as."""
    from deltalake import CommitProperties, Transaction
    from deltalake.transaction import AddAction, create_table_with_add_actions

    new = not table_exists(place)
    commit = CommitProperties(
        app_transactions=[Transaction(name, 1) for name in (transaction, *parts)],
        # A beginning that is tried again would become another table's second commit.
        max_commit_retries=0 if new else MAX_COMMIT_RETRIES,
        custom_metadata={COMMIT_KEY: {"transaction": transaction, **metadata}},
    )
    actions = [
        AddAction(
            path=file.path,
            size=file.size,
            partition_values={},
            modification_time=file.modified,
            data_change=True,
            stats=f'{{"numRecords": {file.rows}}}',
        )
        for file in files
    ]
    if new:
        create_table_with_add_actions(
            place, schema, actions, mode="error", configuration=dict(properties), commit_properties=commit
        )
        return None
    table = open_table(place)
    # Asked of the very snapshot that is written upon: delta-rs sees conflicts with later commits only.
    before = _version_of(table, place, transaction)
    if before is not None:
        return before
    write_check(table, place)
    if mode == "append" and _columns(table.schema()) != _columns(schema):
        raise TransientError("the table's columns must not change while rows are added", got=place)
    settled = [name for name in parts if table.transaction_version(name) is not None]
    if settled:
        raise TransientError(
            "a file is loaded once; another writer has just loaded some of these",
            got=f"{len(settled)} of {len(parts)}",
            remedy="try again",
        )
    table.create_write_transaction(list(actions), mode, schema, commit_properties=commit)
    return None


def _columns(schema: Schema) -> list[tuple[str, str]]:
    return [(field.name, field.type.to_json()) for field in schema.fields]


def settle_on_disk(place: str, files: Sequence[DataFile]) -> None:
    """Flush staged files: neither Spark nor delta-rs does, and a commit must not outlive its data.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param files: the staged files.
    """
    if is_local(place):
        folders = {(Path(place) / file.path).parent for file in files}
        for path in [*(Path(place) / file.path for file in files), *folders, *_existing(place)]:
            _fsync(path, place)


def sync_log(place: str) -> None:
    """Flush the newest commit of a table on a local disk.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    """
    if is_local(place):
        log = Path(place) / "_delta_log"
        newest = max(log.glob("*.json"), default=None)
        for path in (newest, log):
            if path is not None:
                _fsync(path, place)


def _existing(place: str) -> list[Path]:
    return [path for path in (Path(place), Path(place).parent) if path.is_dir()]


def _fsync(path: Path, place: str) -> None:
    try:
        flush(path)
    except OSError as error:
        raise not_writable(place, error.strerror) from error
