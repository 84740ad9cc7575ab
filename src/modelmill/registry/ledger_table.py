"""The ledger's rows, and how its table keeps them: sealed, counted by application transactions.

Below :mod:`modelmill.registry.ledger`, which appends rows of one model, and
:mod:`modelmill.registry.joint_ledger`, which appends those of many models in one commit.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.options import Record
from modelmill.tables.files import ActiveFile, check_newest_commit, logged_files, path_within
from modelmill.tables.opening import open_table, transaction_version
from modelmill.tables.reading import read_batches
from modelmill.tables.storage import table_exists, table_location

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

    from modelmill.settings import Settings

Action = Literal["promote", "refuse", "rollback", "hand_move", "revert"]
"""``hand_move``: somebody moved the alias without the gate; ``revert``: the guard moved it back."""

PROPERTIES = {"delta.appendOnly": "true"}


def current_user() -> str:
    """Return who asked for what this process does: ``MODELMILL_USER``, or the user that it runs as."""
    try:
        return os.environ.get("MODELMILL_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid {os.getuid()}"


class Entry(Record):
    """What is to be written down."""

    action: Action
    model: str
    from_version: int | None
    """Champion before; None if there was none."""
    to_version: int | None
    """Champion after; None if there is none."""
    digest: str
    """Digest of the files that it is about: the challenger's, or the new champion's; empty if unknown."""
    reasons: tuple[str, ...] = ()
    """Why: checks that failed, who approved, what a rollback is for; empty for a plain promotion."""
    evidence: str = ""
    """URI of the gate's report; empty if there is none."""
    pipeline: str = ""
    """Empty for what was done by hand."""
    run_id: str = ""
    """MLflow run of the step, whose tags name the Airflow run; empty for what was done by hand."""
    step_key: str
    """What decided it. It writes one row, however often it is tried."""
    who: str = Field(default_factory=current_user)


class LedgerRow(Entry):
    """One row."""

    number: int
    """Among the rows of the model, from 1."""
    time: datetime
    """UTC; later than that of the row before."""
    seal: str
    """SHA-256 over the row's content and the seal of the row before it."""


@dataclass(frozen=True)
class Head:
    """Where a model's rows end."""

    last: LedgerRow | None
    """None if the ledger has no row of the model."""
    settled: bool
    """Whether MLflow's alias is known to have followed."""

    @property
    def champion(self) -> int | None:
        """Version in use, as the ledger has it."""
        return self.last.to_version if self.last else None

    @property
    def number(self) -> int:
        """Number of the last row; 0 if there is none."""
        return self.last.number if self.last else 0


def open_ledger(settings: Settings) -> DeltaTable | None:
    """Return the ledger's table at its newest version.

    :param settings: where the ledger is.
    :return: the table; None if there is none yet.
    :raises TableError: if it cannot be read.
    """
    return open_table(settings.ledger) if table_exists(settings.ledger) else None


def champion_counter(model: str) -> str:
    """Return the application transaction that counts the rows of a model."""
    return f"champion/{model}"


def settled_counter(model: str) -> str:
    """Return the application transaction with the last row that the alias is known to have followed."""
    return f"settled/{model}"


def head_of(table: DeltaTable | None, model: str) -> Head:
    """Return the end of a model's rows at a version of the ledger.

    :param table: the ledger; None if there is none yet.
    :param model: name of the model.
    :return: the head.
    :raises TableError: if rows are missing or were changed.
    """
    return heads_of(table, [model])[model]


def heads_of(table: DeltaTable | None, models: Sequence[str]) -> dict[str, Head]:
    """Return the ends of the rows of many models; each file is read once.

    :param table: the ledger; None if there is none yet.
    :param models: names of the models.
    :return: the heads by model.
    :raises TableError: if rows are missing or were changed.
    """
    if table is None:
        return {model: Head(last=None, settled=True) for model in models}
    numbers = {model: transaction_version(table, champion_counter(model)) or 0 for model in models}
    files = files_of(table)
    holding = [
        file
        for file, bounds in files
        if any(holds(bounds, model, each) for model, number in numbers.items() for each in _last_two(number))
    ]
    rows = {(row.model, row.number): row for row in read_rows(table, holding)} if holding else {}
    return {model: _head(table, model, number, files, rows) for model, number in numbers.items()}


def _last_two(number: int) -> range:
    return range(max(number - 1, 1), number + 1)


def _head(
    table: DeltaTable,
    model: str,
    number: int,
    files: Sequence[tuple[ActiveFile, _Bounds]],
    rows: Mapping[tuple[str, int], LedgerRow],
) -> Head:
    settled = _settled(table, model, number)
    if not number:
        return Head(last=None, settled=True)
    later = [
        last
        for _, (low, high, _, last) in files
        if low == high == model and last is not None and last > number
    ]
    if later:  # the counter of the last commit is damaged
        raise damaged(model, f"row {max(later)} after row {number}, the last one by the log")
    missing = [each for each in _last_two(number) if (model, each) not in rows]
    if missing:
        raise damaged(model, f"row {max(missing)} is missing")
    last = rows[model, number]
    if last.seal != _seal(last, rows[model, number - 1].seal if number > 1 else ""):
        raise damaged(model, f"row {number} is not as it was written")
    return Head(last=last, settled=settled >= number)


def _settled(table: DeltaTable, model: str, number: int) -> int:
    """Return the number of the last row that is settled; TableError if there is no such row."""
    settled = transaction_version(table, settled_counter(model)) or 0
    if settled > number:
        raise damaged(model, f"row {settled} is settled, after the last one, row {number}")
    return settled


