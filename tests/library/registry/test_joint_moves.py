"""Champions move together: whoever dies in the middle, a reader sees all of them old or all of them new."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from benchmarks.joint_promotions import promotions_to

from modelmill.errors import GateError
from modelmill.registry import champion, joint_ledger, joint_moves, ledger
from modelmill.registry.champion import Registry, alias_version
from modelmill.registry.guard import inspect
from modelmill.registry.joint_ledger import JointMove
from modelmill.registry.ledger import Entry, Head
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    """Four models with two versions each, the first of which is champion."""
    client = tracking_client(settings.tracking_uri)
    for name in NAMES:
        client.create_registered_model(name)
        for _ in range(2):
            client.create_model_version(name, source="file:///nowhere")
        client.set_registered_model_alias(name, "champion", "1")
    return Registry(client, settings, say=lambda _: None)


def move(registry: Registry, to: int, key: str, *, at: int | None = None) -> JointMove:
    """Move all champions to a version; ``at``: only if they are at this one."""

    def entries(heads: Mapping[str, Head], number: int) -> list[Entry]:
        if at is not None and {head.champion for head in heads.values()} != {at}:
            raise GateError("somebody was faster")
        return promotions_to(to, key)(heads, number)

    return joint_moves.move_together(registry, NAMES, entries, step_key=key)


def aliases(registry: Registry) -> dict[str, dict[str, int]]:
    return {name: {"champion": alias_version(registry, name) or 0} for name in NAMES}


def seen(registry: Registry) -> set[int]:
    """What a reader sees that has just begun to look."""
    found = joint_moves.ChampionReader(registry.settings).read(lambda: aliases(registry))
    return {versions["champion"] for versions in found.aliases.values()}


def test_one_commit_has_all_rows_and_the_aliases_follow(registry: Registry) -> None:
    made = move(registry, 2, "first")
    assert made.number == 1
    assert seen(registry) == {2}
    assert {alias_version(registry, name) for name in NAMES} == {2}
    assert joint_ledger.open_move(registry.settings) is None
    assert joint_ledger.joint_move(registry.settings, 1) == made
    assert joint_ledger.joint_move(registry.settings, 2) is None
    assert move(registry, 2, "first") == made, "the same step moves once"
    for name in NAMES:
        rows = ledger.entries(registry.settings, model=name)
        assert [row.action for row in rows] == ["hand_move", "promote"]
        assert ledger.head(registry.settings, name).settled


class Died(BaseException):
    """Stands for a process that is killed: nothing catches it."""


@pytest.mark.parametrize(
    ("heir", "point", "survived", "version"),
    [
        ("same step", "append_together", 0, 1),
        ("same step", "set_alias", 0, 2),
        ("same step", "settle_together", 0, 2),
        ("same step", "set_alias", 2, 2),
        ("another", "set_alias", 2, 2),
        ("guard", "set_alias", 2, 2),
        ("one model", "set_alias", 2, 2),
    ],
)
def test_a_move_that_died_is_old_or_new_and_is_finished(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, point: str, survived: int, version: int, heir: str
) -> None:
    module = champion if point == "set_alias" else joint_ledger
    real, left = getattr(module, point), iter(range(survived))

    def die(*rest: Any, **more: Any) -> Any:
        if next(left, None) is None:
            raise Died
        return real(*rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, point, die)
        with pytest.raises(Died):
            move(registry, 2, "dies")
    assert seen(registry) == {version}
    if heir != "same step":
        monkeypatch.setattr(champion, "TURN_SECONDS", 0.05)
    if heir == "guard":
        (finding,) = [one for one in inspect(registry, verify_files=False).findings if one.mended]
        assert finding.sentence == "joint move 1 of 4 models was left half-done, and is finished now"
    elif heir == "one model":
        # Somebody who moves one model alone finishes that model's part only.
        champion.settled_head(registry, "b")
        assert seen(registry) == {version}
    if version == 2 and heir == "guard":
        assert joint_ledger.open_move(registry.settings) is None
    move(registry, 2, "another" if heir == "another" else "dies")
    assert seen(registry) == {2}
    assert {alias_version(registry, name) for name in NAMES} == {2}
    assert joint_ledger.open_move(registry.settings) is None
    assert all(ledger.head(registry.settings, name).settled for name in NAMES)


def test_of_moves_that_race_one_goes_through(registry: Registry) -> None:
    def attempt(number: int) -> str:
        try:
            move(registry, 2, f"key-{number}", at=1)
        except GateError:
            return "refused"
        return "moved"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(4)))
    assert sorted(outcomes) == ["moved", "refused", "refused", "refused"]
    assert joint_ledger.behind(registry.settings).number == 1


def test_a_reader_that_looks_between_the_aliases_asks_again(registry: Registry) -> None:
    reader, asked = joint_moves.ChampionReader(registry.settings), 0

    def torn() -> dict[str, dict[str, int]]:
        nonlocal asked
        asked += 1
        before = aliases(registry)
        if asked == 1:  # the first half is read before the move, the second one after it
            move(registry, 2, "in the middle")
            return {name: (before if name < "c" else aliases(registry))[name] for name in NAMES}
        return before

    found = reader.read(torn)
    assert asked == 2
    assert {versions["champion"] for versions in found.aliases.values()} == {2}
    assert found.moved == (dict.fromkeys(NAMES, 2),)
    assert reader.read(lambda: aliases(registry)).moved == (), "told of once"


MOVER = """
import itertools, sys
from modelmill.registry import joint_moves
from modelmill.registry.champion import Registry
from modelmill.registry.joint_ledger import key_of
from modelmill.registry.ledger import Entry
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

settings, names = Settings.from_environment(), sys.argv[2:]
registry = Registry(tracking_client(settings.tracking_uri), settings, say=lambda _: None)

def entries(heads, number):
    return [
        Entry(action="promote", model=name, from_version=head.champion, to_version=3 - head.champion,
              digest="", step_key=key_of(number, key))
        for name, head in heads.items()
    ]

for turn in itertools.count():
    key = f"{sys.argv[1]}-{turn}"
    print(joint_moves.move_together(registry, names, entries, step_key=key).number, flush=True)
"""


def test_killed_movers_leave_old_or_new(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion, "TURN_SECONDS", 0.2)
    random = Random(2)
    for number in range(3):
        command = [sys.executable, "-c", MOVER, f"mover-{number}", *NAMES]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mover:
            assert mover.stdout is not None
            assert int(mover.stdout.readline()) > number  # at least one move is whole
            with contextlib.suppress(subprocess.TimeoutExpired):
                mover.wait(random.uniform(0, 0.4))
            mover.kill()
        assert len(seen(registry)) == 1, "never between"
        was = seen(registry)
        joint_moves.finish_open_move(registry)
        assert seen(registry) == was
        assert {alias_version(registry, name) for name in NAMES} == was
    rows = [len(ledger.entries(registry.settings, model=name)) for name in NAMES]
    assert len(set(rows)) == 1
    assert rows[0] == joint_ledger.behind(registry.settings).number + 1
