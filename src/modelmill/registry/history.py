"""The history of champions: which version was champion when, and which one before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from modelmill.errors import ConfigError
from modelmill.registry.ledger import LedgerRow, entries

if TYPE_CHECKING:
    from modelmill.settings import Settings

__all__ = ["champion_at", "entries", "history", "models", "previous_champion", "row_at"]


def models(settings: Settings) -> list[str]:
    """Return the models that the ledger has rows of, sorted."""
    return sorted({row.model for row in entries(settings)})


def history(name: str, settings: Settings) -> list[LedgerRow]:
    """Return everything that happened to a model, the oldest first.

    :param name: registered model.
    :param settings: where the ledger is.
    :return: its rows; empty if there are none.
    :raises TableError: if rows are missing or were changed.
    """
    return entries(settings, model=name)


def champion_at(name: str, moment: datetime, settings: Settings) -> LedgerRow | None:
    """Return the row that says who was champion at a time.

    A move by hand counts from when it was found: MLflow keeps no time of it.

    :param name: registered model.
    :param moment: with its zone; the row of that very moment counts.
    :param settings: where the ledger is.
    :return: the newest row up to then that moved the champion, to its ``to_version`` (None: to none); None if
        there had been no champion yet.
    :raises ConfigError: if the time has no zone.
    """
    if moment.tzinfo is None:
        raise ConfigError(
            "a time needs a zone", got=moment.isoformat(), remedy="write 2026-01-31T02:00+00:00"
        )
    return row_at(history(name, settings), moment)


def row_at(rows: Sequence[LedgerRow], moment: datetime) -> LedgerRow | None:
    """Return the newest row up to a time that moved the champion.

    :param rows: what happened to a model, the oldest first.
    :param moment: with its zone.
    :return: the row; None if there is none.
    """
    moves = [row for row in rows if row.action != "refuse" and row.time <= moment]
    return moves[-1] if moves else None


def previous_champion(rows: Sequence[LedgerRow]) -> int | None:
    """Return the version that a rollback goes back to.

    It is the one before the champion, like the page before in a browser: a version that was left by a
    rollback, or that the guard has moved away from, does not come back.

    :param rows: what happened to a model, the oldest first.
    :return: the version; None if there is none to go back to.
    """
    trail: list[int | None] = []
    for row in rows:
        if row.action == "refuse":
            continue
        if row.action in ("rollback", "revert") and row.to_version in trail:
            while trail[-1] != row.to_version:
                trail.pop()
        elif not trail or trail[-1] != row.to_version:
            trail.append(row.to_version)
    earlier = [version for version in trail[:-1] if version is not None and version != trail[-1]]
    return earlier[-1] if earlier else None
