"""What a run will take: from past runs, with the error of such forecasts; what has never run is not known."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelmill.artifacts import TableRef
from modelmill.cli.main import app
from modelmill.pipeline.expansion import expand
from modelmill.pipeline.forecast import Amount, RunForecast, StepForecast, forecast
from modelmill.pipeline.local_run import request_for
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.validation import parse_pipeline
from modelmill.registry.tracking import TAG_HOST, TAG_PYTHON, experiment_id, open_run, tracking_client
from modelmill.settings import Settings
from modelmill.system.usage import CPU_SECONDS, DISK_MB, MEMORY_MB, SECONDS

pytestmark = pytest.mark.usefixtures("toy_components")

PIPELINE = """
pipeline: flow
groups: {each: {steps: [made], for_each: {number: [1, 2, 3]}}}
steps:
  first: {component: count, config: {journal: JOURNAL}}
  made: {component: count, inputs: {table: first.table}, config: {journal: JOURNAL, number: "${number}"}}
  last: {component: gather, inputs: {tables: made.table}}
"""


class Past:
    """Past runs of steps, as the runner leaves them."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.number = settings, 0

    def ran(
        self,
        step: str,
        component: str,
        *seconds: float,
        host: str | None = None,
        python: str = sys.executable,
    ) -> None:
        client = tracking_client(self.settings.tracking_uri)
        experiment = experiment_id(client, "flow", artifact_root=self.settings.home / "artifacts")
        for taken in seconds:
            self.number += 1
            tags = {"modelmill.step": step, "modelmill.component": component}
            tags |= {TAG_HOST: host or platform.node(), TAG_PYTHON: python}
            run = open_run(client, experiment, f"{self.number:064x}", name=step, tags=tags)
            figures = {SECONDS: taken, CPU_SECONDS: 2 * taken, MEMORY_MB: 100 * taken, DISK_MB: 0.0}
            run.log_metrics(figures)
            run.finish({"table": TableRef(uri="/toy", version=0)})


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "flow.yaml"
    path.write_text(PIPELINE.replace("JOURNAL", str(tmp_path / "journal")))
    return path


def told(pipeline: Path, settings: Settings, *, jobs: int = 1) -> tuple[RunForecast, dict[str, StepForecast]]:
    found = forecast(parse_pipeline(pipeline.read_text()), settings=settings, jobs=jobs)
    return found, {step.step: step for step in found.steps}


def test_a_first_run_is_not_known(pipeline: Path, settings: Settings) -> None:
    found, steps = told(pipeline, settings)
    assert {step.state for step in steps.values()} == {"unknown"}
    assert found.unknown == ("first", "made__1", "made__2", "made__3", "last")
    result = CliRunner().invoke(app, ["forecast", str(pipeline)])
    assert result.exit_code == 0, result.output
    assert "first    not known: it has never run" in result.output
    assert "at least 0.0 s" in result.output


def test_past_runs_tell_with_their_error(pipeline: Path, settings: Settings) -> None:
    past = Past(settings)
    past.ran("first", "count", 100.0, 10.0, 8.0, 10.0, 10.0, 12.0)  # of more than five the oldest is left out
    past.ran("made__1", "count", 4.0)
    past.ran("last", "judge", 50.0)  # it was another component then
    found, steps = told(pipeline, settings, jobs=2)
    # 12 after 10, 10, 8, 10: 1/6 off; 10 after 10, 8, 10: 0; 10 after 8, 10: 0.1; 8 after 10: 0.25.
    first = steps["first"].seconds
    assert first is not None
    assert (first.expected, first.error) == (10.0, pytest.approx((0.1 + 1 / 6) / 2))
    assert steps["first"].from_runs == 5
    assert steps["made__1"].seconds == Amount(expected=4.0, error=None)
    assert (steps["made__2"].of_copies, steps["made__2"].from_runs) == (True, 1)
    assert steps["last"].state == "unknown"
    assert found.unknown == ("last",)
    assert found.seconds == Amount(expected=18.0, error=None)  # 10, then two of three side by side
    assert found.cpu_seconds.expected == 44
    assert found.memory_mb.expected == 1400  # the two largest
    shown = CliRunner().invoke(app, ["forecast", str(pipeline), "--jobs", "2"]).output
    assert "10.0 s ± 13 %" in shown
    assert "4.0 s ± ?" in shown
    assert "from 1 run of copies" in shown
    assert "flow with 2 side by side: at least 18.0 s ± ?, CPU 44.0 s ± ?" in shown
    assert "not known, since they have never run: last" in shown


def test_runs_of_other_machines_are_not_mixed_with_those_of_this_one(
    pipeline: Path, settings: Settings
) -> None:
    past = Past(settings)
    past.ran("first", "count", 50.0, host="another")
    assert told(pipeline, settings)[1]["first"].where == "elsewhere"
    assert "from 1 run, on another machine" in CliRunner().invoke(app, ["forecast", str(pipeline)]).output
    past.ran("first", "count", 20.0, python="/another/python")
    past.ran("first", "count", 70.0, host="another")  # newer, and farther away
    first = told(pipeline, settings)[1]["first"]
    assert (first.where, first.from_runs, first.seconds) == (
        "this host",
        1,
        Amount(expected=20.0, error=None),
    )
    past.ran("first", "count", 10.0)
    past.ran("first", "count", 30.0, python="/another/python")
    first = told(pipeline, settings)[1]["first"]
    assert (first.where, first.from_runs, first.seconds) == ("here", 1, Amount(expected=10.0, error=None))


def test_a_step_says_where_it_has_run(pipeline: Path, settings: Settings) -> None:
    spec = parse_pipeline(pipeline.read_text())
    result = run_step(request_for(expand(spec), "first", {}, {}), settings)
    tags = tracking_client(settings.tracking_uri).get_run(result.run_id).data.tags
    assert (tags[TAG_HOST], tags[TAG_PYTHON]) == (platform.node(), sys.executable)


def test_what_is_reused_takes_nothing(pipeline: Path, settings: Settings) -> None:
    spec = parse_pipeline(pipeline.read_text())
    result = run_step(request_for(expand(spec), "first", {}, {}), settings)
    assert not result.reused
    found, steps = told(pipeline, settings)
    assert steps["first"].state == "reused"
    assert found.seconds.expected == 0
    past = Past(settings)
    past.ran("made__3", "count", 2.0, 2.0)
    found, steps = told(pipeline, settings)
    assert found.seconds == Amount(expected=6.0, error=0.0)
    assert (
        RunForecast.model_validate_json(CliRunner().invoke(app, ["forecast", str(pipeline), "--json"]).output)
        == found
    )
