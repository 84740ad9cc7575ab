"""``modelmill run``: what it says at its end, and from where it reads relative paths."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelmill.artifacts import ReportRef
from modelmill.cli.main import app
from modelmill.cli.run_summary import _figures, _shown
from modelmill.errors import ModelmillError
from modelmill.settings import Settings

ROOT = Path(__file__).parents[3]
PIPELINE = """
pipeline: toy
steps:
  first: {component: count, config: {journal: journal, number: 2}}
  second: {component: count, inputs: {table: first.table}, config: {journal: journal, behaviour: BEHAVIOUR}}
"""


@pytest.fixture
def here(toy_components: object, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pipelines in a folder below it, where the command is started."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    monkeypatch.setenv("MODELMILL_HOME", str(settings.home))
    folder = tmp_path / "here"
    (folder / "pipelines").mkdir(parents=True)
    for name, behaviour in (("good", "count"), ("bad", "refuse")):
        (folder / f"pipelines/{name}.yaml").write_text(PIPELINE.replace("BEHAVIOUR", behaviour))
    monkeypatch.chdir(folder)
    return folder


def test_a_run_ends_in_a_table(here: Path, settings: Settings) -> None:
    done = CliRunner().invoke(app, ["run", "pipelines/good.yaml"])
    assert done.exit_code == 0, done.output
    assert (here / "journal").read_text() == "first\nsecond\n"  # from where the command was started
    table, hint = done.stdout.rstrip().split("\n\n")[-2:]
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["step", "state", "time", "figures", "result"]
    assert [(line[0], line[1], line[-1]) for line in lines[1:]] == [
        ("first", "done", "/toy@2"),
        ("second", "done", "/toy@2"),
    ]
    assert hint == f"Runs and models: mlflow ui --backend-store-uri {settings.tracking_uri}"
    assert '"kind"' not in done.stdout
    again = CliRunner().invoke(app, ["run", "pipelines/good.yaml", "--json"])
    ends = json.loads(again.stdout)
    assert {name: end["state"] for name, end in ends.items()} == {"first": "reused", "second": "reused"}
    assert ends["second"]["outputs"]["table"] == {"kind": "table", "uri": "/toy", "version": 2}
    assert "nothing that it reads has changed" in again.stderr


def test_an_error_names_its_step_and_comes_once(here: Path) -> None:
    failed = CliRunner().invoke(app, ["run", "pipelines/bad.yaml"])
    assert isinstance(failed.exception, ModelmillError)
    assert str(failed.exception) == "step 'second': a number must be even; got 0; add one"
    assert "must be even" not in failed.output  # main prints the exception
    states = [
        line.split()[:2] for line in failed.stdout.splitlines() if line.startswith(("first ", "second "))
    ]
    assert states == [["first", "done"], ["second", "failed"]]


def test_the_figures_of_a_step_are_few() -> None:
    assert _figures({"validation_macro_f1": 0.5, "validation_accuracy": 0.97852, "loss": 1.0}) == (
        "validation accuracy 97.85 %, validation macro f1 50.00 %"
    )
    report = {f"accuracy/{role}": 0.9 for role in ("exported", "student", "teacher")} | {
        "macro_f1/teacher": 0.9
    }
    assert _figures(report) == "accuracy/exported 90.00 %, accuracy/student 90.00 %, accuracy/teacher 90.00 %"
    assert _figures({"rows": 7674.0, "size_mb": 17.04, "r2": 0.4146}) == "r2 0.415, rows 7,674, size mb 17"
    assert _figures({"r2": math.nan}) == "r2 nan"
    assert _figures({"words": 12.0, "used/seconds": 3.0}) == "words 12"  # a component of another distribution
    assert _figures({}) == ""


def test_a_report_is_shown_by_its_place() -> None:
    assert _shown(ReportRef(uri="runs:/5f/report.json", run_id="5f")) == "runs:/5f/report.json"


def test_run_python_stays_in_the_folder_of_its_caller(tmp_path: Path) -> None:
    root, here = tmp_path / "a root", tmp_path / "here"
    (root / ".venv/bin").mkdir(parents=True)
    here.mkdir()
    (root / "run").write_text((ROOT / "run").read_text())
    (root / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (root / ".venv/bin/python").chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (root / name).write_text("")
    wanted = subprocess.run(["sha256sum"], input=b"", capture_output=True, check=True).stdout.decode()
    (root / ".venv/.installed").write_text(wanted)
    command = [
        "bash",
        str(root / "run"),
        "python",
        "-c",
        "import os, sys; print(os.getcwd()); print(sys.argv[1])",
    ]
    said = subprocess.run(
        [*command, "an argument"], cwd=here, capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == [str(here), "an argument"]
