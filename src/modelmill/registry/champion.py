"""Who is champion: the ledger decides, and MLflow's alias ``champion`` follows.

MLflow's aliases are last-writer-wins: two processes that check and then set can move one backwards. The
ledger can tell first from second (:mod:`modelmill.registry.ledger`), so every move goes through it:

1. *Reconcile.* The alias says what the ledger says, or somebody has moved it by hand: then that is written
   down first, as a row ``hand_move``.
2. *Append* a row that names the champion before and after. It gets in only if the champion is still the one
   that the mover saw, and no other row has come in between. This is the moment at which the champion
   changes.
3. *Follow.* The process whose row it is sets the alias.
4. *Settle.* It writes down that the alias has followed. Until then no other row of the model gets in, so that
   two processes never set the alias at the same time.

If a process dies

- before 2, nothing has happened. A version that it registered stays, and no alias points at it;
- between 2 and 3, the ledger has the move and the alias still points at the champion before, which readers
  go on to get. The next attempt of the same step finishes at once; anybody else (a promotion, a rollback,
  the guard) finishes the move after :data:`TURN_SECONDS`, within which only the row's own process may set
  the alias;
- between 3 and 4, likewise: setting the alias again changes nothing.

A process that sleeps longer than half of that time between 2 and 3 does not set the alias any more, unless it
slept inside the request to MLflow itself; and whoever set it looks at the ledger once more afterwards, and
sets it again if the champion has changed meanwhile. Where a machine's clock is ahead, an heir waits for
:data:`TURN_SECONDS` by its own; where one is behind by more than a few seconds, it comes sooner. Nothing else
depends on clocks. Readers resolve the alias,
which always points at a version that was champion, by the ledger's word or by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelmill.registry import ledger
from modelmill.registry.bundles import TAG_DIGEST
from modelmill.registry.ledger import Entry, Head, LedgerRow
from modelmill.registry.versions import CHAMPION, champion_of, patiently, version_numbered

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from modelmill.settings import Settings

TURN_SECONDS = 30.0
"""Time after a row within which only its own process, or another attempt of its step, sets the alias."""

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Registry:
    """MLflow and the ledger of one deployment."""

    client: MlflowClient
    settings: Settings
    say: Callable[[str], None] = print


def alias_version(registry: Registry, name: str) -> int | None:
    """Return the version that the alias ``champion`` points at.

    :param registry: where to look.
    :param name: registered model.
    :return: the version; None if there is none.
    """
    found = champion_of(registry.client, name)
    return None if found is None else int(found.version)


def settled_head(registry: Registry, name: str, *, step_key: str = "") -> Head:
    """Return the ledger's last row of a model once the alias has followed it; a move left half-done is
    finished.

    :param registry: where to look.
    :param name: registered model.
    :param step_key: the caller's own: a row of an earlier attempt of its is not waited for.
    :return: the head.
    """
    seen, since = 0, 0.0
    while True:
        head = ledger.head(registry.settings, name)
        if head.settled or head.last is None:
            return head
        if head.number != seen:
            seen, since = head.number, time.monotonic()
        # By the clock of the machine that wrote the row, which may be ahead, or else by our own.
        age = max((datetime.now(UTC) - head.last.time).total_seconds(), time.monotonic() - since)
        if head.last.step_key == step_key or age > TURN_SECONDS:
            follow(registry, head.last, deadline=time.monotonic() + TURN_SECONDS / 2)
        else:
            time.sleep(_POLL_SECONDS)


def reconciled_head(registry: Registry, name: str, *, step_key: str = "") -> Head:
    """Return a settled head that says what the alias says; a move made by hand is written down for that.

    :param registry: where to look.
    :param name: registered model.
    :param step_key: see :func:`settled_head`.
    :return: the head.
    """
    while True:
        head = settled_head(registry, name, step_key=step_key)
        found = champion_of(registry.client, name)
        version = None if found is None else int(found.version)
        if version == head.champion:
            return head
        _note_hand_move(registry, name, head, version, digest=found.tags.get(TAG_DIGEST, "") if found else "")


def _note_hand_move(registry: Registry, name: str, seen: Head, version: int | None, *, digest: str) -> None:
    known = "the ledger has" if seen.number else "the ledger knows no champion yet; it has"
    entry = Entry(
        action="hand_move",
        model=name,
        from_version=seen.champion,
        to_version=version,
        digest=digest,
        reasons=(f"found by modelmill: {known} {_shown(seen.champion)}, the alias {_shown(version)}",),
        step_key=f"hand_move/{name}/{seen.number + 1}",
        who="unknown",
    )

    def decide(head: Head) -> Entry | None:
        # Any other row may be what has moved the alias: look again.
        return entry if head.number == seen.number and head.settled else None

    row = ledger.append(registry.settings, name, decide, step_key=entry.step_key, moves_alias=False)
    if row is not None:
        registry.say(f"{name}: the alias {CHAMPION} was moved without the gate, to {_shown(version)}")


def _shown(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def move(registry: Registry, name: str, entry_for: Callable[[Head], Entry], *, step_key: str) -> LedgerRow:
    """Move the champion.

    :param registry: MLflow and the ledger.
    :param name: registered model.
    :param entry_for: gets the settled head; returns the row, or raises if it does not want to move from
        there.
    :param step_key: the row's; a second move with the same key finds the first one's row, and finishes it.
    :return: the row, the alias having followed.
    """
    began = 0.0

    def decide(head: Head) -> Entry | None:
        nonlocal began
        began = time.monotonic()
        # Where another row has come in since, its alias has to be looked at before ours gets in.
        return entry_for(head) if head.settled and head.number == seen.number else None

    while True:
        earlier = ledger.find(registry.settings, name, step_key)
        seen = reconciled_head(registry, name, step_key=step_key)
        if earlier is not None:
            return earlier
        row = ledger.append(registry.settings, name, decide, step_key=step_key, moves_alias=True)
        if row is not None:
            follow(registry, row, deadline=began + TURN_SECONDS / 2)
            settled_head(registry, name)
            return row


def note(registry: Registry, name: str, entry_for: Callable[[Head], Entry], *, step_key: str) -> LedgerRow:
    """Write down something that moves nothing, such as a refusal.

    :param registry: MLflow and the ledger.
    :param name: registered model.
    :param entry_for: gets the head; returns a row that leaves the champion as it is.
    :param step_key: the row's.
    :return: the row.
    """
    while True:
        reconciled_head(registry, name, step_key=step_key)
        row = ledger.append(
            registry.settings,
            name,
            lambda head: entry_for(head) if head.settled else None,
            step_key=step_key,
            moves_alias=False,
        )
        if row is not None:
            return row


def follow(registry: Registry, row: LedgerRow, *, deadline: float) -> None:
    """Make the alias say what a row says, and settle the row; past the deadline, leave that to an heir.

    :param registry: MLflow and the ledger.
    :param row: the row.
    :param deadline: on the monotonic clock.
    """
    last: LedgerRow | None = row
    while last is not None and time.monotonic() < deadline:
        set_alias(registry, last)
        if ledger.settle(registry.settings, last):
            return
        last = ledger.head(registry.settings, row.model).last  # others went on: the alias may be behind now


def set_alias(registry: Registry, row: LedgerRow) -> None:
    """Make the alias say what a row says; the row is not settled by that.

    :param registry: MLflow and the ledger.
    :param row: the row.
    """
    client, name = registry.client, row.model
    if row.to_version is None:
        patiently(lambda: client.delete_registered_model_alias(name, CHAMPION))
    elif version_numbered(client, name, row.to_version) is None:
        # Deleted meanwhile. The alias stays, and the next reconciliation finds the difference.
        registry.say(
            f"{name}: version {row.to_version} is champion by the ledger, but MLflow no longer has it"
        )
    else:
        patiently(lambda: client.set_registered_model_alias(name, CHAMPION, str(row.to_version)))
