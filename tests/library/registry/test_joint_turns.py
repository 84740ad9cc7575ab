"""Whose turn it is to set the aliases of a joint move: by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from benchmarks.joint_promotions import promotions_to
from tests.library.registry.clock import Clock

from modelmill.registry import champion, joint_ledger, joint_moves, ledger
from modelmill.registry.champion import Registry, alias_version
from modelmill.registry.joint_ledger import JointMove
from modelmill.registry.ledger import Entry, Head, LedgerRow
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

NAMES = ("a", "b", "c", "d")
TURN = 2.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (joint_moves, champion):
        made.drive(module, monkeypatch)
    monkeypatch.setattr(champion, "TURN_SECONDS", TURN)
    return made


@pytest.fixture
def registry(settings: Settings) -> Registry:
    """Four models with three versions each, the first of which is champion, by the ledger too."""
    client = tracking_client(settings.tracking_uri)
    for name in NAMES:
        client.create_registered_model(name)
        for _ in range(3):
            client.create_model_version(name, source="file:///nowhere")
        client.set_registered_model_alias(name, "champion", "1")
    return Registry(client, settings, say=lambda _: None)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The models that were settled, call by call."""
    groups: list[list[str]] = []
    real = joint_ledger.settle_together

    def settle(settings: Settings, move: JointMove, models: list[str]) -> bool:
        groups.append(list(models))
        return real(settings, move, models)

    monkeypatch.setattr(joint_ledger, "settle_together", settle)
    return groups


def opened(registry: Registry, to: int, key: str) -> JointMove:
    """A move whose process has died before it set an alias."""
    made = joint_ledger.append_together(registry.settings, NAMES, promotions_to(to, key), step_key=key)
    assert made is not None
    return made


def moved(registry: Registry, to: int, key: str) -> JointMove:
    return joint_moves.move_together(registry, NAMES, promotions_to(to, key), step_key=key)


def champions(registry: Registry) -> list[int | None]:
    return [alias_version(registry, name) for name in NAMES]


def slowly(monkeypatch: pytest.MonkeyPatch, clock: Clock, seconds: float) -> list[str]:
    """Let MLflow take its time for each alias; the models whose alias was set."""
    real, done = champion.set_alias, []

    def set_alias(registry: Registry, row: LedgerRow) -> None:
        clock.now += seconds
        real(registry, row)
        done.append(row.model)

    monkeypatch.setattr(champion, "set_alias", set_alias)
    return done


@pytest.mark.parametrize("ahead", ["nobody's clock", "the other machine's clock"])
def test_a_move_of_others_is_finished_after_their_turn(registry: Registry, clock: Clock, ahead: str) -> None:
    made = opened(registry, 2, "theirs")
    clock.wall = made.time - timedelta(seconds=60 if ahead == "the other machine's clock" else 0)
    assert joint_moves.finish_open_move(registry, step_key="mine") == made
    assert set(clock.pauses) == {0.05}
    assert TURN < sum(clock.pauses) <= TURN + 0.1
    assert champions(registry) == [2, 2, 2, 2]
    assert joint_ledger.open_move(registry.settings) is None
    assert joint_moves.finish_open_move(registry) is None


def test_a_move_that_is_old_by_its_time_is_finished_at_once(registry: Registry, clock: Clock) -> None:
    made = opened(registry, 2, "theirs")
    clock.wall = made.time + timedelta(seconds=TURN + 0.01)
    assert joint_moves.finish_open_move(registry) == made
    assert clock.pauses == []


def test_a_move_that_is_as_old_as_a_turn_is_still_theirs(registry: Registry, clock: Clock) -> None:
    made = opened(registry, 2, "theirs")
    clock.wall = made.time + timedelta(seconds=TURN)

    def later() -> None:
        clock.wall += timedelta(seconds=1)

    clock.meanwhile = later
    joint_moves.finish_open_move(registry)
    assert clock.pauses == [0.05]


def test_an_earlier_attempt_of_ones_own_is_not_waited_for(registry: Registry, clock: Clock) -> None:
    made = opened(registry, 2, "mine")
    clock.wall = made.time
    assert moved(registry, 3, "mine") == made
    assert clock.pauses == []
    assert champions(registry) == [2, 2, 2, 2]


def test_another_move_has_a_turn_of_its_own(registry: Registry, clock: Clock) -> None:
    first = opened(registry, 2, "first")
    clock.wall = first.time - timedelta(hours=1)
    second: list[JointMove] = []

    def meanwhile() -> None:
        if not second and clock.now > 1000 + TURN / 2:  # the first one's process wakes up, and moves again
            assert joint_ledger.settle_together(registry.settings, first, NAMES)
            second.append(opened(registry, 3, "second"))

    clock.meanwhile = meanwhile
    assert joint_moves.finish_open_move(registry) == second[0]
    assert 1.5 * TURN < sum(clock.pauses) < 1.5 * TURN + 0.2
    assert champions(registry) == [3, 3, 3, 3]


