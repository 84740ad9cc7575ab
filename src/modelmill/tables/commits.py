"""Committing staged Parquet files to a Delta table, exactly once.

Every commit carries application transactions (Delta's ``txn`` action). A process that dies between the commit
and its answer leaves a commit behind; its successor finds the transaction and adds nothing. Two
processes with the same transaction conflict, and the loser finds the winner's commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelmill.errors import TransientError
from modelmill.tables.files import (
    COMMIT_KEY,
    MANIFEST,
    TRANSACTIONS,
    commit_actions,
    file_digests,
    logged_files,
)
from modelmill.tables.opening import open_table, transaction_version
from modelmill.tables.staged_files import DataFile, settle_on_disk, stage_rows, sync_log
from modelmill.tables.storage import table_exists, table_location
from modelmill.tables.write_checks import check_not_kept, transient, write_check

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable, Schema

MAX_COMMIT_RETRIES = 200
"""delta-rs gives up after 15 by default, which 16 concurrent writers exhaust."""

_ATTEMPTS = 20


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
    if transaction_version(table, transaction) is None:
        return None
    for version in range(table.version(), -1, -1):
        actions = commit_actions(place, version)
        if actions is None:
            break  # cleaned up
        if any(action.get("txn", {}).get("appId") == transaction for action in actions):
            return version
    return table.version()


def is_committed(uri: str, folder: str) -> bool:
    """Return whether files of a folder may be part of a table: an interrupted writer does not know.

    :param uri: the table.
    :param folder: the folder, relative to the table's directory.
    :return: whether its newest version has files in it; also True if the log cannot be read.
    """
    place = table_location(uri)
    try:
        if not table_exists(place):
            return False
        paths = logged_files(open_table(place)).column("path").to_pylist()
    except Exception:  # keep what may be needed
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
    :param metadata: more metadata of the commit, JSON.
    :return: the version of that transaction.
    :raises TableError: if the table cannot be written.
    :raises TransientError: if another writer was always faster.
    """
    from deltalake import Schema

    place = table_location(uri)
    check_not_kept(place)  # before anything is staged there
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


@dataclass(frozen=True)
class _Change:
    """See :func:`commit_files`."""

    files: Sequence[DataFile]
    schema: Schema
    mode: Literal["append", "overwrite"]
    transaction: str
    parts: tuple[str, ...]
    metadata: Mapping[str, Any]
    properties: Mapping[str, str]
    digests: Mapping[str, str]


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
    :param metadata: more metadata of the commit, JSON.
    :param properties: properties of a new table, such as ``delta.enableChangeDataFeed``.
    :return: the version committed now, or by an earlier attempt.
    :raises TableError: if the table cannot be written, or is one of modelmill's own.
    :raises TransientError: if another writer was always faster, or settled some of the parts: plan again.
    """
    place = table_location(uri)
    check_not_kept(place)
    settle_on_disk(place, files)
    digests = file_digests(place, [file.path for file in files])
    change = _Change(
        files, schema, mode, transaction, tuple(parts), metadata or {}, properties or {}, digests
    )
    last: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            before = _commit_once(place, change)
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


def _commit_once(place: str, change: _Change) -> int | None:
    """Commit, or return the version that the transaction was committed as."""
    table = open_table(place) if table_exists(place) else None
    if table is not None:
        # Asked of the very snapshot that is written upon: delta-rs sees conflicts with later commits only.
        before = _version_of(table, place, change.transaction)
        if before is not None:
            return before
        write_check(table, place)
        _check_change(table, change, place)
    commit = commit_properties(
        table,
        change.digests,
        transactions=dict.fromkeys((change.transaction, *change.parts), 1),
        metadata={"transaction": change.transaction, **change.metadata},
    )
    add_files(
        table,
        place,
        change.files,
        schema=change.schema,
        mode=change.mode,
        commit=commit,
        properties=change.properties,
    )
    return None


def _check_change(table: DeltaTable, change: _Change, place: str) -> None:
    if change.mode == "append" and _columns(table.schema()) != _columns(change.schema):
        raise TransientError("the table's columns must not change while rows are added", got=place)
    settled = [name for name in change.parts if transaction_version(table, name) is not None]
    if settled:
        raise TransientError(
            "a file is loaded once; another writer has just loaded some of these",
            got=f"{len(settled)} of {len(change.parts)}",
            remedy="try again",
        )


def commit_properties(
    table: DeltaTable | None,
    digests: Mapping[str, str],
    *,
    transactions: Mapping[str, int],
    metadata: Mapping[str, Any] | None = None,
) -> CommitProperties:
    """Return what a commit says beside its files: readers see by it that the commit and the files are whole.

    :param table: the table that is written upon; None if the commit is its first one. That is not tried
        again: it would become another table's second one.
    :param digests: SHA-256 of the files that the commit adds.
    :param transactions: version of each application transaction, by application id.
    :param metadata: more metadata of the commit, JSON.
    :return: for delta-rs.
    """
    from deltalake import CommitProperties, Transaction

    about = {**(metadata or {}), MANIFEST: dict(digests), TRANSACTIONS: len(transactions)}
    return CommitProperties(
        app_transactions=[Transaction(name, version) for name, version in transactions.items()],
        max_commit_retries=0 if table is None else MAX_COMMIT_RETRIES,
        custom_metadata={COMMIT_KEY: about},
    )


def add_files(
    table: DeltaTable | None,
    place: str,
    files: Sequence[DataFile],
    *,
    schema: Schema,
    mode: Literal["append", "overwrite"],
    commit: CommitProperties,
    properties: Mapping[str, str],
) -> None:
    """Commit staged files.

    delta-rs's ``write_deltalake`` would stage and commit in one call. It is not used: it does not flush what
    it writes, and its commit cannot name the files' digests.

    :param table: the table, at the version that is written upon; None: it is made.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param files: the files.
    :param schema: their columns.
    :param mode: whether the rows that the table has stay.
    :param commit: transactions, metadata and retries.
    :param properties: properties of a new table.
    """
    from deltalake.transaction import create_table_with_add_actions

    actions = [file.add_action() for file in files]
    if table is not None:
        table.create_write_transaction(list(actions), mode, schema, commit_properties=commit)
        return
    create_table_with_add_actions(
        place, schema, actions, mode="error", configuration=dict(properties), commit_properties=commit
    )


def _columns(schema: Schema) -> list[tuple[str, str]]:
    return [(field.name, field.type.to_json()) for field in schema.fields]
