"""Whose turn it is to move a champion: by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.library.registry.clock import Clock

from modelmill.registry import champion, ledger, versions
from modelmill.registry.champion import (
    Registry,
    alias_version,
    follow,
    move,
    note,
    reconciled_head,
    settled_head,
)
from modelmill.registry.ledger import Entry, Head, LedgerRow
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

NAME = "topics"
TURN = 2.0
POLL = 0.05


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.drive(champion, monkeypatch)
    monkeypatch.setattr(champion, "TURN_SECONDS", TURN)
    return made


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def registry(settings: Settings, lines: list[str]) -> Registry:
    """A model with three versions and no champion."""
    client = tracking_client(settings.tracking_uri)
    client.create_registered_model(NAME)
    for number in range(1, 4):
        client.create_model_version(
            NAME, source="file:///nowhere", tags={"modelmill.digest": f"digest {number}"}
        )
    return Registry(client, settings, say=lines.append)


def entry(to: int | None, key: str, action: str = "promote", before: int | None = None) -> Entry:
    values = {
        "action": action,
        "model": NAME,
        "from_version": before,
        "to_version": to,
        "digest": "",
        "step_key": key,
    }
    return Entry.model_validate(values)


def to(version: int | None, key: str) -> Callable[[Head], Entry]:
    return lambda head: entry(version, key, before=head.champion)


def opened(
    registry: Registry, version: int | None, key: str, append: Callable[..., LedgerRow | None] = ledger.append
) -> LedgerRow:
    """The row of a move whose process has died before it set the alias."""
    row = append(registry.settings, NAME, to(version, key), step_key=key, moves_alias=True)
    assert row is not None
    return row


def written(registry: Registry) -> list[tuple[str, int | None, str]]:
    return [(row.action, row.to_version, row.step_key) for row in ledger.entries(registry.settings)]


def slowly(monkeypatch: pytest.MonkeyPatch, clock: Clock, *seconds: float) -> list[int | None]:
    """Let MLflow take its time for the first aliases that are set; the versions that were."""
    real = champion.set_alias
    done: list[int | None] = []
    left = list(seconds)

    def set_alias(registry: Registry, row: LedgerRow) -> None:
        real(registry, row)
        done.append(row.to_version)
        clock.now += left.pop(0) if left else 0.0

    monkeypatch.setattr(champion, "set_alias", set_alias)
    return done


def interrupted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, arrived: Callable[[LedgerRow], None]
) -> list[LedgerRow]:
    """Let a row of another process come in once, after this one has looked at the alias; the row."""
    real = champion.reconciled_head
    other: list[LedgerRow] = []

    def look(registry: Registry, name: str, **how: Any) -> Head:
        head = real(registry, name, **how)
        if not other:
            other.append(opened(registry, 2, "theirs"))
            arrived(other[0])
        return head

    monkeypatch.setattr(champion, "reconciled_head", look)
    return other


def test_without_a_ledger_there_is_nothing_to_wait_for(registry: Registry, clock: Clock) -> None:
    assert settled_head(registry, NAME) == reconciled_head(registry, NAME) == Head(last=None, settled=True)
    assert alias_version(registry, NAME) is None
    assert alias_version(registry, "nobody's") is None
    registry.client.set_registered_model_alias(NAME, "champion", "2")
    assert alias_version(registry, NAME) == 2


@pytest.mark.parametrize("ahead", [0, 60])
def test_a_move_of_others_is_finished_after_their_turn(
    registry: Registry, clock: Clock, ahead: float
) -> None:
    """By this machine's clock, where that of the other one is ahead."""
    row = opened(registry, 2, "theirs")
    clock.wall = row.time - timedelta(seconds=ahead)
    assert settled_head(registry, NAME, step_key="mine") == Head(last=row, settled=True)
    assert set(clock.pauses) == {POLL}
    assert TURN < sum(clock.pauses) <= TURN + 2 * POLL
    assert alias_version(registry, NAME) == 2


def test_a_move_that_is_old_by_its_time_is_finished_at_once(registry: Registry, clock: Clock) -> None:
    row = opened(registry, 2, "theirs")
    clock.wall = row.time + timedelta(seconds=TURN + 0.01)
    assert settled_head(registry, NAME).settled
    assert clock.pauses == []
    assert alias_version(registry, NAME) == 2


