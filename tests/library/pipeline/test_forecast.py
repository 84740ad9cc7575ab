"""What a run will take: from past runs, with the error of such forecasts; what has never run is not known."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelmill.artifacts import TableRef
from modelmill.cli.main import app
from modelmill.errors import ConfigError
from modelmill.pipeline.expansion import expand
from modelmill.pipeline.forecast import Amount, Bill, RunForecast, StepForecast, forecast
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
BRANCHES = """
pipeline: flow
steps:
  rows: {component: count, config: {journal: JOURNAL, number: 20}}
  verdict: {component: judge, inputs: {table: rows.table}}
  used: {component: count, config: {journal: JOURNAL}, when: {verdict: accepted}}
  shown: {component: gather, inputs: {tables: [used.table]}}
  review: {component: count, config: {journal: JOURNAL}, when: {verdict: refused}}
"""
LABELLED = """
pipeline: flow
steps:
  raw: {component: delta_table, config: {uri: /tickets}}
  labelled:
    component: label_by_llm
    inputs: {table: raw.table}
    config:
      label: desk
      labels: {sport: games, trade: banks}
      columns: [message]
      asking: {model: stub-2026-11-01}
      budget: {money: "${budget}"}
      prices: {input_per_million: 0.1, output_per_million: 0.4}
params: {budget: {default: 0.5}}
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
        paid: float | None = None,
    ) -> None:
        client = tracking_client(self.settings.tracking_uri)
        experiment = experiment_id(client, "flow", artifact_root=self.settings.home / "artifacts")
        for taken in seconds:
            self.number += 1
            tags = {"modelmill.step": step, "modelmill.component": component}
            tags |= {TAG_HOST: host or platform.node(), TAG_PYTHON: python}
            run = open_run(client, experiment, f"{self.number:064x}", name=step, tags=tags)
            figures = {SECONDS: taken, CPU_SECONDS: 2 * taken, MEMORY_MB: 100 * taken, DISK_MB: 0.0}
            figures |= {} if paid is None else {"accounted_money": paid}
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


def test_a_step_that_ran_long_ago_is_known(
    pipeline: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmill.pipeline.forecast._SEARCHED", 3)
    past = Past(settings)
    past.ran("first", "count", 10.0, 20.0)
    past.ran("made__2", "count", 4.0)
    past.ran("made__of_another_pipeline_s_time", "count", 9.0)
    past.ran("last", "gather", 1.0, 1.0, 1.0)
    found, steps = told(pipeline, settings)
    assert not found.unknown
    assert (steps["first"].from_runs, steps["made__2"].seconds) == (2, Amount(expected=4.0, error=None))
    assert (steps["made__1"].of_copies, steps["made__1"].seconds) == (True, steps["made__2"].seconds)


def test_what_another_interpreter_would_reuse_is_not_known(
    pipeline: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse_pipeline(pipeline.read_text())
    run_step(request_for(expand(spec), "first", {}, {}), settings)
    found, steps = told(pipeline, settings)
    assert (found.is_reuse_known, steps["first"].state) == (True, "reused")
    found, steps = told(pipeline, replace(settings, python="/another/python"))
    assert (found.is_reuse_known, steps["first"].state) == (False, "known")
    monkeypatch.setenv("MODELMILL_PYTHON", "/another/python")
    shown = CliRunner().invoke(app, ["forecast", str(pipeline)]).output
    assert "which results are there is not known" in shown


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


def test_what_a_verdict_that_is_there_skips_is_said(pipeline: Path, settings: Settings) -> None:
    pipeline.write_text(BRANCHES.replace("JOURNAL", str(pipeline.with_suffix(""))))
    expansion = expand(parse_pipeline(pipeline.read_text()))
    rows = run_step(request_for(expansion, "rows", {}, {}), settings)
    run_step(request_for(expansion, "verdict", {}, {"rows": rows.outputs}), settings)
    found, steps = told(pipeline, settings)
    assert {name: step.state for name, step in steps.items()} == {
        "rows": "reused",
        "verdict": "reused",
        "used": "skipped",
        "shown": "skipped",  # it needs what is skipped
        "review": "unknown",
    }
    assert found.unknown == ("review",)
    output = CliRunner().invoke(app, ["forecast", str(pipeline)]).output
    assert "shown    skipped: a verdict that is there already says so" in output


def test_a_language_model_s_bill_is_told_and_the_budget_from_the_first_run_on(
    pipeline: Path, settings: Settings
) -> None:
    pipeline.write_text(LABELLED)
    found, steps = told(pipeline, settings)
    assert steps["labelled"].bill == Bill(unit="money", expected=None, at_most=0.5)
    assert steps["raw"].bill is None
    shown = CliRunner().invoke(app, ["forecast", str(pipeline), "--param", "budget=0.25"]).output
    assert "a language model will be paid at most 0.2500, the budget; how much is not known" in shown
    past = Past(settings)
    past.ran("labelled", "label_by_llm", 10.0, paid=0.04)
    past.ran("labelled", "label_by_llm", 10.0, paid=0.05)
    found, steps = told(pipeline, settings)
    (bill,) = found.bills
    assert bill == steps["labelled"].bill
    assert bill.expected is not None
    assert bill.expected.expected == pytest.approx(0.045)
    assert bill.expected.error == pytest.approx(0.2)
    shown = CliRunner().invoke(app, ["forecast", str(pipeline)]).output
    assert "a language model will be paid 0.0450 ± 20 %, at most 0.5000, the budget" in shown
    wrong = CliRunner().invoke(app, ["forecast", str(pipeline), "--param", "budget=-1"])
    assert isinstance(wrong.exception, ConfigError)
    assert "configuration of step 'labelled': budget.money" in str(wrong.exception)
    local = LABELLED.replace(
        "{model: stub-2026-11-01}", "{model: own, dialect: local, local: {folder: /none}}"
    )
    pipeline.write_text(local)
    assert told(pipeline, settings)[1]["labelled"].bill is None  # nobody bills it
    pipeline.write_text(LABELLED.replace("{default: 0.5}", "{description: Most that may be spent}"))
    assert told(pipeline, settings)[1]["labelled"].bill is None
