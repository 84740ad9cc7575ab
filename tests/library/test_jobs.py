"""Jobs: how a request is read, and how a job is found and started. Spark is not started here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from modelmill import jobs
from modelmill.artifacts import TableRef
from modelmill.errors import EXIT_REFUSED, ConfigError, DatasetError, TableError, TransientError
from modelmill.jobs import JOBS, JobRequest, JobResult, run_as_application, run_job
from modelmill.options import Options
from modelmill.settings import Settings


class Counting(Options):
    column: str = "x"
    limit: int | None = None


class CountResult(JobResult):
    seen: dict[str, Any]


class CountRequest(JobRequest[CountResult]):
    """Count rows."""

    job = "count"

    table: TableRef = Field(description="100 % of the rows.")
    name: str
    where: str | None = None
    most: int = 10
    mode: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = ()
    only_valid: bool = False
    counting: Counting = Counting()


TABLE = {"kind": "table", "uri": "/t", "version": 3}


def main(request: CountRequest, spark: object) -> CountResult:
    assert spark == "session"
    if request.name == "refuse":
        raise TableError("a table must be countable")
    return CountResult(seen=request.model_dump(mode="json"))


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "session", lambda settings=None: contextlib.nullcontext("session"))


def seen(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    run_as_application(CountRequest, main, argv)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["seen"]
    return found


def test_options_are_the_fields_of_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    found = seen(
        capsys,
        *("--table", '{"uri": "/t", "version": 3}', "--name", "null", "--where", "[1]", "--most", "7"),
        *("--mode", "slow", "--names", '["a", "b"]', "--only-valid", "true", "--counting", '{"limit": 2}'),
    )
    assert found == {
        "table": TABLE,
        "name": "null",
        "where": "[1]",
        "most": 7,
        "mode": "slow",
        "names": ["a", "b"],
        "only_valid": True,
        "counting": {"column": "x", "limit": 2},
    }


def test_a_request_is_json_or_a_file_and_single_fields_win(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = json.dumps({"table": TABLE, "name": "n", "most": 1})
    assert seen(capsys, "--request", whole)["most"] == 1
    path = tmp_path / "request.json"
    path.write_text(whole)
    assert seen(capsys, "--request", str(path), "--most", "2")["most"] == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--name", "n"], "'count' must be valid: table: Field required; see --help"),
        (["--name", "n", "--table", "x"], "must be valid: table: Input should be"),
        (["--name", "n", "--table", json.dumps(TABLE), "--mode", "odd"], "mode: Input should be 'fast' or"),
        (["--request", "/nowhere/request.json"], "a request is JSON, or a file with it"),
        (["--request", json.dumps({"table": TABLE, "name": "n", "nme": 1})], "nme: Extra inputs"),
        (["--table", json.dumps(TABLE), "--name", "refuse"], "TableError: a table must be countable"),
    ],
)
def test_what_is_refused_is_one_line_and_no_result(
    capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_as_application(CountRequest, main, argv)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (EXIT_REFUSED, "", 1)
    assert said in err


def test_help_shows_the_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_as_application(CountRequest, main, ["--help"])
    shown = capsys.readouterr().out
    assert "100 % of the rows" in shown
    assert "--only-valid" in shown


@pytest.mark.parametrize("name", ["ingest", "build_dataset", "label_rows", "score_table", "decide"])
def test_own_jobs_are_found_by_name(name: str) -> None:
    assert JOBS.load(name).__module__ == f"modelmill_jobs.{name}"


def test_an_unknown_job_is_refused() -> None:
    with pytest.raises(ConfigError, match="a Spark job must be known; got 'count'"):
        run_job(CountRequest(table=TableRef(uri="/t", version=0), name="n"))


def test_a_master_needs_spark_submit_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings
) -> None:
    monkeypatch.setattr(JOBS, "load", lambda name: main)
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    there = dataclasses.replace(settings, spark_remote="spark://127.0.0.1:7077")
    with pytest.raises(
        ConfigError, match=r"which must be on this machine; got .*; install the cluster's Spark"
    ):
        run_job(CountRequest(table=TableRef(uri="/t", version=0), name="n"), settings=there)


SUBMITS = """#!/bin/sh
[ -z "$MODELMILL_SPARK_REMOTE$SPARK_CONNECT_MODE_ENABLED" ] || exit 9
echo "$@" >ARGUMENTS
cp "$8" ASKED
echo "starting"
ANSWER
"""


def submitting(monkeypatch: pytest.MonkeyPatch, folder: Path, settings: Settings, answer: str) -> CountResult:
    """Run the job through a program that answers as an application does."""
    program = folder / "bin/spark-submit"
    program.parent.mkdir()
    text = SUBMITS.replace("ARGUMENTS", str(folder / "arguments")).replace("ASKED", str(folder / "asked"))
    program.write_text(text.replace("ANSWER", answer))
    program.chmod(0o755)
    monkeypatch.setattr(JOBS, "load", lambda name: main)
    monkeypatch.setenv("SPARK_HOME", str(folder))
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")  # as pyspark leaves it
    there = dataclasses.replace(settings, spark_remote="spark://127.0.0.1:7077")
    return run_job(CountRequest(table=TableRef(uri="/t", version=0), name="n"), settings=there)


def test_a_submitted_job_is_asked_and_answers_in_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings
) -> None:
    result = json.dumps({"result": json.dumps({"seen": {"rows": 3}})})
    found = submitting(monkeypatch, tmp_path, settings, f"echo '{result}' >\"$9\"")
    assert found == CountResult(seen={"rows": 3})
    asked = json.loads((tmp_path / "asked").read_text())
    assert json.loads(asked["request"])["name"] == "n"
    assert asked["request_type"].endswith(":CountRequest")
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith(
        "--master spark://127.0.0.1:7077 --deploy-mode client --name modelmill count "
    )


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            """echo '{"kind": "DatasetError", "message": "a rule; got 1; a remedy"}' >"$9"; exit 2""",
            DatasetError,
            "^a rule; got 1; a remedy$",
        ),
        ("echo 'java.net.ConnectException: refused'; exit 1", TransientError, "refused.*got 'exit status 1'"),
    ],
)
def test_how_a_submitted_job_fails(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: Settings,
    answer: str,
    kind: type[Exception],
    said: str,
) -> None:
    with pytest.raises(kind, match=said):
        submitting(monkeypatch, tmp_path, settings, answer)
