"""A real Airflow and a real MLflow: what a user sees of a pipeline there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers import AirflowClient, LocalAirflow, LocalMlflow
from demo.servers.guard import family

from modelmill.settings import MODEL_TRAINING
from modelmill_operators.triggers import MEMORY_KEY

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("toy_components")]

DAG_FILE = """
from pathlib import Path
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(Path(__file__).parent / "pipelines"))  # a file for Airflow and its DAG parser
"""
FLOW = """
pipeline: flow
schedule: "0 2 * * *"
params: {number: {default: 1, description: Where to begin}}
steps:
  first: {component: count, config: {journal: JOURNAL, number: "${number}"}}
  second: {component: count, inputs: {table: first.table}, config: {journal: JOURNAL, number: "${number}"}}
"""
ONE = """
pipeline: BEHAVIOUR
steps: {only: {component: count, config: {journal: JOURNAL, behaviour: BEHAVIOUR}}}
"""
BRANCHES = """
pipeline: branches
groups: {each: {steps: [counted, verdict, kept, redone], for_each: {number: [1, 20]}}}
steps:
  counted: {component: count, config: {journal: JOURNAL, number: "${number}"}}
  verdict: {component: judge, inputs: {table: counted.table}, config: {name: "of_${number}"}}
  kept: {component: gather, inputs: {tables: [counted.table]}, when: {verdict: accepted}}
  redone: {component: count, when: {verdict: refused}, config: {journal: JOURNAL, number: 5}}
  every: {component: gather, inputs: {tables: counted.table}}
  all_kept: {component: gather, inputs: {tables: kept.table}}