def test_a_move_that_is_as_old_as_a_turn_is_still_theirs(registry: Registry, clock: Clock) -> None:
    clock.wall = opened(registry, 2, "theirs").time + timedelta(seconds=TURN)

    def later() -> None:
        clock.wall += timedelta(seconds=0.01)

    clock.meanwhile = later
    assert settled_head(registry, NAME).settled
    assert clock.pauses == [POLL]


def test_an_earlier_attempt_of_ones_own_is_not_waited_for(registry: Registry, clock: Clock) -> None:
    row = opened(registry, 2, "mine")
    clock.wall = row.time
    assert reconciled_head(registry, NAME, step_key="mine") == Head(last=row, settled=True)
    assert clock.pauses == []
    assert alias_version(registry, NAME) == 2


def test_another_row_has_a_turn_of_its_own(registry: Registry, clock: Clock) -> None:
    first = opened(registry, 2, "first")
    clock.wall = first.time - timedelta(hours=1)
    second: list[LedgerRow] = []

    def meanwhile() -> None:
        if not second and clock.now > 1000 + TURN / 2:  # the first one's process wakes up, and moves again
            assert ledger.settle(registry.settings, first)
            second.append(opened(registry, 3, "second"))

    clock.meanwhile = meanwhile
    assert settled_head(registry, NAME).last == second[0]
    assert 1.5 * TURN < sum(clock.pauses) < 1.5 * TURN + 4 * POLL
    assert alias_version(registry, NAME) == 3


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_an_heir_has_half_a_turn(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """What comes in while it sets the alias is set by it within that time, and waited for afterwards."""
    first = opened(registry, 1, "first")
    clock.wall = first.time + timedelta(seconds=2 * TURN)
    done = slowly(monkeypatch, clock, share * TURN)
    real = ledger.settle
    second: list[LedgerRow] = []

    def settle(settings: Settings, row: LedgerRow) -> bool:
        if not second:
            assert real(settings, first)
            second.append(opened(registry, 2, "second"))
            clock.wall = second[0].time
        return real(settings, row)

    monkeypatch.setattr(ledger, "settle", settle)
    assert settled_head(registry, NAME) == Head(last=second[0], settled=True)
    assert done == [1, 2]
    assert alias_version(registry, NAME) == 2
    if share < 0.5:
        assert clock.pauses == []
    else:
        assert sum(clock.pauses) > TURN


def test_past_the_deadline_the_alias_is_left_to_an_heir(registry: Registry, clock: Clock) -> None:
    row = opened(registry, 2, "mine")
    for deadline in (clock.now, clock.now - 1):
        follow(registry, row, deadline=deadline)
    assert alias_version(registry, NAME) is None
    assert not ledger.head(registry.settings, NAME).settled
    follow(registry, row, deadline=clock.now + 0.01)
    assert alias_version(registry, NAME) == 2
    assert ledger.head(registry.settings, NAME).settled


def test_whoever_set_an_alias_looks_whether_others_went_on(registry: Registry, clock: Clock) -> None:
    row = opened(registry, 2, "slow")
    ledger.settle(registry.settings, row)
    opened(registry, 3, "heir")
    follow(registry, row, deadline=clock.now + 1)
    assert alias_version(registry, NAME) == 3
    assert ledger.head(registry.settings, NAME).settled


@pytest.mark.parametrize(
    ("before", "by_hand", "said", "moved"),
    [
        (None, 2, "the ledger knows no champion yet; it has none, the alias version 2", "to version 2"),
        (1, 2, "the ledger has version 1, the alias version 2", "to version 2"),
        (1, None, "the ledger has version 1, the alias none", "to none"),
    ],
)
def test_a_move_by_hand_is_written_down(
    registry: Registry, lines: list[str], before: int | None, by_hand: int | None, said: str, moved: str
) -> None:
    number = 1
    if before:
        move(registry, NAME, to(before, "k"), step_key="k")
        number = 2
    if by_hand:
        registry.client.set_registered_model_alias(NAME, "champion", str(by_hand))
    else:
        registry.client.delete_registered_model_alias(NAME, "champion")
    head = reconciled_head(registry, NAME)
    assert head == ledger.head(registry.settings, NAME)
    assert head.settled
    assert head.last is not None
    assert head.last.model_dump(exclude={"time", "seal"}) == {
        "action": "hand_move",
        "model": NAME,
        "from_version": before,
        "to_version": by_hand,
        "digest": f"digest {by_hand}" if by_hand else "",
        "reasons": (f"found by modelmill: {said}",),
        "evidence": "",
        "pipeline": "",
        "run_id": "",
        "step_key": f"hand_move/{NAME}/{number}",
        "who": "unknown",
        "number": number,
    }
    assert lines == [f"{NAME}: the alias champion was moved without the gate, {moved}"]
    assert reconciled_head(registry, NAME) == head
    assert len(lines) == 1


def test_a_version_of_others_that_was_put_in_by_hand_has_no_digest(registry: Registry) -> None:
    registry.client.delete_model_version_tag(NAME, "2", "modelmill.digest")
    registry.client.set_registered_model_alias(NAME, "champion", "2")
    last = reconciled_head(registry, NAME).last
    assert last is not None
    assert last.digest == ""


def test_a_move_that_explains_the_alias_is_no_move_by_hand(
    registry: Registry, clock: Clock, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process moves it after this one has read the ledger, and before it reads the alias."""
    late: list[LedgerRow] = []

    def look(client: Any, name: str) -> Any:
        if not late:
            late.append(opened(registry, 2, "theirs"))
            champion.set_alias(registry, late[0])
            clock.wall = late[0].time
        return versions.champion_of(client, name)

    monkeypatch.setattr(champion, "champion_of", look)
    assert reconciled_head(registry, NAME) == Head(last=late[0], settled=True)
    assert (written(registry), lines) == ([("promote", 2, "theirs")], [])
    assert sum(clock.pauses) > TURN, "it was their turn"


def test_a_champion_is_moved(registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    done = slowly(monkeypatch, clock)
    row = move(registry, NAME, to(2, "k"), step_key="k")
    assert ledger.head(registry.settings, NAME) == Head(last=row, settled=True)
    assert (row.number, row.from_version, row.to_version, alias_version(registry, NAME)) == (1, None, 2, 2)
    move(registry, NAME, to(3, "l"), step_key="l")
    assert (done, alias_version(registry, NAME)) == ([2, 3], 3)
    none = move(registry, NAME, to(None, "m"), step_key="m")
    assert (none.from_version, none.to_version, alias_version(registry, NAME)) == (3, None, None)
    assert clock.pauses == []


def test_a_second_move_with_the_same_key_finishes_the_first(registry: Registry, clock: Clock) -> None:
    def never(head: Head) -> Entry:
        raise AssertionError(head)

    row = opened(registry, 2, "k")
    clock.wall = row.time
    assert move(registry, NAME, never, step_key="k") == row
    assert (alias_version(registry, NAME), clock.pauses) == (2, [])
    later = move(registry, NAME, to(3, "l"), step_key="l")
    assert move(registry, NAME, never, step_key="k") == row
    assert alias_version(registry, NAME) == later.to_version == 3


@pytest.mark.parametrize("share", [0.49, 0.5, 0.6])
def test_a_mover_that_slept_past_half_its_turn_leaves_the_alias_to_an_heir(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The heir is itself, like anybody else after the whole turn."""
    real = ledger.append

    def append(settings: Settings, model: str, decide: Any, **how: Any) -> LedgerRow | None:
        row = real(settings, model, decide, **how)
        assert row is not None
        clock.wall = row.time
        clock.now += share * TURN
        return row

    clock.now += 5 * TURN  # its turn begins with the row, not with the call
    monkeypatch.setattr(ledger, "append", append)
    row = move(registry, NAME, to(2, "k"), step_key="k")
    assert ledger.head(registry.settings, NAME) == Head(last=row, settled=True)
    assert alias_version(registry, NAME) == 2
    assert (sum(clock.pauses) > TURN) is (share >= 0.5)
    assert (clock.pauses == []) is (share < 0.5)


@pytest.mark.parametrize("settled", [True, False])
def test_a_row_that_came_in_first_is_looked_at_before_a_move(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    def arrived(row: LedgerRow) -> None:
        clock.wall = row.time
        if settled:
            follow(registry, row, deadline=clock.now + 1)

    other = interrupted(registry, monkeypatch, arrived)
    seen: list[Head] = []

    def decide(head: Head) -> Entry:
        seen.append(head)
        return entry(3, "mine", before=head.champion)

    row = move(registry, NAME, decide, step_key="mine")
    assert seen == [Head(last=other[0], settled=True)]
    assert (row.number, row.from_version, alias_version(registry, NAME)) == (2, 2, 3)
    assert (clock.pauses == []) is settled


def test_an_alias_that_was_moved_by_hand_after_another_row_is_seen_before_a_move(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arrived(row: LedgerRow) -> None:
        follow(registry, row, deadline=clock.now + 1)
        registry.client.set_registered_model_alias(NAME, "champion", "1")

    interrupted(registry, monkeypatch, arrived)
    move(registry, NAME, to(3, "mine"), step_key="mine")
    by_hand = ("hand_move", 1, f"hand_move/{NAME}/2")
    assert written(registry) == [("promote", 2, "theirs"), by_hand, ("promote", 3, "mine")]


def test_another_attempt_that_is_faster_keeps_its_turn(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has written the row of this step after this attempt looked for it, and sets the alias itself."""
    real = ledger.append
    faster: list[LedgerRow] = []

    def append(settings: Settings, model: str, decide: Any, **how: Any) -> LedgerRow | None:
        if not faster:
            faster.append(opened(registry, 2, "k", real))
            clock.wall = faster[0].time
        return real(settings, model, decide, **how)

    monkeypatch.setattr(ledger, "append", append)
    assert move(registry, NAME, to(3, "k"), step_key="k") == faster[0]
    assert sum(clock.pauses) > TURN
    assert alias_version(registry, NAME) == 2


def test_what_moves_nothing_is_noted(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(registry, NAME, to(2, "k"), step_key="k")
    done = slowly(monkeypatch, clock)
    seen: list[Head] = []

    def refuse(head: Head) -> Entry:
        seen.append(head)
        return entry(head.champion, "no", "refuse", head.champion)

    row = note(registry, NAME, refuse, step_key="no")
    assert (row.action, row.number, row.to_version) == ("refuse", 2, 2)
    assert [head.number for head in seen] == [1]
    assert ledger.head(registry.settings, NAME) == Head(last=row, settled=True)
    assert note(registry, NAME, refuse, step_key="no") == row
    assert done == [], "no alias was set"
    assert [head.number for head in seen] == [1], "nor was anything decided again"


def test_a_note_waits_for_the_alias_of_a_row_before_it(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes between a row and its alias, and an earlier attempt of one's own is not waited for."""

    def arrived(row: LedgerRow) -> None:
        clock.wall = row.time

    interrupted(registry, monkeypatch, arrived)
    row = note(registry, NAME, lambda head: entry(head.champion, "no", "refuse", 2), step_key="no")
    assert (row.number, row.to_version, alias_version(registry, NAME)) == (2, 2, 2)
    assert sum(clock.pauses) > TURN
    clock.pauses.clear()
    mine = opened(registry, 3, "mine")
    clock.wall = mine.time
    assert note(registry, NAME, to(3, "mine"), step_key="mine") == mine
    assert (clock.pauses, alias_version(registry, NAME)) == ([], 3)


def test_a_version_that_was_deleted_leaves_the_alias_and_is_said(
    registry: Registry, lines: list[str]
) -> None:
    move(registry, NAME, to(1, "k"), step_key="k")
    row = opened(registry, 2, "l")
    registry.client.delete_model_version(NAME, "2")
    champion.set_alias(registry, row)
    assert lines == [f"{NAME}: version 2 is champion by the ledger, but MLflow no longer has it"]
    assert alias_version(registry, NAME) == 1
    assert not ledger.head(registry.settings, NAME).settled