def test_past_half_a_turn_the_rest_is_left_to_an_heir(
    registry: Registry, clock: Clock, settled: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same process is its own heir: it begins anew, with a turn of its own."""
    done = slowly(monkeypatch, clock, TURN / 4)  # the second alias is set at half a turn, and not past it
    made = moved(registry, 2, "mine")
    assert made.number == 1
    assert done == ["a", "b", "c", "d"], "each once"
    assert settled == [["a", "b", "c"], ["d"]]
    assert champions(registry) == [2, 2, 2, 2]
    assert joint_ledger.open_move(registry.settings) is None


def test_an_heir_has_half_a_turn_too(
    registry: Registry, clock: Clock, settled: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.wall = opened(registry, 2, "theirs").time + timedelta(seconds=2 * TURN)
    done = slowly(monkeypatch, clock, TURN / 3)
    joint_moves.finish_open_move(registry)
    assert done == ["a", "b", "c", "d"]
    assert settled == [["a", "b"], ["c", "d"]]


def test_who_is_within_half_a_turn_goes_on(
    registry: Registry, clock: Clock, settled: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly(monkeypatch, clock, TURN / 8)  # the fourth alias is set at half a turn
    monkeypatch.setattr(joint_moves, "_SETTLED_AT_ONCE", 3)
    moved(registry, 2, "mine")
    assert settled == [["a", "b", "c"], ["d"]], "what has followed is settled in groups"


def test_an_old_process_that_wakes_up_leaves_the_newest_champions(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept inside its request to MLflow, which sets an alias to what was champion meanwhile."""
    moved(registry, 2, "before")
    real, woken = champion.set_alias, []

    def set_alias(registry: Registry, row: LedgerRow) -> None:
        if row.step_key.endswith("/slow") and not woken:
            woken.append(row.model)
            clock.now += 10 * TURN
            clock.wall += timedelta(seconds=10 * TURN)
            assert moved(registry, 1, "heir").number == 3
            assert champions(registry) == [1, 1, 1, 1]
        real(registry, row)

    monkeypatch.setattr(champion, "set_alias", set_alias)
    assert moved(registry, 3, "slow").number == 2
    assert woken == ["a"]
    assert champions(registry) == [1, 1, 1, 1]
    heads = ledger.heads(registry.settings, NAMES)
    assert [(head.champion, head.settled) for head in heads.values()] == [(1, True)] * 4


def test_a_move_whose_models_were_all_settled_one_by_one_is_closed(registry: Registry, clock: Clock) -> None:
    made = opened(registry, 2, "theirs")
    clock.wall = made.time + timedelta(seconds=2 * TURN)
    for name in NAMES:
        champion.settled_head(registry, name)
    assert champions(registry) == [2, 2, 2, 2]
    assert joint_ledger.open_move(registry.settings) == made
    assert joint_moves.finish_open_move(registry) == made
    assert joint_ledger.open_move(registry.settings) is None


def test_a_move_that_refuses_all_sets_no_alias(
    registry: Registry, clock: Clock, settled: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries(heads: Mapping[str, Head], number: int) -> list[Entry]:
        quiet: dict[str, Any] = {"action": "refuse", "to_version": 1}
        return [row.model_copy(update=quiet) for row in promotions_to(1, "no")(heads, number)]

    done = slowly(monkeypatch, clock, 0)
    made = joint_moves.move_together(registry, NAMES, entries, step_key="no")
    assert (made.number, made.moving, done, settled) == (1, {}, [], [])
    assert moved(registry, 2, "yes").number == 2


def test_only_models_whose_alias_was_moved_by_hand_are_looked_at_one_by_one(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved(registry, 2, "first")
    registry.client.set_registered_model_alias("c", "champion", "1")
    looked: list[str] = []
    real = champion.reconciled_head

    def look(registry: Registry, name: str, **more: Any) -> Head:
        looked.append(name)
        return real(registry, name, **more)

    monkeypatch.setattr(champion, "reconciled_head", look)
    moved(registry, 3, "second")
    assert looked == ["c"]
    actions = {name: [row.action for row in ledger.entries(registry.settings, model=name)] for name in NAMES}
    usual = ["hand_move", "promote", "promote"]
    assert actions == {**dict.fromkeys(NAMES, usual), "c": ["hand_move", "promote", "hand_move", "promote"]}
    assert champions(registry) == [3, 3, 3, 3]