"""
WATCHED = """
pipeline: watched
params: {data: {default: DATA}}
schedule: {table: "${data}/raw"}
steps: {raw: {component: delta_table, config: {uri: "${data}/raw"}}}
"""


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[LocalMlflow]:
    with LocalMlflow(tmp_path / "mlflow") as server:
        yield server


@pytest.fixture
def airflow(tmp_path: Path, mlflow: LocalMlflow) -> Iterator[LocalAirflow]:
    pipelines = tmp_path / "dags" / "pipelines"
    pipelines.mkdir(parents=True)
    (tmp_path / "dags" / "loader.py").write_text(DAG_FILE)
    (pipelines / "flow.yaml").write_text(FLOW.replace("JOURNAL", str(tmp_path / "flow.journal")))
    (pipelines / "branches.yaml").write_text(BRANCHES.replace("JOURNAL", str(tmp_path / "branches.journal")))
    for behaviour in ("refuse", "die", "sleep"):
        text = ONE.replace("JOURNAL", str(tmp_path / f"{behaviour}.journal")).replace("BEHAVIOUR", behaviour)
        (pipelines / f"{behaviour}.yaml").write_text(text)
    (pipelines / "watched.yaml").write_text(WATCHED.replace("DATA", str(tmp_path / "data")))
    (pipelines / "broken.yaml").write_text("pipeline: broken\nstep: {}\n")
    environment = {
        "MLFLOW_TRACKING_URI": mlflow.url,
        "MODELMILL_HOME": str(tmp_path / "home"),
        "MODELMILL_PIPELINES": None,
        "AIRFLOW__MODELMILL__RETRY_DELAY": "1",
        "AIRFLOW__MODELMILL__POLL_SECONDS": "0.5",
        # A triggerer that was killed is missed after this time.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    }
    with LocalAirflow(tmp_path / "airflow", tmp_path / "dags", environment=environment) as server:
        yield server


def test_pipelines_in_a_real_airflow(airflow: LocalAirflow, mlflow: LocalMlflow, tmp_path: Path) -> None:
    """One test, because starting the servers takes most of its time."""
    with closing(airflow.client()) as client:
        for dag_id in ("flow", "branches", "refuse", "die", "sleep", "broken", "watched"):
            client.wait_for_dag(dag_id)
            client.unpause(dag_id)
        began = time.monotonic()
        runs = {dag_id: client.trigger(dag_id) for dag_id in ("branches", "refuse", "die", "sleep")}
        first_run = client.trigger("flow", {"number": 20})
        assert client.wait("flow", first_run) == "success", client.log("flow", first_run, "first")
        print(f"a run of two steps took {time.monotonic() - began:.1f} s")

        check_what_a_finished_run_shows(client, first_run, mlflow)
        check_that_a_second_run_reuses(client, first_run, tmp_path)
        check_that_a_refused_gate_chooses_the_branch(client, runs["branches"])
        check_that_a_refusal_is_final(client, runs["refuse"])
        check_that_a_killed_step_is_tried_again(client, runs["die"])
        check_that_ending_a_task_ends_its_processes(client, runs["sleep"], tmp_path)
        began = time.monotonic()
        check_that_a_table_starts_its_pipeline(airflow, client, tmp_path / "data" / "raw")
        print(f"three runs that a table started took {time.monotonic() - began:.1f} s")
        check_what_is_registered(client, mlflow)

    assert airflow.servers is not None
    mark = airflow.servers.mark
    assert family([], mark)
    airflow.stop()
    assert not family([], mark)


def check_what_a_finished_run_shows(client: AirflowClient, run_id: str, mlflow: LocalMlflow) -> None:
    assert client.xcom("flow", run_id, "second")["table"] == {"kind": "table", "uri": "/toy", "version": 40}
    assert "attempt 1 of first" in client.log("flow", run_id, "first").splitlines()
    step = client.xcom("flow", run_id, "first", "modelmill_step")
    link = client.links("flow", run_id, "first")["MLflow run"]
    assert link == step["run_url"]
    assert str(link).startswith(f"{mlflow.url}/#/experiments/")
    assert str(link).endswith(f"/runs/{step['run_id']}{MODEL_TRAINING}")
    tracked = httpx.get(f"{mlflow.url}/api/2.0/mlflow/runs/get", params={"run_id": step["run_id"]}).json()[
        "run"
    ]
    tags = {tag["key"]: tag["value"] for tag in tracked["data"]["tags"]}
    assert tracked["info"]["status"] == "FINISHED"
    assert (tags["airflow.dag_id"], tags["airflow.run_id"], tags["airflow.task_id"]) == (
        "flow",
        run_id,
        "first",
    )


def check_that_a_second_run_reuses(client: AirflowClient, first_run: str, tmp_path: Path) -> None:
    run_id = client.trigger("flow", {"number": 20})
    assert client.wait("flow", run_id) == "success"
    before, after = (client.xcom("flow", run, "second", "modelmill_step") for run in (first_run, run_id))
    assert after == {**before, "reused": True}
    assert sorted((tmp_path / "flow.journal").read_text().split()) == ["first", "second"]


def check_that_a_refusal_is_final(client: AirflowClient, run_id: str) -> None:
    assert client.wait("refuse", run_id) == "failed"
    assert client.tasks("refuse", run_id)["only"]["try_number"] == 1
    assert "a number must be even; got 0; add one" in client.log("refuse", run_id, "only")


def check_that_a_refused_gate_chooses_the_branch(client: AirflowClient, run_id: str) -> None:
    assert client.wait("branches", run_id) == "success"
    skipped = {task for task, state in client.states("branches", run_id).items() if state == "skipped"}
    assert skipped == {"kept__20", "redone__1", "all_kept"}
    assert client.xcom("branches", run_id, "every")["table"]["version"] == 21
    assert client.xcom("branches", run_id, "redone__20")["table"]["version"] == 5
    reason = "of_20 was refused, and this step runs if it is accepted"
    assert reason in client.log("branches", run_id, "kept__20")


def check_that_a_killed_step_is_tried_again(client: AirflowClient, run_id: str) -> None:
    assert client.wait("die", run_id) == "success"
    assert client.tasks("die", run_id)["only"]["try_number"] == 2
    assert client.xcom("die", run_id, "only", "modelmill_step")["reused"] is False


def check_that_ending_a_task_ends_its_processes(client: AirflowClient, run_id: str, tmp_path: Path) -> None:
    pid_file = tmp_path / "sleep.pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    grandchild = psutil.Process(int(pid_file.read_text()))
    step = grandchild.parent()
    assert step is not None
    client.set_task_state("sleep", run_id, "only", "failed")
    wait_until(lambda: is_gone(step) and is_gone(grandchild))
    assert client.wait("sleep", run_id) == "failed"


def check_that_a_table_starts_its_pipeline(airflow: LocalAirflow, client: AirflowClient, table: Path) -> None:
    assert airflow.servers is not None
    log = airflow.servers.log_path("triggerer")
    wait_until(lambda: f"waiting for a table at {table}" in log.read_text())
    # Nobody is at work while the table is waited for: no run, no task, no slot.
    assert versions_started(client) == []
    pool = client.call("GET", "/pools/default_pool")
    assert (pool["occupied_slots"], pool["deferred_slots"]) == (0, 0)

    commit(table)
    wait_until(lambda: versions_started(client) == [0])
    commit(table)
    wait_until(lambda: versions_started(client) == [0, 1])
    wait_until(lambda: remembered(client) == 1)

    airflow.servers.kill("triggerer")
    commit(table)
    commit(table)
    airflow.start_server("triggerer")
    wait_until(lambda: versions_started(client)[2:] == [3])  # nothing lost, and 1 not told again
    wait_until(lambda: remembered(client) == 3)

    airflow.servers.kill("triggerer")  # one that has watched something takes ten seconds to leave

    for run, version in zip(watched_runs(client), (0, 1, 3), strict=True):
        assert client.wait("watched", run["dag_run_id"]) == "success"
        assert client.xcom("watched", run["dag_run_id"], "raw")["table"]["version"] >= version


def commit(table: Path) -> None:
    write_deltalake(str(table), pa.table({"n": [1]}), mode="append")


def watched_runs(client: AirflowClient) -> list[Any]:
    answer = client.call("GET", "/dags/watched/dagRuns", params={"order_by": "id"})
    assert {run["run_type"] for run in answer["dag_runs"]} <= {"asset_triggered"}
    # Airflow 3.3 cannot show the events of a run that has not started: it fails over the missing date.
    return [run for run in answer["dag_runs"] if run["start_date"]]


def versions_started(client: AirflowClient) -> list[int]:
    """Return the version that each event of each run tells of."""
    found = []
    for run in watched_runs(client):
        path = f"/dags/watched/dagRuns/{run['dag_run_id']}/upstreamAssetEvents"
        events = client.call("GET", path)["asset_events"]
        found += sorted(event["extra"]["payload"]["version"] for event in events)
    return found


def remembered(client: AirflowClient) -> int:
    """Return the version that the triggerer would go on from."""
    (asset,) = client.call("GET", "/assets", params={"dag_ids": "watched"})["assets"]
    assert [watcher["name"] for watcher in asset["watchers"]] == ["delta_table"]
    states = client.call("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"]
    kept = {state["key"]: state["value"] for state in states}
    return int(kept[MEMORY_KEY]["version"]) if MEMORY_KEY in kept else -1


def check_what_is_registered(client: AirflowClient, mlflow: LocalMlflow) -> None:
    assert client.import_errors() == []
    broken = client.call("GET", "/dags/broken/details")
    assert {tag["name"] for tag in broken["tags"]} == {"invalid", "modelmill"}
    assert "unknown key; got 'step'" in broken["doc_md"]
    details = client.call("GET", "/dags/flow/details")
    assert details["params"]["number"]["description"] == "Where to begin"
    assert details["timetable_summary"] == "0 2 * * *"
    # Each of them was parsed several times by now.
    assert client.call("GET", "/dags/flow/dagVersions")["total_entries"] == 1
    plugins = {plugin["name"]: plugin for plugin in client.call("GET", "/plugins")["plugins"]}
    assert [view["href"] for view in plugins["modelmill"]["external_views"]] == [mlflow.url]
    assert "modelmill" in json.dumps(client.call("GET", "/providers", params={"limit": 100}))


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(true: Callable[[], bool], *, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
