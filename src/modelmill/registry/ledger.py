"""The ledger: an append-only Delta table, and the arbiter of who is champion.

Each promotion, refusal, rollback and hand-made move is a row. The rows of a model are numbered 1, 2, 3, …,
and a row is appended by compare and append (:mod:`modelmill.tables.conditional_append`): its commit carries
the application transaction ``champion/MODEL`` with the row's number, so of two rows that follow the same one
only one gets in, between processes and between machines. Times of a model's rows always rise, whatever the
machines' clocks say.

A row that moves the champion is *settled* once the alias in MLflow says the same (application transaction
``settled/MODEL``); see :mod:`modelmill.registry.champion`. Each row is sealed with a digest of its content
and of the row before it, so that a changed or removed row is found.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.files import ActiveFile, path_within
from modelmill.tables.opening import open_table
from modelmill.tables.reading import read_batches
from modelmill.tables.storage import table_exists, table_location

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

    from modelmill.settings import Settings

Action = Literal["promote", "refuse", "rollback", "hand_move", "revert"]
"""``hand_move``: somebody moved the alias without the gate; ``revert``: the guard moved it back."""

_PROPERTIES = {"delta.appendOnly": "true"}


def current_user() -> str:
    """Return who asked for what this process does: ``MODELMILL_USER``, or the user that it runs as."""
    try:
        return os.environ.get("MODELMILL_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid {os.getuid()}"


class Entry(BaseModel):
    """What is to be written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def head(settings: Settings, model: str) -> Head:
    """Return the end of a model's rows. Only two rows are read, however long the ledger is.

    :param settings: where the ledger is.
    :param model: name of the model.
    :return: the head.
    :raises TableError: if the ledger cannot be read, or rows are missing or were changed.
    """
    return _head(open_table(settings.ledger) if table_exists(settings.ledger) else None, model)


def append(
    settings: Settings,
    model: str,
    decide: Callable[[Head], Entry | None],
    *,
    step_key: str,
    moves_alias: bool,
) -> LedgerRow | None:
    """Append a row that follows from the model's head, unless an earlier attempt has.

    :param settings: where the ledger is.
    :param model: name of the model.
    :param decide: gets the head that the row will follow; returns the row, None for none, or raises. Called
        again whenever another row of the model was faster.
    :param step_key: what decides it: the row's ``step_key``.
    :param moves_alias: whether MLflow's alias has to follow the row (see :func:`settle`).
    :return: the row, which may be that of an earlier attempt; None if ``decide`` wanted none.
    :raises TransientError: if other writers win again and again.
    :raises TableError: if the ledger cannot be read or written, or was damaged.
    """
    written: list[LedgerRow] = []

    def propose(table: DeltaTable | None) -> Proposal | None:
        written.clear()
        if table is not None and table.transaction_version(step_key) is not None:
            return None
        found = _head(table, model)
        entry = decide(found)
        if entry is None:
            return None
        row = _following(entry, found.last)
        written.append(row)
        counters = {_champion(model): row.number, **({} if moves_alias else {_settled(model): row.number})}
        return Proposal(_table([row]), {step_key: 1, **counters}, bounds=("model", "number"))

    if append_if(settings.ledger, propose, schema=_schema(), properties=_PROPERTIES):
        return written[0]
    return find(settings, model, step_key)


def settle(settings: Settings, row: LedgerRow) -> bool:
    """Write down that MLflow's alias has followed a row.

    :param settings: where the ledger is.
    :param row: the model's last row.
    :return: False if it is not the last row any more.
    """
    still = True

    def propose(table: DeltaTable | None) -> Proposal | None:
        nonlocal still
        found = _head(table, row.model)
        still = found.number == row.number
        return None if found.settled or not still else Proposal(None, {_settled(row.model): row.number})

    append_if(settings.ledger, propose, schema=_schema(), properties=_PROPERTIES)
    return still


