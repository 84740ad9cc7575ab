"""What a step has made: reports and rows of the run that is asked about, for those who may see them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill_plugin.reports_without_rows import without_rows
from modelmill_plugin.routes.results import _report_uris

Call = Callable[[str], Any]

MODEL = "models:/m-1"
SECRET = "<img src=x onerror=alert(1)> a customer's own words"
DATASET = {"source": "/t@0", "rows_in": 1500, "rows_out": 1287, "quarantined": 100, "duplicates": 113}
GATE = {
    "challenger": MODEL,
    "passed": False,
    "mistakes": [{"key": SECRET, "text": SECRET, "label": "a", "answer": "b"}],
}
OTHERS = {"models": [{"uri": "models:/m-2", "accuracy": 0.5}]}


class Made(NamedTuple):
    """A pipeline with two runs; in the second one the table has grown."""

    name: str
    run_id: str
    lake: Path


@pytest.fixture(name="made")
def _made(
    call: Call, name: str, parse: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Made:
    parse()
    lake = tmp_path / "lake"
    monkeypatch.setenv("MODELMILL_PARAM_DATA", str(lake))
    monkeypatch.delenv("MODELMILL_TABLES", raising=False)
    client = tracking_client(settings.tracking_uri)
    experiment = client.create_experiment(name, artifact_location=str(tmp_path / "artifacts"))
    run = client.create_run(experiment).info.run_id
    client.log_dict(run, DATASET, "dataset.json")
    client.log_dict(run, GATE, "gate/verdict.json")
    client.log_dict(run, OTHERS, "report.json")
    client.log_metric(run, "rows_out", 1287)
    client.log_metric(run, "drift", float("nan"))
    run_id = ""
    for version in (0, 1):
        write_deltalake(
            str(lake / "topics"), pa.table({"text": [SECRET] * 3, "topic": ["a", "b", "a"]}), mode="append"
        )
        run_id = call("user")("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
        table = {"kind": "table", "uri": str(lake / "topics"), "version": version}
        verdict = {"kind": "verdict", "uri": f"runs:/{run}/gate/verdict.json", "run_id": run}
        report = {"kind": "report", "uri": f"runs:/{run}/report.json", "run_id": run}
        outputs = {
            "raw": {
                "table": table,
                "elsewhere": {**table, "uri": "/etc"},
                "verdict": verdict,
                "report": report,
            },
            "dataset": {"model": {"kind": "model", "uri": MODEL}},
        }
        _hand_on(name, run_id, outputs, {"run_id": run, "run_url": "https://mlflow.example.org/run"})
    return Made(name, run_id, lake)


def _hand_on(name: str, run_id: str, outputs: dict[str, Any], step: dict[str, Any]) -> None:
    """What the workers do: every task succeeds, and hands its references on."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == name, DagRun.run_id == run_id))
        run.state = DagRunState.SUCCESS
        for item in session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)):
            if item.dag_id == name:
                item.state = TaskInstanceState.SUCCESS
        for task, references in outputs.items():
            for key, value in (("return_value", references), ("modelmill_step", step)):
                XComModel.set(
                    key=key,
                    value=value,
                    dag_id=name,
                    task_id=task,
                    run_id=run_id,
                    serialize=False,
                    session=session,
                )


def test_a_step_shows_its_reports_and_figures(call: Call, made: Made) -> None:
    answer = call("user")("GET", f"/pipelines/{made.name}/runs/{made.run_id}/steps/raw/result")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["step"], shown["tasks"], shown["metrics"]) == ("raw", ["raw"], {"rows_out": 1287.0})
    assert {report["file"]: report["content"] for report in shown["reports"]} == {
        "gate/verdict.json": GATE,
        "report.json": OTHERS,
        "dataset.json": DATASET,
    }
    assert (shown["texts_hidden"], shown["mlflow_url"]) == (False, "https://mlflow.example.org/run")


def test_a_model_shows_what_the_run_s_gate_says_of_it(call: Call, made: Made) -> None:
    shown = call("user")("GET", f"/pipelines/{made.name}/runs/{made.run_id}/steps/dataset/result").json()
    judged = {(report["step"], report["file"]) for report in shown["reports"]}
    # The evaluation beside it judges another model, and is not shown.
    assert judged == {("dataset", "dataset.json"), ("raw", "gate/verdict.json")}


def test_among_many_copies_a_model_s_own_gate_is_found() -> None:
    run = "{:032x}".format
    results: dict[str, dict[str, Any]] = {}
    for number in range(100):
        uri = f"runs:/{run(number)}/gate/verdict.json"
        model = {"kind": "model", "uri": f"models:/m-{number}"}
        verdict = {"kind": "verdict", "uri": uri, "challenger": model}
        report = {"kind": "report", "uri": f"runs:/{run(number)}/report.json"}
        results[f"train__{number}"] = {"return_value": {"model": model}}
        results[f"gate__{number}"] = {"return_value": {"verdict": verdict}}
        results[f"check__{number}"] = {"return_value": {"report": report}}
    first, second = itertools.islice(_report_uris("train__42", results, "", {"models:/m-42"}), 2)
    assert first == ("gate__42", run(42), "gate/verdict.json")
    assert second == ("check__42", run(42), "report.json")


