"""Runs through Airflow's own API: started, run again from a step, watched. Nothing executes them here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from modelmill.artifacts import TableRef
from modelmill.errors import ModelmillError
from modelmill.pipeline.progress import ProgressPrinter
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.settings import Settings
from modelmill.system.usage import SECONDS
from modelmill.workspace import Units
from modelmill_plugin.routes import forecasts, run_logs

Call = Callable[[str], Any]


def test_a_run_waits_until_airflow_has_parsed(call: Call, name: str, folder: Path, parse: Any) -> None:
    user = call("user")
    state = user("GET", f"/pipelines/{name}/dag").json()
    assert (state["ready"], state["parsed_digest"]) == (False, None)
    assert "waiting for Airflow to parse" in state["message"]
    assert "its DAG processor is" in state["message"]  # nothing runs here but the API server
    refused = user("POST", f"/pipelines/{name}/runs", {"unpause": True})
    assert refused.status_code == 409
    assert "waiting for Airflow to parse" in refused.json()["message"]
    parse()
    assert user("GET", f"/pipelines/{name}/dag").json()["ready"]
    changed = (folder / "topics.yaml").read_text().replace("/data/topics", "/data/others")
    (folder / "topics.yaml").write_text(changed)
    state = user("GET", f"/pipelines/{name}/dag").json()
    assert (state["ready"], "an earlier version" in state["message"]) == (False, True)


@pytest.fixture(name="foretell")
def _foretell(call: Call, name: str) -> Iterator[Call]:
    """Ask what a run would do; the process that looks for results ends with the test."""
    yield lambda body: call("user")("POST", f"/pipelines/{name}/forecast", body)
    forecasts.REUSE.close()


def test_what_a_run_will_do_is_said_before_it(
    foretell: Call, name: str, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, name, artifact_root=settings.home / "artifacts")
    tags = {"modelmill.step": "raw", "modelmill.component": "delta_table"}
    run = open_run(client, experiment, "0" * 64, name="raw", tags=tags)
    run.log_metrics({SECONDS: 2.5})
    run.finish({"table": TableRef(uri="/data/topics", version=0)})
    plan = foretell({}).json()
    told = {step["step"]: (step["state"], step["seconds"]) for step in plan["steps"]}
    assert told == {"raw": ("known", 2.5), "dataset": ("unknown", None)}
    assert (plan["seconds"], plan["bills"], plan["is_reuse_known"]) == (2.5, [], True)

    text = (folder / "topics.yaml").read_text()
    assert len(foretell({"text": text.partition("  # the labels")[0]}).json()["steps"]) == 1
    other = foretell({"text": text.replace(name, "somebody_elses")})
    assert (other.status_code, "somebody_elses" in other.json()["message"]) == (422, True)

    stored = foretell({"text": text.replace("steps:", "storage_connection: lake\nsteps:", 1)})
    assert stored.status_code == 200, stored.text
    assert not stored.json()["is_reuse_known"]  # only the step's own process has the store's secrets
    monkeypatch.setattr(forecasts, "SECONDS", 0.0)
    late = foretell({}).json()
    assert (late["seconds"], late["is_reuse_known"]) == (2.5, False)


def test_a_pipeline_runs_again_from_a_step(call: Call, name: str, parse: Any) -> None:
    parse()
    user = call("user")
    paused = user("POST", f"/pipelines/{name}/runs", {})
    assert paused.status_code == 409
    assert "not paused" in paused.json()["message"]
    started = user("POST", f"/pipelines/{name}/runs", {"unpause": True})
    assert started.status_code == 200, started.text
    run_id = started.json()["run_id"]

    run = call("viewer")("GET", f"/pipelines/{name}/runs/{run_id}").json()
    digest = user("GET", f"/pipelines/{name}").json()["digest"]
    assert (run["state"], run["user"], run["digest"]) == ("queued", "user", digest)
    assert {node["step"]: node["state"] for node in run["nodes"]} == {"raw": None, "dataset": None}
    assert user("GET", f"/pipelines/{name}/digests/{digest}").json()["dag_id"] == name

    _finish(name, run_id)
    again = user("POST", f"/pipelines/{name}/runs", {"mode": "from", "step": "raw"})
    assert again.status_code == 200, again.text
    assert (again.json()["run_id"], sorted(again.json()["steps"])) == (run_id, ["dataset", "raw"])
    _finish(name, run_id)
    alone = user("POST", f"/pipelines/{name}/runs", {"mode": "only", "step": "raw"}).json()
    assert alone["steps"] == ["raw"]
    assert [item["run_id"] for item in user("GET", f"/pipelines/{name}/runs").json()] == [run_id]
    [listed] = [item for item in user("GET", "/pipelines").json()["pipelines"] if item["dag_id"] == name]
    assert listed["last_run"]["run_id"] == run_id
    other = user("POST", f"/pipelines/{name}/runs", {"mode": "from", "step": "nothing"})
    assert (other.status_code, "run all" in other.json()["remedy"]) == (409, True)


GROUPED = """\
pipeline: NAME
groups:
  each_topic: {steps: [dataset, teacher, verdict], for_each: {topic: [grain, Crude Oil]}}
