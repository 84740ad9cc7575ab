"""Champions of many models that move together, and whoever reads them sees all moved or none.

The moment is one commit of the ledger (:mod:`modelmill.registry.joint_ledger`). MLflow's aliases follow one
by one, so for a while they are a mixture: nobody who needs a consistent set may read them alone.
:class:`ChampionReader` reads them beside the ledger: where an alias may be behind, the ledger's word counts.

If a process dies before the commit, nothing has happened. After it, readers have the new champions at once,
and the aliases follow when the same step is tried again, or when anybody else moves champions together, or
by the guard: after :data:`~modelmill.registry.champion.TURN_SECONDS`, as for a single move.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from modelmill.errors import TransientError
from modelmill.registry import champion, joint_ledger, ledger
from modelmill.registry.champion import Registry
from modelmill.registry.joint_ledger import Behind, JointMove
from modelmill.registry.ledger import Entry, Head
from modelmill.registry.versions import CHAMPION, champions_of
from modelmill.tables.newest_commit import Commit, newest_commit

if TYPE_CHECKING:
    from modelmill.settings import Settings

Aliases = Mapping[str, Mapping[str, int]]
"""Version by alias, by registered model."""

Found = TypeVar("Found")

_POLL_SECONDS = 0.05
_SETTLED_AT_ONCE = 50
_TRIES = 20


def move_together(
    registry: Registry,
    names: Sequence[str],
    entries_for: Callable[[Mapping[str, Head], int], Sequence[Entry]],
    *,
    step_key: str,
) -> JointMove:
    """Move the champions of many models at one moment.

    :param registry: MLflow and the ledger.
    :param names: registered models.
    :param entries_for: gets the settled heads by model and the number of the move; returns the rows, or
        raises if it does not want to move from there.
    :param step_key: of the step; a second move with the same key finds the first one, and finishes it.
    :return: the move, the aliases having followed.
    """
    while True:
        finish_open_move(registry, step_key=step_key)
        earlier = joint_ledger.move_of_step(registry.settings, step_key)
        if earlier is not None:
            return earlier
        _reconcile(registry, names)
        began = time.monotonic()
        move = joint_ledger.append_together(registry.settings, names, entries_for, step_key=step_key)
        if move is not None and not move.moving:
            return move
        if move is not None and _follow(registry, move, deadline=began + champion.TURN_SECONDS / 2):
            return move


def _reconcile(registry: Registry, names: Sequence[str]) -> None:
    """Make sure that the ledger says what the aliases say; few requests where it does already."""
    heads = ledger.heads(registry.settings, names)
    aliases = champions_of(registry.client, names)
    for name in names:
        if not heads[name].settled or heads[name].champion != aliases.get(name):
            champion.reconciled_head(registry, name)


def finish_open_move(registry: Registry, *, step_key: str = "") -> JointMove | None:
    """Finish the joint move that is open, if there is one; wait while its own process may be at it.

    :param registry: MLflow and the ledger.
    :param step_key: of the caller's step: its own earlier attempt is not waited for.
    :return: the move that was open; None if there was none.
    """
    seen: JointMove | None = None
    since = time.monotonic()
    while (move := joint_ledger.open_move(registry.settings)) is not None:
        if seen is None or seen.number != move.number:
            seen, since = move, time.monotonic()
        age = max((datetime.now(UTC) - move.time).total_seconds(), time.monotonic() - since)
        own = bool(step_key) and move.step_key == joint_ledger.key_of(move.number, step_key)
        if own or age > champion.TURN_SECONDS:
            _follow(registry, move, deadline=time.monotonic() + champion.TURN_SECONDS / 2)
        else:
            time.sleep(_POLL_SECONDS)
    return seen


def _follow(registry: Registry, move: JointMove, *, deadline: float) -> bool:
    """Make the aliases say what a move says, and settle it; past the deadline, leave the rest to an heir.

    Returns whether all have followed.
    """
    waiting = list(joint_ledger.behind(registry.settings).waiting.values())
    done = False
    for start in range(0, max(len(waiting), 1), _SETTLED_AT_ONCE):
        chunk = waiting[start : start + _SETTLED_AT_ONCE]
        followed = []
        for row in chunk:
            if time.monotonic() > deadline:
                break
            champion.set_alias(registry, row)
            followed.append(row)
        done = joint_ledger.settle_together(registry.settings, move, [row.model for row in followed])
        if time.monotonic() > deadline:
            # A request may have taken so long that an heir has come, and others after it.
            for row in followed:
                last = ledger.head(registry.settings, row.model).last
                if last is not None and last.number != row.number:
                    champion.follow(registry, last, deadline=time.monotonic() + champion.TURN_SECONDS / 2)
            return done
    return done


def while_standing(settings: Settings, ask: Callable[[Behind], Found]) -> Found:
    """Ask MLflow for champions, again if some have moved together meanwhile.

    :param settings: where the ledger is.
    :param ask: gets the rows of the ledger that aliases may be behind: they count, and not the aliases.
    :return: what it returns.
    :raises TransientError: if champions move together again and again.
    """
    before = joint_ledger.behind(settings)
    for _ in range(_TRIES):
        found = ask(before)
        after = joint_ledger.behind(settings)
        if after == before:
            return found
        before = after
    raise _never_still(before)


def _never_still(behind: Behind) -> TransientError:
    return TransientError(
        "champions must stand still for a moment to be read",
        got=f"joint move {behind.number}",
        remedy="look again later",
    )


@dataclass(frozen=True)
class Champions:
    """Aliases as they were at one moment of the ledger."""

    aliases: Aliases
    moved: tuple[Mapping[str, int], ...]
    """Of each joint move since the reader last looked, the champions' versions by model, the oldest first;
    at its first look only of the newest one."""


class ChampionReader:
    """Reads aliases so that a joint move is seen whole or not at all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._commit: Commit | None = None
        self._behind = Behind(0, {})
        self._seen: int | None = None

    def read(self, ask: Callable[[], Aliases]) -> Champions:
        """Return aliases, those that may be behind the ledger put right.

        :param ask: asks MLflow, in as many requests as it takes.
        :return: the aliases, and the joint moves since the last call.
        :raises TransientError: if champions move together again and again meanwhile, or the ledger's store
            does not answer.
        :raises TableError: if the ledger was damaged.
        """
        before = self._look()
        for _ in range(_TRIES):
            aliases = ask()
            after = self._look()
            if after == before:
                break
            before = after
        else:
            raise _never_still(before)
        found = {name: dict(versions) for name, versions in aliases.items()}
        for name, version in before.champions.items():
            if name in found:
                found[name][CHAMPION] = version
        return Champions(found, self._since(before.number))

    def _look(self) -> Behind:
        try:
            newest = newest_commit(self._settings.ledger, known=self._commit)
        except OSError as error:
            raise TransientError(
                f"the ledger must be readable ({error.strerror or error})",
                got=self._settings.ledger,
                remedy="see MODELMILL_LEDGER",
            ) from error
        if newest is None:
            self._behind = Behind(0, {})
        elif newest != self._commit:
            self._behind = joint_ledger.behind(self._settings)
        # The ledger may have grown since the commit was looked up: then it is read again at the next look.
        self._commit = newest
        return self._behind

    def _since(self, number: int) -> tuple[Mapping[str, int], ...]:
        first = max(number, 1) if self._seen is None else self._seen + 1
        self._seen = number
        moves = [joint_ledger.joint_move(self._settings, one) for one in range(first, number + 1)]
        return tuple(
            {name: row.to_version for name, row in move.moving.items() if row.to_version is not None}
            for move in moves
            if move is not None
        )