def entries(settings: Settings, *, model: str | None = None) -> list[LedgerRow]:
    """Return the ledger's rows in the order in which they happened.

    :param settings: where the ledger is.
    :param model: only this model's; None for all.
    :return: the rows; empty if there is no ledger yet.
    :raises TableError: if the ledger cannot be read, or rows are missing or were changed.
    """
    if not table_exists(settings.ledger):
        return []
    table = open_table(settings.ledger)
    rows = _read(table, [file for file, bounds in _files(table) if model is None or _holds(bounds, model)])
    by_model: dict[str, list[LedgerRow]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        by_model.setdefault(row.model, []).append(row)
    kept = {name: found for name, found in by_model.items() if model in (None, name)}
    for name, found in kept.items():
        _check_chain(found, table.transaction_version(_champion(name)), name)
    return sorted((row for found in kept.values() for row in found), key=lambda row: (row.time, row.number))


def find(settings: Settings, model: str, step_key: str) -> LedgerRow | None:
    """Return the row that a step has written.

    :param settings: where the ledger is.
    :param model: name of the model.
    :param step_key: the row's ``step_key``.
    :return: the row; None if there is none.
    """
    if not table_exists(settings.ledger):
        return None
    if open_table(settings.ledger).transaction_version(step_key) is None:
        return None
    return next((row for row in entries(settings, model=model) if row.step_key == step_key), None)


def _champion(model: str) -> str:
    return f"champion/{model}"


def _settled(model: str) -> str:
    return f"settled/{model}"


def _head(table: DeltaTable | None, model: str) -> Head:
    number: int | None = None if table is None else table.transaction_version(_champion(model))
    if table is None or number is None:
        return Head(last=None, settled=True)
    wanted = range(max(number - 1, 1), number + 1)
    files = _files(table)
    later = [
        last
        for _, (low, high, _, last) in files
        if low == high == model and last is not None and last > number
    ]
    if later:  # the counter of the last commit is damaged
        raise _damaged(model, f"row {max(later)} after row {number}, the last one by the log")
    holding = [file for file, bounds in files if any(_holds(bounds, model, each) for each in wanted)]
    rows = {row.number: row for row in _read(table, holding) if row.model == model and row.number in wanted}
    if set(rows) != set(wanted):
        raise _damaged(model, f"row {max(set(wanted) - set(rows))} is missing")
    last = rows[number]
    if last.seal != _seal(last, rows[number - 1].seal if number > 1 else ""):
        raise _damaged(model, f"row {number} is not as it was written")
    settled: int = table.transaction_version(_settled(model)) or 0
    if settled > number:
        raise _damaged(model, f"row {settled} is settled, after the last one, row {number}")
    return Head(last=last, settled=settled >= number)


def _following(entry: Entry, last: LedgerRow | None) -> LedgerRow:
    time = datetime.now(UTC)
    if last is not None:
        time = max(time, last.time + timedelta(microseconds=1))
    content = {**entry.model_dump(), "number": last.number + 1 if last else 1, "time": time, "seal": ""}
    row = LedgerRow.model_validate(content)
    return row.model_copy(update={"seal": _seal(row, last.seal if last else "")})


def _seal(row: LedgerRow, before: str) -> str:
    content = row.model_dump(mode="json", exclude={"seal"})
    return hashlib.sha256(json.dumps([before, content], sort_keys=True).encode()).hexdigest()


def _check_chain(rows: Sequence[LedgerRow], counted: int | None, model: str) -> None:
    if [row.number for row in rows] != list(range(1, (counted or 0) + 1)):
        raise _damaged(model, f"{len(rows)} rows instead of {counted or 0}")
    before = ""
    for row in rows:
        if row.seal != _seal(row, before):
            raise _damaged(model, f"row {row.number} is not as it was written")
        before = row.seal


def _damaged(model: str, what: str) -> TableError:
    return TableError(
        f"the ledger must have all rows of {model}, as they were written",
        got=what,
        remedy="restore the ledger's table from a copy",
    )


_Bounds = tuple[str | None, str | None, int | None, int | None]
"""Smallest and largest model name and number in a file; None if the log does not say."""


def _files(table: DeltaTable) -> list[tuple[ActiveFile, _Bounds]]:
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True))
    names = ("min.model", "max.model", "min.number", "max.number")
    known = [actions.column(name).to_pylist() if name in actions.column_names else [] for name in names]
    found = []
    for index, row in enumerate(actions.select(["path", "size_bytes", "num_records"]).to_pylist()):
        path = path_within(row["path"], table_location(table.table_uri))
        file = ActiveFile(path, row["size_bytes"], row["num_records"], {})
        low, high, first, last = (column[index] if column else None for column in known)
        found.append((file, (low, high, first, last)))
    return found


def _holds(bounds: _Bounds, model: str, number: int | None = None) -> bool:
    low, high, first, last = bounds
    by_name = low is None or high is None or low <= model <= high
    return by_name and (number is None or first is None or last is None or first <= number <= last)


def _read(table: DeltaTable, files: Sequence[ActiveFile]) -> list[LedgerRow]:
    place = table_location(table.table_uri)
    columns = _schema().names
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


def _table(rows: Sequence[LedgerRow]) -> pa.Table:
    import pyarrow as pa

    content: list[dict[str, Any]] = [{**row.model_dump(), "reasons": list(row.reasons)} for row in rows]
    return pa.Table.from_pylist(content, schema=_schema())


def _schema() -> pa.Schema:
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
