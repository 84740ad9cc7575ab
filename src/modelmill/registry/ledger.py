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

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelmill.errors import ConfigError
from modelmill.registry.ledger_table import (
    PROPERTIES,
    Action,
    Entry,
    Head,
    LedgerRow,
    as_table,
    champion_counter,
    check_chain,
    current_user,
    files_of,
    following,
    head_of,
    heads_of,
    holds,
    ledger_schema,
    open_ledger,
    read_rows,
    settled_counter,
)
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.opening import transaction_version

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from modelmill.settings import Settings

__all__ = [
    "Action",
    "Entry",
    "Head",
    "LedgerRow",
    "append",
    "current_user",
    "entries",
    "find",
    "head",
    "heads",
    "settle",
]


def head(settings: Settings, model: str) -> Head:
    """Return the end of a model's rows. Only two rows are read, however long the ledger is.

    :param settings: where the ledger is.
    :param model: name of the model.
    :return: the head.
    :raises TableError: if the ledger cannot be read, or rows are missing or were changed.
    """
    return head_of(open_ledger(settings), model)


def heads(settings: Settings, models: Sequence[str]) -> dict[str, Head]:
    """Return the ends of the rows of many models: the ledger is opened once.

    :param settings: where the ledger is.
    :param models: names of the models.
    :return: the heads by model.
    :raises TableError: if the ledger cannot be read, or rows are missing or were changed.
    """
    return heads_of(open_ledger(settings), models)


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
    :raises ConfigError: if the step key has a row of another model: it writes one row in all.
    :raises TransientError: if other writers win again and again.
    :raises TableError: if the ledger cannot be read or written, or was damaged.
    """
    written: list[LedgerRow] = []
    is_taken = False

    def propose(table: DeltaTable | None) -> Proposal | None:
        nonlocal is_taken
        written.clear()
        is_taken = table is not None and transaction_version(table, step_key) is not None
        if is_taken:
            return None
        found = head_of(table, model)
        entry = decide(found)
        if entry is None:
            return None
        row = following(entry, found.last)
        written.append(row)
        counters = {
            champion_counter(model): row.number,
            **({} if moves_alias else {settled_counter(model): row.number}),
        }
        return Proposal(as_table([row]), {step_key: 1, **counters}, bounds=("model", "number"))

    if append_if(settings.ledger, propose, schema=ledger_schema(), properties=PROPERTIES, own=True):
        return written[0]
    earlier = find(settings, model, step_key)
    if is_taken and earlier is None:  # who asks again would get the same answer for ever
        raise ConfigError(
            "a step key writes a row of one model",
            got=f"{step_key} for {model}, and before for another one",
            remedy="give each model a step key of its own",
        )
    return earlier


def settle(settings: Settings, row: LedgerRow) -> bool:
    """Write down that MLflow's alias has followed a row.

    :param settings: where the ledger is.
    :param row: the model's last row.
    :return: False if it is not the last row any more.
    """
    still = True

    def propose(table: DeltaTable | None) -> Proposal | None:
        nonlocal still
        found = head_of(table, row.model)
        still = found.number == row.number
        return (
            None if found.settled or not still else Proposal(None, {settled_counter(row.model): row.number})
        )

    append_if(settings.ledger, propose, schema=ledger_schema(), own=True)
    return still


def entries(settings: Settings, *, model: str | None = None) -> list[LedgerRow]:
    """Return the ledger's rows in the order in which they happened.

    :param settings: where the ledger is.
    :param model: only this model's; None for all.
    :return: the rows; empty if there is no ledger yet.
    :raises TableError: if the ledger cannot be read, or rows are missing or were changed.
    """
    table = open_ledger(settings)
    if table is None:
        return []
    rows = read_rows(
        table, [file for file, bounds in files_of(table) if model is None or holds(bounds, model)]
    )
    by_model: dict[str, list[LedgerRow]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        by_model.setdefault(row.model, []).append(row)
    kept = {name: found for name, found in by_model.items() if model in (None, name)}
    for name in kept if model is None else (model,):
        check_chain(kept.get(name, []), table, name)
    return sorted((row for found in kept.values() for row in found), key=lambda row: (row.time, row.number))


def find(settings: Settings, model: str, step_key: str) -> LedgerRow | None:
    """Return the row that a step has written.

    :param settings: where the ledger is.
    :param model: name of the model.
    :param step_key: the row's ``step_key``.
    :return: the row; None if there is none.
    """
    table = open_ledger(settings)
    if table is None or transaction_version(table, step_key) is None:
        return None
    return next((row for row in entries(settings, model=model) if row.step_key == step_key), None)
