"""The guard finds what did not come through the gate, writes it down, and puts right what it may."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelmill.artifacts import ModelRef
from modelmill.cli.main import app
from modelmill.component import StepContext
from modelmill.errors import GateError
from modelmill.registry import champion, guard, ledger, ledger_table
from modelmill.registry.champion import Registry, alias_version
from modelmill.registry.history import history
from modelmill.registry.ledger import Entry
from modelmill.steps.guard import GuardConfig
from modelmill.steps.guard import run as run_guard
from modelmill.steps.ports import NoInputs

Promoted = Callable[[int], ModelRef]


@pytest.fixture
def two(promoted: Promoted) -> None:
    promoted(0)
    promoted(1)


def actions(registry: Registry) -> list[str]:
    return [row.action for row in history("topics", registry.settings)]


@pytest.mark.usefixtures("two")
def test_nothing_is_found_where_all_came_through_the_gate(registry: Registry) -> None:
    report = guard.inspect(registry)
    assert (report.models, report.findings) == (("topics",), ())
    assert actions(registry) == ["promote", "promote"]


@pytest.mark.usefixtures("two")
def test_an_alias_moved_by_hand_is_written_down_and_reported_until_it_is_put_right(
    registry: Registry,
) -> None:
    registry.client.set_registered_model_alias("topics", "champion", "1")
    for _ in range(2):
        (finding,) = guard.inspect(registry).open
        assert (finding.kind, finding.version) == ("hand_move", 1)
        assert "version 1 is champion, set by hand and not by the gate" in finding.sentence
    assert actions(registry) == ["promote", "promote", "hand_move"]
    assert alias_version(registry, "topics") == 1


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("how", ["set", "deleted", "twice"])
def test_an_alias_moved_by_hand_is_moved_back(registry: Registry, how: str) -> None:
    client = registry.client
    if how == "deleted":
        client.delete_registered_model_alias("topics", "champion")
    else:
        client.set_registered_model_alias("topics", "champion", "1")
    if how == "twice":
        guard.inspect(registry)
        client.create_model_version("topics", source="file:///nowhere")
        client.set_registered_model_alias("topics", "champion", "3")
    report = guard.inspect(registry, ["topics"], on_hand_move="revert")
    assert report.open == ()
    assert [finding.mended for finding in report.findings] == [True]
    assert alias_version(registry, "topics") == 2
    assert actions(registry)[-2:] == ["hand_move", "revert"]
    assert guard.inspect(registry, on_hand_move="revert").findings == ()


def test_a_champion_older_than_the_ledger_stays(registry: Registry) -> None:
    registry.client.create_registered_model("topics")
    registry.client.create_model_version("topics", source="file:///nowhere")
    registry.client.set_registered_model_alias("topics", "champion", "1")
    assert guard.inspect(registry).models == ()
    report = guard.inspect(registry, ["topics"], on_hand_move="revert")
    assert [finding.kind for finding in report.open] == ["hand_move", "damaged"]
    assert "no champion of the gate's to go back to" in report.findings[0].sentence
    assert "missing: digest of its files" in report.findings[1].sentence
    assert alias_version(registry, "topics") == 1


@pytest.mark.usefixtures("two")
def test_a_move_left_half_done_is_finished(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion, "TURN_SECONDS", 0.05)

    def decide(head: ledger.Head) -> Entry:
        return Entry(
            action="rollback", model="topics", from_version=2, to_version=1, digest="", step_key="dead"
        )

    ledger.append(registry.settings, "topics", decide, step_key="dead", moves_alias=True)
    (finding,) = guard.inspect(registry).findings
    assert (finding.kind, finding.mended) == ("half_done", True)
    assert alias_version(registry, "topics") == 1


@pytest.mark.usefixtures("two")
def test_a_move_by_a_machine_whose_clock_is_ahead_is_finished_too(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return super().now(tz) + timedelta(hours=1)

    def decide(head: ledger.Head) -> Entry:
        return Entry(
            action="rollback", model="topics", from_version=2, to_version=1, digest="", step_key="dead"
        )

    with monkeypatch.context() as patch:
        patch.setattr(ledger_table, "datetime", Ahead)
        ledger.append(registry.settings, "topics", decide, step_key="dead", moves_alias=True)
    monkeypatch.setattr(champion, "TURN_SECONDS", 0.5)
    began = time.monotonic()
    (finding,) = guard.inspect(registry).findings
    assert time.monotonic() - began > 0.5, "its own process may still be about to set the alias"
    assert (finding.kind, finding.mended) == ("half_done", True)
    assert alias_version(registry, "topics") == 1


@pytest.mark.usefixtures("two")
def test_damaged_files_of_a_champion_are_found(registry: Registry, tmp_path: Path) -> None:
    for graph in tmp_path.rglob("artifacts/bundle/model.onnx"):
        graph.write_bytes(graph.read_bytes()[:-1])
    (finding,) = guard.inspect(registry).open
    assert (finding.kind, finding.version) == ("damaged", 2)
    assert guard.inspect(registry, verify_files=False).findings == ()
    registry.client.set_registered_model_alias("topics", "champion", "1")
    open_ = guard.inspect(registry, on_hand_move="revert").open
    assert [finding.kind for finding in open_] == ["hand_move", "damaged"]
    assert "it cannot be moved back to version 2" in open_[0].sentence
    assert alias_version(registry, "topics") == 1


@pytest.mark.usefixtures("two")
def test_as_a_step_it_reports_and_fails_if_it_should(registry: Registry, step_context: StepContext) -> None:
    reference = run_guard(GuardConfig(), NoInputs(), step_context).report
    path = step_context.run.client.download_artifacts(reference.run_id, "guard.json")
    assert json.loads(Path(path).read_text()) == {"models": ["topics"], "findings": []}
    registry.client.set_registered_model_alias("topics", "champion", "1")
    with pytest.raises(GateError, match="every champion must have come through the gate"):
        run_guard(GuardConfig(), NoInputs(), step_context)
    assert run_guard(GuardConfig(fail=False), NoInputs(), step_context)


@pytest.mark.usefixtures("two")
def test_the_command_ends_in_two_if_somebody_is_needed(registry: Registry) -> None:
    call = CliRunner().invoke
    quiet = call(app, ["registry", "guard"])
    assert (quiet.exit_code, quiet.stdout) == (0, "1 models looked at, 0 need somebody\n")
    registry.client.set_registered_model_alias("topics", "champion", "1")
    found = call(app, ["registry", "guard", "--json"])
    assert found.exit_code == 2
    assert json.loads(found.stdout)["findings"][0]["kind"] == "hand_move"
    assert call(app, ["registry", "guard", "--revert"]).exit_code == 0
    assert alias_version(registry, "topics") == 2
