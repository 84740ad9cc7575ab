"""Rows of many models that get into the ledger together: one commit, so all of them or none.

A joint move has a number, 1, 2, 3, …, the application transaction ``joint``. Its rows are those of a
promotion, a refusal or a rollback; their step key begins with the number, and the log says so of their file,
so that they are found without reading any other one. At most one joint move is open: that is, in the ledger
while MLflow's aliases may not all have followed (``joint_settled`` is smaller than ``joint``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from modelmill.registry.ledger_table import (
    PROPERTIES,
    Entry,
    Head,
    LedgerRow,
    as_table,
    champion_counter,
    damaged,
    files_of,
    following,
    heads_of,
    ledger_schema,
    open_ledger,
    read_rows,
    settled_counter,
)
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.files import logged_files
from modelmill.tables.opening import transaction_version

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from modelmill.settings import Settings

_JOINT, _JOINT_SETTLED = "joint", "joint_settled"


@dataclass(frozen=True)
class JointMove:
    """Rows of many models that are in the ledger since one moment."""

    number: int
    rows: tuple[LedgerRow, ...]
    """By model; those of refusals move nothing."""

    @cached_property
    def moving(self) -> dict[str, LedgerRow]:
        """The rows that move a champion, by model."""
        return {row.model: row for row in self.rows if row.action != "refuse"}

    @property
    def step_key(self) -> str:
        """That of each row."""
        return self.rows[0].step_key

    @property
    def time(self) -> datetime:
        """When it happened: the time of its latest row."""
        return max(row.time for row in self.rows)


@dataclass(frozen=True)
class Behind:
    """The newest joint move at a version of the ledger, and which aliases may not have followed it."""

    number: int
    """0 if there has been none."""
    waiting: Mapping[str, LedgerRow]
    """Rows that MLflow's alias is not known to have followed, by model; empty if all are settled."""

    @property
    def champions(self) -> dict[str, int]:
        """The champions by those rows, by model."""
        return {name: row.to_version for name, row in self.waiting.items() if row.to_version is not None}


def key_of(number: int, step_key: str) -> str:
    """Return the step key of a joint move's rows.

    :param number: of the move.
    :param step_key: of the step that decides it.
    :return: the key.
    """
    return f"{_JOINT}/{number}/{step_key}"


def append_together(
    settings: Settings,
    models: Sequence[str],
    decide: Callable[[Mapping[str, Head], int], Sequence[Entry]],
    *,
    step_key: str,
) -> JointMove | None:
    """Append a row of each of many models in one commit, unless an earlier attempt has.

    :param settings: where the ledger is.
    :param models: the models.
    :param decide: gets the heads that the rows will follow, and the number of the move; returns the rows,
        with the step key of :func:`key_of`, or raises. Called again whenever another row was faster.
    :param step_key: what decides it.
    :return: the move; None if an earlier attempt has made it, or if a move of one of the models, or a joint
        one, is not settled.
    :raises TransientError: if other writers win again and again.
    :raises TableError: if the ledger cannot be read or written, or was damaged.
    """
    written: list[JointMove] = []

    def propose(table: DeltaTable | None) -> Proposal | None:
        written.clear()
        if table is not None and transaction_version(table, step_key) is not None:
            return None
        newest, settled = _counters(table)
        heads = heads_of(table, models)
        if newest != settled or not all(head.settled for head in heads.values()):
            return None
        number = newest + 1
        rows = [following(entry, heads[entry.model].last) for entry in decide(heads, number)]
        move = JointMove(number, tuple(sorted(rows, key=lambda row: row.model)))
        written.append(move)
        counters = {champion_counter(row.model): row.number for row in rows}
        # Nobody has to follow a refusal.
        quiet = [row for row in rows if row.model not in move.moving]
        counters |= {settled_counter(row.model): row.number for row in quiet}
        counters |= {_JOINT: number} if move.moving else {_JOINT: number, _JOINT_SETTLED: number}
        bounds = ("model", "number", "step_key")
        return Proposal(as_table(move.rows), {step_key: number, **counters}, bounds=bounds)

    if append_if(settings.ledger, propose, schema=ledger_schema(), properties=PROPERTIES, own=True):
        return written[0]
    return None


def settle_together(settings: Settings, move: JointMove, models: Sequence[str]) -> bool:
    """Write down that MLflow's aliases of some models of a joint move have followed it.

    :param settings: where the ledger is.
    :param move: the move.
    :param models: some of its models.
    :return: whether all aliases have followed now.
    """
    done = False

    def propose(table: DeltaTable | None) -> Proposal | None:
        nonlocal done
        waiting = _waiting(table, move)
        followed = {name: row for name, row in waiting.items() if name in models}
        done = len(followed) == len(waiting)
        counters = {settled_counter(name): row.number for name, row in followed.items()}
        newest, settled = _counters(table)
        if done and newest == move.number and settled < newest:
            counters[_JOINT_SETTLED] = newest
        return Proposal(None, counters) if counters else None

    append_if(settings.ledger, propose, schema=ledger_schema(), own=True)
    return done


def move_of_step(settings: Settings, step_key: str) -> JointMove | None:
    """Return the joint move that a step has made; None if it has made none."""
    table = open_ledger(settings)
    number = None if table is None else transaction_version(table, step_key)
    return None if table is None or number is None else _move(table, number)


def joint_move(settings: Settings, number: int) -> JointMove | None:
    """Return a joint move by its number; None if there is none."""
    table = open_ledger(settings)
    return None if table is None or not 0 < number <= _counters(table)[0] else _move(table, number)


def open_move(settings: Settings) -> JointMove | None:
    """Return the joint move whose aliases may not all have followed; None if there is none."""
    table = open_ledger(settings)
    newest, settled = _counters(table)
    return None if table is None or newest == settled else _move(table, newest)


def behind(settings: Settings) -> Behind:
    """Return how far MLflow's aliases may be behind the newest joint move.

    :param settings: where the ledger is.
    :return: the newest move's number, and what waits.
    :raises TableError: if the ledger cannot be read, or was damaged.
    :raises TransientError: if its store does not answer.
    """
    table = open_ledger(settings)
    newest, settled = _counters(table)
    if table is None or newest == settled:
        return Behind(newest, {})
    return Behind(newest, _waiting(table, _move(table, newest)))


def _counters(table: DeltaTable | None) -> tuple[int, int]:
    """Return the numbers of the newest joint move, and of the newest that is settled."""
    if table is None:
        return 0, 0
    newest = transaction_version(table, _JOINT) or 0
    return newest, transaction_version(table, _JOINT_SETTLED) or 0


def _waiting(table: DeltaTable | None, move: JointMove) -> dict[str, LedgerRow]:
    """Return the rows of a move that are not settled. One that another row has followed is."""
    if table is None:
        return {}
    return {
        name: row
        for name, row in move.moving.items()
        if (transaction_version(table, settled_counter(name)) or 0) < row.number
    }


def _move(table: DeltaTable, number: int) -> JointMove:
    key = key_of(number, "")
    actions = logged_files(table)
    names = ["path", "min.step_key"]
    known = set(names) <= set(actions.column_names)
    lowest = actions.select(names).to_pylist() if known else []
    wanted = {row["path"] for row in lowest if (row["min.step_key"] or "").startswith(key)}
    rows = read_rows(table, [file for file, _ in files_of(table) if file.path in wanted])
    if not rows:
        raise damaged(f"joint move {number}", "its rows are missing")
    return JointMove(number, tuple(sorted(rows, key=lambda row: row.model)))
