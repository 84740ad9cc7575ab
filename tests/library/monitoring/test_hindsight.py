"""The models of past days, judged on the last day's rows: real bundles, runs and datasets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from typer.testing import CliRunner

from modelmill.artifacts import AnyReference, DatasetRef, ModelRef, VerdictRef
from modelmill.cli.main import app
from modelmill.component import StepContext
from modelmill.errors import ConfigError
from modelmill.monitoring.hindsight import Hindsight, hindsight
from modelmill.monitoring.morning import TAG_LOGICAL_DATE
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import open_run
from modelmill.workspace import Workspace

Rows = Callable[..., list[tuple[str, str]]]
Day = Callable[..., ModelRef]
PIPELINE = "tests"


def dataset(folder: Path, rows: list[tuple[str, str]], *, test: int) -> DatasetRef:
    """A dataset whose last rows are test rows."""
    splits = ["train"] * (len(rows) - test - 4) + ["validation"] * 4 + ["test"] * test
    columns = {
        "id": [f"row-{number:03d}" for number in range(len(rows))],
        "body": [f"{text} {number}" for number, (text, _) in enumerate(rows)],
        "topic": [topic for _, topic in rows],
        "split": splits,
    }
    write_deltalake(str(folder), pa.table(columns), mode="overwrite")
    return DatasetRef(uri=str(folder), version=0, key="id", text="body", labels=("topic",), split="split")


@pytest.fixture
def day(make_bundle: Callable[..., Path], step_context: StepContext) -> Day:
    """Return a function that makes what a night makes: a model, and a gate's verdict on it."""
    made = 0

    def make(date: str, of: DatasetRef, *, skill: float, gate: str = "verdict") -> ModelRef:
        nonlocal made
        made += 1

        def run(step: str, key: str) -> StepContext:
            tags = {TAG_LOGICAL_DATE: f"2026-11-{date}T02:00:00+00:00", "modelmill.step": step}
            opened = open_run(
                step_context.run.client, step_context.run.experiment_id, key, name=step, tags=tags
            )
            return replace(step_context, run=opened, step_key=key)

        trained, judged = run("student", f"{made:064x}"), run(gate, f"{made + 1000:064x}")
        model = log_model(make_bundle(f"{made}", skill=skill), role="student", dataset=of, context=trained)
        trained.run.finish({"model": model})
        verdict: AnyReference = VerdictRef(
            passed=False,
            name="topics",
            challenger=model,
            champion_version=None,
            reasons=("worse",),
            uri=f"runs:/{judged.run.run_id}/verdict.json",
            run_id=judged.run.run_id,
        )
        judged.run.finish({"verdict": verdict})
        return model

    return make


def told(context: StepContext, **how: str) -> Hindsight:
    with Workspace.temporary(log=lambda line: None) as workspace:
        return hindsight(PIPELINE, context.settings, workspace, **how)


def test_each_days_model_is_judged_on_the_last_days_rows(
    day: Day, step_context: StepContext, tmp_path: Path, topic_rows: Rows
) -> None:
    rows = topic_rows(130)
    young, old = dataset(tmp_path / "young", rows[:60], test=10), dataset(tmp_path / "old", rows, test=60)
    first = day("01", young, skill=-1.0)
    day("02", old, skill=0.0)
    last = day("02", old, skill=1.0)  # the night was run again: its last word counts
    found = told(step_context)
    assert found.step == "verdict"
    assert [one.model for one in found.days] == [first.uri, last.uri]
    assert [one.dataset for one in found.days] == [str(young), str(old)]
    assert [one.scores[0].value for one in found.days] == [0.0, 1.0]
    assert found.days[0].behind
    assert (found.days[0].behind.value, found.days[1].behind) == (1.0, None)
    assert (found.dataset, found.rows, found.left_out) == (str(old), 60, ())
    assert [one.model for one in told(step_context, step="student").days] == [first.uri, last.uri]


def test_rows_that_a_day_has_learnt_from_are_asked_of_nobody(
    day: Day, step_context: StepContext, tmp_path: Path, topic_rows: Rows
) -> None:
    rows = topic_rows(100)
    # Rows 56 to 65 are train rows of the first day, and test rows of the last one.
    day("01", dataset(tmp_path / "first", rows[:70], test=0), skill=1.0)
    day("02", dataset(tmp_path / "last", rows, test=44), skill=1.0)
    found = told(step_context)
    assert found.rows == 44 - 14
    assert "learnt from 14 of the test rows" in found.left_out[0]


def test_what_cannot_be_compared_is_said(
    day: Day, step_context: StepContext, tmp_path: Path, topic_rows: Rows
) -> None:
    with pytest.raises(ConfigError, match="0 of pipeline 'tests'"):
        told(step_context)
    rows = dataset(tmp_path / "one", topic_rows(100), test=40)
    day("01", rows, skill=1.0)
    with pytest.raises(ConfigError, match="1 of pipeline 'tests'"):
        told(step_context)
    day("02", rows, skill=1.0, gate="other")
    with pytest.raises(ConfigError, match="with gates other, verdict"):
        told(step_context)
    with pytest.raises(ConfigError, match="the pipeline must have run"), Workspace.temporary() as workspace:
        hindsight("never", step_context.settings, workspace)


def test_the_command_prints_a_table(
    day: Day, step_context: StepContext, tmp_path: Path, topic_rows: Rows
) -> None:
    rows = dataset(tmp_path / "one", topic_rows(100), test=40)
    for date, skill in (("01", 0.5), ("02", 0.0), ("03", 1.0)):
        day(date, rows, skill=skill)
    asked = ["hindsight", PIPELINE, "--since", "2026-11-01T12:00"]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert lines[0] == f"verdict: topic, 40 test rows of {rows}"
    assert lines[1].split()[:4] == ["day", "dataset", "model", "accuracy"]
    assert [line.split()[:3] for line in lines[2:]] == [
        ["2026-11-02", "02:00", "@0"],
        ["2026-11-03", "02:00", "@0"],
    ]
    assert lines[3].split()[4:8] == ["1.0000", "(1.0000", "to", "1.0000)"]
    assert lines[3].endswith("-")
    content = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert [one["day"][:10] for one in content["days"]] == ["2026-11-02", "2026-11-03"]