def following(entry: Entry, last: LedgerRow | None) -> LedgerRow:
    """Return the row that follows a model's last one, sealed.

    :param entry: what it says.
    :param last: the last row; None if there is none.
    :return: the row.
    """
    time = datetime.now(UTC)
    if last is not None:
        time = max(time, last.time + timedelta(microseconds=1))
    content = {**entry.model_dump(), "number": last.number + 1 if last else 1, "time": time, "seal": ""}
    row = LedgerRow.model_validate(content)
    return row.model_copy(update={"seal": _seal(row, last.seal if last else "")})


def _seal(row: LedgerRow, before: str) -> str:
    content = row.model_dump(mode="json", exclude={"seal"})
    return hashlib.sha256(json.dumps([before, content], sort_keys=True).encode()).hexdigest()


def check_chain(rows: Sequence[LedgerRow], table: DeltaTable, model: str) -> None:
    """Check that all rows of a model are there, as they were written.

    :param rows: by their numbers, rising.
    :param table: the ledger.
    :param model: name of the model.
    :raises TableError: if not.
    """
    counted = transaction_version(table, champion_counter(model)) or 0
    if [row.number for row in rows] != list(range(1, counted + 1)):
        raise damaged(model, f"{len(rows)} rows instead of {counted}")
    _settled(table, model, counted)
    before = ""
    for row in rows:
        if row.seal != _seal(row, before):
            raise damaged(model, f"row {row.number} is not as it was written")
        before = row.seal


def damaged(model: str, what: str) -> TableError:
    """Return the error of a ledger that lacks rows of a model, or has other ones."""
    return TableError(
        f"the ledger must have all rows of {model}, as they were written",
        got=what,
        remedy="restore the ledger's table from a copy",
    )


_Bounds = tuple[str | None, str | None, int | None, int | None]
"""Smallest and largest model name and number in a file; None if the log does not say."""


def files_of(table: DeltaTable) -> list[tuple[ActiveFile, _Bounds]]:
    """Return the files of the ledger, with what the log says of their rows.

    :param table: the ledger.
    :return: its files, with bounds of the models' names and of the numbers.
    :raises TableError: if the log was damaged: a ledger is made with its first row, and none is removed.
    """
    check_newest_commit(table)
    actions = logged_files(table)
    names = ("min.model", "max.model", "min.number", "max.number")
    known = [actions.column(name).to_pylist() if name in actions.column_names else [] for name in names]
    found = []
    for index, row in enumerate(actions.select(["path", "size_bytes", "num_records"]).to_pylist()):
        path = path_within(row["path"], table_location(table.table_uri))
        file = ActiveFile(path, row["size_bytes"], row["num_records"], {})
        low, high, first, last = (column[index] if column else None for column in known)
        found.append((file, (low, high, first, last)))
    if not found:
        raise TableError(
            f"the ledger must have rows ({table_location(table.table_uri)})",
            got="none",
            remedy="restore the ledger's table from a copy",
        )
    return found


def holds(bounds: _Bounds, model: str, number: int | None = None) -> bool:
    """Return whether a file may have rows of a model.

    :param bounds: what the log says of the file.
    :param model: name of the model.
    :param number: only this row; None: any.
    :return: False only if it has none.
    """
    low, high, first, last = bounds
    by_name = low is None or high is None or low <= model <= high
    return by_name and (number is None or first is None or last is None or first <= number <= last)


def read_rows(table: DeltaTable, files: Sequence[ActiveFile]) -> list[LedgerRow]:
    """Read the rows of some files.

    :param table: the ledger.
    :param files: some of its files.
    :return: the rows, in no order.
    :raises TableError: if they cannot be read, or are no rows of a ledger.
    """
    place = table_location(table.table_uri)
    columns = ledger_schema().names
    if [field.name for field in table.schema().fields] != columns:
        raise TableError(
            f"the ledger must have the columns {', '.join(columns)}",
            got=place,
            remedy="it is another table, or a ledger of another version of modelmill: set MODELMILL_LEDGER",
        )
    ref = TableRef(uri=place, version=table.version())
    with read_batches(table, ref, files, columns=columns) as batches:
        rows = batches.read_all()
    try:
        return [LedgerRow.model_validate(row) for row in rows.to_pylist()]
    except ValueError as error:  # not UTF-8, null, no action that there is: flipped bits
        raise TableError(
            f"the ledger's rows must be as they were written ({' '.join(str(error).split())[:200]})",
            got=place,
            remedy="restore the ledger's table from a copy",
        ) from error


def as_table(rows: Sequence[LedgerRow]) -> pa.Table:
    """Return rows as the ledger keeps them."""
    import pyarrow as pa

    content: list[dict[str, Any]] = [{**row.model_dump(), "reasons": list(row.reasons)} for row in rows]
    return pa.Table.from_pylist(content, schema=ledger_schema())


def ledger_schema() -> pa.Schema:
    """Return the columns of the ledger."""
    import pyarrow as pa

    return pa.schema(
        [
            ("model", pa.string()),
            ("number", pa.int64()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("who", pa.string()),
            ("action", pa.string()),
            ("from_version", pa.int64()),
            ("to_version", pa.int64()),
            ("digest", pa.string()),
            ("reasons", pa.list_(pa.string())),
            ("evidence", pa.string()),
            ("pipeline", pa.string()),
            ("run_id", pa.string()),
            ("step_key", pa.string()),
            ("seal", pa.string()),
        ]
    )
