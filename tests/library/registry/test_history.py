"""Who was champion at any time, through promotions, moves by hand, half-done moves and rollbacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from typer.testing import CliRunner

from modelmill.artifacts import ModelRef
from modelmill.cli.main import app
from modelmill.errors import ConfigError, GateError, ModelError
from modelmill.registry import champion, ledger
from modelmill.registry.champion import Registry, alias_version, move, note, reconciled_head
from modelmill.registry.history import champion_at, history, models, previous_champion, row_at
from modelmill.registry.ledger import Entry, Head, LedgerRow, entries
from modelmill.registry.lineage import lineage
from modelmill.registry.rollback import rollback

MOMENT = timedelta(microseconds=1)


def moving(action: str, key: str, to: int | None) -> Callable[[Head], Entry]:
    return lambda head: Entry(
        action=action, model="topics", from_version=head.champion, to_version=to, digest="d", step_key=key
    )


def act(registry: Registry, kind: str, key: str, version: int) -> None:
    """Do one thing to the alias, in one of the ways in which it happens."""
    client = registry.client
    if kind == "hand":
        client.set_registered_model_alias("topics", "champion", str(version))
        reconciled_head(registry, "topics")
    elif kind == "gone":
        client.delete_registered_model_alias("topics", "champion")
        reconciled_head(registry, "topics")
    elif kind == "refuse":
        note(registry, "topics", lambda head: moving(kind, key, head.champion)(head), step_key=key)
    else:
        move(registry, "topics", moving(kind, key, version), step_key=key)


def test_the_champion_at_every_time_of_a_random_history(registry: Registry) -> None:
    client, random = registry.client, Random(7)
    client.create_registered_model("topics")
    for _ in range(9):
        client.create_model_version("topics", source="file:///nowhere")
    said: list[tuple[datetime, int | None]] = []
    for number in range(100):
        version, before = random.randint(1, 9), alias_version(registry, "topics")
        kind = random.choice(["promote", "promote", "rollback", "hand", "gone", "refuse"])
        act(registry, kind, f"{number}", version)
        after = {"gone": None, "refuse": before}.get(kind, version)
        if before != after:
            said.append((datetime.now(UTC), after))
        assert alias_version(registry, "topics") == after
    rows = history("topics", registry.settings)
    changes = [row for row in rows if row.from_version != row.to_version]
    assert [row.to_version for row in changes] == [version for _, version in said]
    assert {row.action for row in rows} == {"promote", "rollback", "hand_move", "refuse"}
    assert row_at(rows, rows[0].time - MOMENT) is None
    for change, after, (noted, version) in zip(changes, [*changes[1:], None], said, strict=True):
        end = after.time if after else noted + timedelta(days=1)
        for moment in (change.time, change.time + (end - change.time) / 2, noted, end - MOMENT):
            found = row_at(rows, moment)
            assert found is not None
            assert found.to_version == version, (moment, found)
    for noted, version in random.sample(said, 5):
        at = champion_at("topics", noted, registry.settings)
        assert at is not None
        assert at.to_version == version


def test_a_time_needs_a_zone(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="a time needs a zone"):
        champion_at("topics", datetime(2026, 1, 1), registry.settings)


def rows_of(*moves: tuple[str, int | None]) -> list[LedgerRow]:
    made, before = [], None
    for number, (action, to) in enumerate(moves, start=1):
        values = {"action": action, "model": "m", "from_version": before, "to_version": to, "digest": ""}
        more = {"step_key": "", "number": number, "time": datetime.now(UTC), "seal": ""}
        made.append(LedgerRow.model_validate(values | more))
        before = to
    return made


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], None),
        ([("promote", 1)], None),
        ([("promote", 1), ("promote", 2)], 1),
        ([("promote", 1), ("promote", 2), ("refuse", 2)], 1),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], 1),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 1)], None),
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3)], 1),
        ([("promote", 1), ("promote", 2), ("hand_move", 9), ("revert", 2)], 1),
        ([("promote", 1), ("hand_move", None)], 1),
        ([("promote", 1), ("hand_move", None), ("promote", 2)], 1),
        ([("promote", 1), ("promote", 2), ("rollback", 7)], 2),
    ],
)
def test_the_champion_before(moves: list[tuple[str, int | None]], expected: int | None) -> None:
    assert previous_champion(rows_of(*moves)) == expected


def test_a_rollback_goes_back_step_by_step_and_says_why(
    promoted: Callable[[int], ModelRef], registry: Registry
) -> None:
    settings = registry.settings
    for number in range(3):
        promoted(number)
    middle = history("topics", settings)[1].time
    first = rollback("topics", settings, why="too slow", who="ada")
    assert (first.from_version, first.to_version, first.who, first.reasons) == (3, 2, "ada", ("too slow",))
    second = rollback("topics", settings, why="still too slow", step_key="again")
    assert second.to_version == alias_version(registry, "topics") == 1
    assert rollback("topics", settings, why="still too slow", step_key="again") == second
    assert rollback("topics", settings, why="it was right", at=middle).to_version == 2
    assert rollback("topics", settings, why="try", to=3).to_version == alias_version(registry, "topics") == 3
    assert [row.action for row in history("topics", settings)] == ["promote"] * 3 + ["rollback"] * 4


def test_a_rollback_that_leads_nowhere_is_refused(
    promoted: Callable[[int], ModelRef], registry: Registry
) -> None:
    settings, client = registry.settings, registry.client
    with pytest.raises(GateError, match="must have a champion to go back to"):
        rollback("topics", settings, why="x")
    promoted(0)
    promoted(1)
    client.create_model_version("topics", source="file:///nowhere")
    refused: list[tuple[type[Exception], str, dict[str, object]]] = [
        (ConfigError, "needs a reason", {"why": " "}),
        (ConfigError, "to a version or to a time", {"to": 1, "at": datetime.now(UTC)}),
        (GateError, "another version than the champion", {"to": 2}),
        (GateError, "another version than the champion", {"at": datetime.now(UTC)}),
        (GateError, "must have a champion to go back to", {"at": datetime(2020, 1, 1, tzinfo=UTC)}),
        (GateError, "must exist", {"to": 9}),
        (ModelError, "missing: digest of its files", {"to": 3}),
    ]
    for error, match, how in refused:
        with pytest.raises(error, match=match):
            rollback("topics", settings, **{"why": "x", **how})
    assert len(entries(settings)) == 2


def test_a_move_left_half_done_is_finished_by_anybody_later(
    registry: Registry, promoted: Callable[[int], ModelRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(0)
    promoted(1)
    row = ledger.append(
        registry.settings, "topics", moving("rollback", "dead", 1), step_key="dead", moves_alias=True
    )
    assert row is not None
    assert alias_version(registry, "topics") == 2, "readers still get a champion"
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        monkeypatch.setattr(champion, "TURN_SECONDS", 0.001)

    monkeypatch.setattr(champion.time, "sleep", sleep)
    assert reconciled_head(registry, "topics").champion == 1
    assert waited, "only the row's own process may set the alias at first"
    assert alias_version(registry, "topics") == 1


def test_a_version_deleted_after_it_became_champion_stops_nothing(
    registry: Registry, promoted: Callable[[int], ModelRef]
) -> None:
    promoted(0)
    promoted(1)
    registry.client.delete_model_version("topics", "2")
    assert alias_version(registry, "topics") is None
    with pytest.raises(GateError, match="it was deleted from MLflow: name another one"):
        rollback("topics", registry.settings, why="it is gone")
    assert rollback("topics", registry.settings, why="it is gone", to=1).to_version == 1
    assert [row.action for row in entries(registry.settings)][2:] == ["hand_move", "rollback"]


def test_lineage_goes_down_to_the_dataset(
    make_bundle, topic_dataset, step_context, accepted, registry: Registry
) -> None:
    from modelmill.registry import promotion
    from modelmill.registry.bundles import log_model

    def log(name: str, role: str, **how: object) -> ModelRef:
        bundle = make_bundle(name, tweak=len(name) / 1000)
        return log_model(bundle, role=role, dataset=topic_dataset, context=step_context, **how)

    teacher = log("one", "teacher")
    student = log("three", "student", parent=teacher)
    exported = log("seventh", "exported", parent=student)
    promotion.promote(accepted(exported), step_context)
    tree = lineage("topics", registry.client)
    assert tree == lineage("topics/1", registry.client) == lineage("models:/topics/1", registry.client)
    data = f"dataset {topic_dataset}"
    shown = [line.partition(" (")[0] for line in tree.lines()]
    assert shown == [
        "exported models:/topics/1",
        f"  student {student.uri}",
        f"    teacher {teacher.uri}",
        f"      {data}",
        f"    {data}",
        f"  {data}",
    ]
    assert tree.missing == ()
    registry.client.create_model_version("topics", source="file:///nowhere")
    assert "digest of its files (tag modelmill.digest)" in lineage("topics/2", registry.client).missing
    for unknown in ("nobody", "topics/9", "topics/x", "m-123"):
        with pytest.raises(ModelError, match="must be one that MLflow knows"):
            lineage(unknown, registry.client)


def test_the_command_line_shows_and_goes_back(
    promoted: Callable[[int], ModelRef], registry: Registry
) -> None:
    promoted(0)
    between = datetime.now(UTC).isoformat()
    promoted(1)
    call = CliRunner().invoke
    assert call(app, ["registry", "champion", "topics"]).stdout == "2\n"
    assert call(app, ["registry", "champion", "topics", "--at", between]).stdout == "1\n"
    told = call(app, ["registry", "rollback", "topics", "--why", "too slow"]).stdout
    assert "rolled back from version 2 to 1: too slow" in told
    shown = call(app, ["registry", "history", "topics"]).stdout.splitlines()
    assert shown[0].split() == ["time", "(UTC)", "model", "row", "action", "from", "to", "who", "why"]
    assert [line.split()[4:7] for line in shown[1:]] == [
        ["promote", "-", "1"],
        ["promote", "1", "2"],
        ["rollback", "2", "1"],
    ]
    listed = json.loads(call(app, ["registry", "history", "--json"]).stdout)
    assert [row["to_version"] for row in listed] == [1, 2, 1]
    assert models(registry.settings) == ["topics"]
    assert call(app, ["registry", "lineage", "topics"]).stdout.startswith("exported models:/topics/1 (digest")
    failed = call(app, ["registry", "champion", "topics", "--at", "yesterday"])
    assert "a time is written as ISO 8601" in str(failed.exception)


def test_a_step_key_of_another_model_is_refused(registry: Registry) -> None:
    for name in ("desks", "topics"):
        registry.client.create_registered_model(name)
        registry.client.create_model_version(name, source="file:///nowhere")
    act(registry, "promote", "key", 1)

    def entry(head: Head) -> Entry:
        return moving("promote", "key", 1)(head).model_copy(update={"model": "desks"})

    for write in (move, note):
        with pytest.raises(ConfigError, match="a step key writes a row of one model"):
            write(registry, "desks", entry, step_key="key")
    assert history("desks", registry.settings) == []