steps:
  raw: {component: delta_table, config: {uri: /data/topics}}
  dataset: {component: build_dataset, inputs: {table: raw.table}, config: {text: text, labels: ["${topic}"]}}
  teacher: {component: fine_tune, inputs: {dataset: dataset.dataset}, config: {base_model: "/m/${topic}"}}
  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: teacher.model}
    config: {name: NAME}
"""


def test_a_written_step_is_all_its_copies(call: Call, name: str, folder: Path, parse: Any) -> None:
    (folder / "topics.yaml").write_text(GROUPED.replace("NAME", name))
    parse()
    user = call("user")
    run_id = user("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]

    run = call("viewer")("GET", f"/pipelines/{name}/runs/{run_id}").json()
    nodes = {node["step"]: (node["of"], node["value"]) for node in run["nodes"]}
    written = ("dataset", "teacher", "verdict")
    assert nodes == {
        "raw": ("raw", None),
        **{f"{step}__grain": (step, "grain") for step in written},
        **{f"{step}__crude_oil": (step, "Crude Oil") for step in written},
    }
    assert run["digest"] == user("GET", f"/pipelines/{name}").json()["digest"]

    def again(mode: str, step: str) -> set[str]:
        _finish(name, run_id)
        answer = user("POST", f"/pipelines/{name}/runs", {"mode": mode, "step": step})
        assert answer.status_code == 200, answer.text
        return set(answer.json()["steps"])

    assert again("only", "teacher") == {"teacher__grain", "teacher__crude_oil"}
    assert again("only", "teacher__grain") == {"teacher__grain"}
    assert again("from", "teacher__grain") == {"teacher__grain", "verdict__grain"}
    assert again("from", "teacher") == {
        f"{step}__{of}" for step in written[1:] for of in ("grain", "crude_oil")
    }
    unknown = user("POST", f"/pipelines/{name}/runs", {"mode": "only", "step": "teacher__ship"})
    assert unknown.status_code == 409


def test_a_run_of_an_earlier_version_is_shown_as_that_was_written(
    call: Call, name: str, folder: Path, parse: Any
) -> None:
    (folder / "topics.yaml").write_text(GROUPED.replace("NAME", name))
    parse()
    user = call("user")
    run_id = user("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    (folder / "topics.yaml").write_text(GROUPED.replace("NAME", name).replace("Crude Oil", "ship"))
    parse()
    run = user("GET", f"/pipelines/{name}/runs/{run_id}").json()
    assert {node["value"] for node in run["nodes"]} == {None, "grain", "Crude Oil"}


def test_a_viewer_cannot_run_through_airflows_api_either(call: Call, name: str, parse: Any) -> None:
    """The second door is locked too: the call within carries the caller's own token."""
    import asyncio

    from starlette.requests import Request

    from modelmill_plugin.airflow_api import AirflowApi

    parse()
    token = call("viewer").client.headers["authorization"]
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "server": ("airflow.example.org", 80),
        "path": "/",
        "query_string": b"",
        "headers": [(b"authorization", token.encode()), (b"host", b"airflow.example.org")],
    }
    api = AirflowApi(Request(scope))
    with pytest.raises(ModelmillError, match="Forbidden"):
        asyncio.run(api.call("POST", "dags", name, "dagRuns", body={"logical_date": None}))


