"""Appending rows to a Delta table that depend on what is in it: compare and append.

A writer reads the newest version, decides what to add, and commits it with application transactions (Delta's
``txn`` action). Of two commits upon the same version that share an application id, one fails: the protocol's
own optimistic concurrency, decided by whose commit file is put first. It holds between processes and between
machines, on a local disk as on an object store with conditional puts. Commits without a common id do not
stand in each other's way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.errors import TableError, TransientError
from modelmill.tables.commits import add_files, commit_errors, commit_properties, is_conflict
from modelmill.tables.files import file_digests
from modelmill.tables.opening import open_table
from modelmill.tables.staged_files import DataFile, settle_on_disk, stage_rows, sync_log
from modelmill.tables.storage import table_exists, table_location
from modelmill.tables.write_checks import check_not_kept, transient, write_check

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

_ATTEMPTS = 200
_LONGEST_PAUSE = 0.05
"""Seconds to wait at most before a commit that lost is tried again."""


@dataclass(frozen=True)
class Proposal:
    """What a writer adds to the version of the table that it has read."""

    rows: pa.Table | None
    """None: only the transactions."""
    transactions: Mapping[str, int]
    """Version of each application transaction that the commit settles, by application id."""
    bounds: tuple[str, ...] = ()
    """Columns whose smallest and largest values go into the log, so that readers find files by them."""


def append_if(
    uri: str,
    propose: Callable[[DeltaTable | None], Proposal | None],
    *,
    schema: pa.Schema,
    properties: Mapping[str, str] | None = None,
    own: bool = False,
) -> bool:
    """Append what ``propose`` returns for the newest version, unless a later commit conflicts with it.

    :param uri: the table; made if there is none.
    :param propose: gets the table at its newest version, or None if there is no table yet; returns what to
        add, or None for nothing. Called again whenever a commit with a common application id was faster.
    :param schema: columns of the table.
    :param properties: properties of a new table, such as ``delta.appendOnly``.
    :param own: whether it is the ledger or a queue of people's labels, which steps do not write to.
    :return: whether anything was added.
    :raises TableError: if the table cannot be read or written, or has other columns.
    :raises TransientError: if other writers were always faster, or the store does not answer.
    """
    place = table_location(uri)
    if not own:
        check_not_kept(place)
    last: Exception | None = None
    for attempt in range(_ATTEMPTS):
        table = open_table(place) if table_exists(place) else None
        if table is not None:
            _check_columns(table, schema, place)
        proposal = propose(table)
        if proposal is None:
            return False
        try:
            _commit(table, proposal, schema, properties or {}, place)
        except commit_errors() as error:
            if not is_conflict(error):
                raise transient(error, place) from error
            last = error
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.002 * 2**attempt)))  # noqa: S311 (no secret)
            continue
        sync_log(place)
        return True
    raise TransientError(f"another writer was faster {_ATTEMPTS} times ({last})", got=place)


def _commit(
    table: DeltaTable | None,
    proposal: Proposal,
    schema: pa.Schema,
    properties: Mapping[str, str],
    place: str,
) -> None:
    from deltalake import Schema

    files: list[DataFile] = []
    if proposal.rows is not None:
        files = [stage_rows(proposal.rows, place, bounds=proposal.bounds)]
        settle_on_disk(place, files)
    if table is not None:
        write_check(table, place)
    digests = file_digests(place, [file.path for file in files])
    commit = commit_properties(table, digests, transactions=proposal.transactions)
    columns = Schema.from_arrow(schema)
    add_files(table, place, files, schema=columns, mode="append", commit=commit, properties=properties)


def _check_columns(table: DeltaTable, schema: pa.Schema, place: str) -> None:
    found = [field.name for field in table.schema().fields]
    if found != schema.names:
        raise TableError(
            f"the table must have the columns {', '.join(schema.names)} ({place})",
            got=", ".join(found),
            remedy="it is another table, or one of another version of modelmill: name another place",
        )