def test_figures_of_a_run_that_mlflow_no_longer_has_are_left_out(call: Call, made: Made) -> None:
    place = f"/pipelines/{made.name}/runs/{made.run_id}/metrics"
    figures = call("user")("GET", place).json()
    assert {step: one["metrics"] for step, one in figures.items()} == {
        "raw": {"rows_out": 1287.0},
        "dataset": {"rows_out": 1287.0},
    }
    _hand_on(made.name, made.run_id, {"raw": {}}, {"run_id": "0" * 32})
    assert set(call("user")("GET", place).json()) == {"dataset"}


def test_a_report_without_rows_has_what_is_known_to_hold_none() -> None:
    """Reports as steps log them: what stands in a row is not always at the top, nor under a known name."""
    gate = {
        "passed": False,
        "challenger": MODEL,
        "rows": 12,
        "checks": [
            {"check": "champion", "sentence": "1 % worse", "limit": 0.01, "other": None, "row": SECRET}
        ],
        "classes": [{"name": "a", "rows": 3, "recall": 0.5}],
        "confusions": [["a", "b", 3]],
        "mistakes": [{"key": SECRET, "text": SECRET, "label": "a", "answer": "b", "score": 0.9}],
        "of_a_later_version": [SECRET],
    }
    assert without_rows(gate) == {
        "passed": False,
        "challenger": MODEL,
        "rows": 12,
        "checks": [{"check": "champion", "sentence": "1 % worse", "limit": 0.01}],
        "classes": [{"name": "a", "rows": 3, "recall": 0.5}],
        "confusions": [["a", "b", 3]],
    }
    decisions = {
        "rows": 3,
        "decisions": {"keep": 2, "review": 1},
        "failures": [{"signal": "noisy", "why": SECRET, "rows": 1}],
        "rule_set": {"rule_set": "r", "examples": [{"row": {"text": SECRET}, "decision": "keep"}]},
        "plan": {"stages": [{"note": SECRET}]},
    }
    assert without_rows(decisions) == {
        "rows": 3,
        "decisions": {"keep": 2, "review": 1},
        "failures": [{"signal": "noisy", "rows": 1}],
    }
    changed = {"before": "keep", "after": "review", "rows": 2}
    trial = {
        "difference": {
            "changes": [{**changed, "examples": [SECRET]}],
            "slices": [{"column": "city", "value": SECRET, "rows": 2}],
        }
    }
    assert without_rows(trial) == {"difference": {"changes": [changed]}}
    watched = {"columns": [{"name": "city", "psi": 0.3, "shares": [{"name": SECRET, "now": 0.1}]}]}
    assert without_rows(watched) == {"columns": [{"name": "city", "psi": 0.3}]}
    built = {"classes": {"topic": {"a": {"train": 8, "test": 2}}}, "reasons": {"no text": 3}}
    assert without_rows(built) == built
    assert without_rows([SECRET]) is without_rows(SECRET) is None


def test_who_may_not_read_the_data_is_shown_no_rows(call: Call, made: Made) -> None:
    viewer = call("viewer")
    shown = viewer("GET", f"/pipelines/{made.name}/runs/{made.run_id}/steps/raw/result")
    assert shown.status_code == 200, shown.text
    assert shown.json()["texts_hidden"]
    assert "onerror" not in shown.text
    assert (
        viewer("GET", f"/pipelines/{made.name}/runs/{made.run_id}/steps/raw/outputs/table/rows").status_code
        == 403
    )


def test_an_edge_shows_the_rows_of_its_own_run(call: Call, made: Made) -> None:
    write_deltalake(str(made.lake / "topics"), pa.table({"text": ["later"], "topic": ["c"]}), mode="append")
    path = f"/pipelines/{made.name}/runs/{made.run_id}/steps/raw/outputs/table/rows"
    answer = call("user")("GET", f"{path}?rows=2&label=topic")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["version"], shown["rows"], shown["rows_before"], shown["kind"]) == (1, 6, 3, "table")
    assert [row["text"] for row in shown["sample"]] == [SECRET] * 2
    assert shown["balance"]["topic"] == [{"value": "a", "rows": 4}, {"value": "b", "rows": 2}]


@pytest.mark.parametrize(
    ("step", "port", "status", "message"),
    [
        ("raw", "elsewhere", 422, "only tables below "),
        ("raw", "nothing", 404, "must have such an output"),
        ("raw", "verdict", 409, "rows are shown of tables"),
        ("nothing", "table", 404, "must have finished in this run"),
    ],
)
def test_what_an_edge_cannot_show_is_said(
    step: str, port: str, status: int, message: str, call: Call, made: Made
) -> None:
    path = f"/pipelines/{made.name}/runs/{made.run_id}/steps/{step}/outputs/{port}/rows"
    answer = call("admin")("GET", path)
    assert (answer.status_code, message in answer.json()["message"]) == (status, True), answer.text


def test_a_report_that_is_no_json_or_too_long_is_named_and_not_shown(
    call: Call, made: Made, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelmill_plugin import report_files

    monkeypatch.setattr(report_files, "MOST_BYTES", 60)
    shown = call("user")("GET", f"/pipelines/{made.name}/runs/{made.run_id}/steps/raw/result").json()
    contents = {report["file"]: report["content"] for report in shown["reports"]}
    assert (contents["dataset.json"], contents["report.json"]) == (None, None)