# Airflow's reader leaves the file to the garbage collector, and its answer warns of its own shape.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::UserWarning:pydantic")
def test_a_log_is_read_from_its_end(call: Call, name: str, parse: Any) -> None:
    parse()
    user = call("user")
    run_id = user("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    _finish(name, run_id, try_number=1)
    folder = Path(os.environ["AIRFLOW_HOME"]) / "logs" / f"dag_id={name}" / f"run_id={run_id}" / "task_id=raw"
    folder.mkdir(parents=True)
    lines = ["::group::Log message source details", "::endgroup::"]
    lines += [f"line {number}" for number in range(300)]
    lines += ["raw:  42% (4,200 of 10,000 training steps), loss 0.5, epoch 2, 60:10 left", "raw: done"]
    (folder / "attempt=1.log").write_text("\n".join(lines) + "\n")
    tail = user("GET", f"/pipelines/{name}/runs/{run_id}/steps/raw/log?lines=5")
    assert tail.status_code == 200, tail.text
    tail = tail.json()
    assert [line["text"] for line in tail["lines"]] == ["line 297", "line 298", "line 299", *lines[-2:]]
    assert tail["cut"]
    whole = user("GET", f"/pipelines/{name}/runs/{run_id}/steps/raw/log?lines=5000").json()
    assert not [line for line in whole["lines"] if "group::" in line["text"]]
    assert tail["progress"] == {
        "share": 0.42,
        "done": 4200,
        "total": 10000,
        "what": "training steps",
        "figures": {"loss": 0.5, "epoch": 2.0},
        "seconds_left": 3610,
    }
    assert tail["said"] == ""  # no line of this file says which logger wrote it
    assert user("GET", f"/pipelines/{name}/runs/{run_id}/steps/nothing/log").status_code == 404
    far = user("GET", f"/pipelines/{name}/runs/{run_id}/steps/raw/log?try_number={2**70}")
    assert (far.status_code, far.json()["kind"]) == (422, "RequestError")


def test_every_unit_of_progress_is_read_from_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    for what in get_args(Units):
        printer = ProgressPrinter("raw", every=0)
        printer(1, 4, what=what)
        printer(2, 4, what=what, loss=0.5)
        (line,) = capsys.readouterr().out.splitlines()
        found = run_logs._progress("raw", [run_logs.LogLine(time=None, level=None, text=line)])
        assert found is not None, line
        assert (found.what, found.done, found.total) == (what, 2, 4)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["this machine has no GPU"], "this machine has no GPU"),
        (["raw: exports", "raw:  42% (42 of 100 training steps), 0:10 left"], ""),
        (["raw:  42% (42 of 100 training steps), 0:10 left", "raw: exports"], "exports"),
        ([], ""),
    ],
)
def test_what_a_step_has_said_last_is_told_from_what_airflow_says(lines: list[str], said: str) -> None:
    own = "airflow.task.operators.modelmill_operators.operators.FineTuneOperator"
    items = [
        {"event": "::group::Pre Execute", "logger": "task"},
        *({"event": line, "logger": own} for line in lines),
        {"event": "Pushing xcom", "logger": "task"},
    ]
    assert run_logs._said("raw", items) == said


def test_what_is_not_there_is_said(call: Call, name: str, parse: Any) -> None:
    answer = call("user")("GET", f"/pipelines/{name}/runs/nothing")
    assert (answer.status_code, answer.json()["kind"]) == (404, "NotFoundError")


def test_parsing_is_asked_for(call: Call, name: str, parse: Any) -> None:
    parse()
    for _ in range(2):  # the second time nobody has parsed yet
        answer = call("user")("POST", f"/pipelines/{name}/parse", {})
        assert answer.json() == {"asked": True, "message": ""}


def _finish(name: str, run_id: str, *, try_number: int | None = None) -> None:
    """What the scheduler and its workers do: every task succeeds."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == name, DagRun.run_id == run_id))
        run.state = DagRunState.SUCCESS
        for item in session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)):
            if item.dag_id == name:
                item.state = TaskInstanceState.SUCCESS
                item.try_number = item.try_number if try_number is None else try_number
