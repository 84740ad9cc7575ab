"""A company's servers: PostgreSQL, Redis, MLflow with users, S3, Spark, a worker for each queue.

The same pipeline gives the same champion there and embedded, and no torch is needed where Airflow runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from demo.servers import LocalAirflow, Topology
from demo.servers.airflow_client import AirflowClient
from demo.servers.topology import BUCKET, missing

from modelmill.pipeline.local_run import run_pipeline
from modelmill.pipeline.validation import load_pipeline
from modelmill.settings import Settings

Rows = Callable[..., list[tuple[str, str]]]
pytestmark = [pytest.mark.airflow, pytest.mark.jvm, pytest.mark.timeout(1200)]

HEAVY = ("torch", "transformers", "onnxruntime", "pysail", "sklearn", "tokenizers")
DAG_FILE = """
from pathlib import Path
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(Path(__file__).parent / "pipelines"))  # a file for Airflow and its DAG parser
"""
TRAINING = """{base_model: BASE, max_tokens: 16, frozen_layers: 0, epochs: 4, batch_size: 8,
      learning_rate: 3.0e-3, head_learning_rate: 1.0e-2}"""
GATE = "max_drop: 0.2, max_below_baseline: 0.3, min_recall: null, max_calibration_error: null, resamples: 200"
DESKS = f"""
pipeline: desks
steps:
  raw: {{component: delta_table, config: {{uri: TABLE}}}}
  dataset:
    component: build_dataset
    inputs: {{table: raw.table}}
    config:
      {{key: ticket, text: message, labels: [desk], split: {{test: 0.3, validation: 0.1}}, to: HOME/dataset}}
  teacher:
    component: fine_tune
    inputs: {{dataset: dataset.dataset}}
    config: {TRAINING}
  exported: {{component: quantize, inputs: {{dataset: dataset.dataset, model: teacher.model}}}}
  verdict:
    component: gate
    inputs: {{dataset: dataset.dataset, challenger: exported.model}}
    config: {{name: ticket_desk, {GATE}}}
  champion: {{component: promote, inputs: {{verdict: verdict.verdict}}}}
  scored:
    component: score_table
    inputs: {{table: raw.table, model: champion.model}}
    config: {{to: HOME/scored}}
"""
DAILY = f"""
pipeline: daily
schedule: "0 2 * * *"
params:
  logical_date: {{description: As the table was then}}
steps:
  rows: {{component: delta_table, config: {{uri: TABLE, timestamp: "${{logical_date}}"}}}}
  dataset:
    component: build_dataset
    inputs: {{table: rows.table}}
    config:
      {{key: ticket, text: message, labels: [desk], split: {{test: 0.3, validation: 0.1}},
       near_duplicates: null}}
  model:
    component: fine_tune
    inputs: {{dataset: dataset.dataset}}
    config: {TRAINING}
  verdict:
    component: gate
    inputs: {{dataset: dataset.dataset, challenger: model.model}}
    config: {{name: daily_desk, {GATE}}}
  champion: {{component: promote, inputs: {{verdict: verdict.verdict}}}}
"""
FIRST_ROWS, ROWS_A_DAY, DAYS = 40, 30, 7
QUEUES = dict.fromkeys(("raw", "dataset", "exported", "verdict", "champion", "scored"), "cpu")


@pytest.fixture(scope="module")
def light_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment like this one, but without what only steps need."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder, with_pip=False)
    [site] = folder.glob("lib/python*/site-packages")
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        if item.name.split("-")[0].lower() not in HEAVY and not (site / item.name).exists():
            (site / item.name).symlink_to(item)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("topology")


def tickets(rows: list[tuple[str, str]]) -> pa.Table:
    table = {
        "ticket": [f"T{number}" for number in range(len(rows))],
        "message": [f"{text} {number}" for number, (text, _) in enumerate(rows)],
        "desk": [topic for _, topic in rows],
    }
    return pa.table(table)


@pytest.fixture(scope="module")
def days() -> list[datetime]:
    """Seven nights; the last one is none of them: it runs by itself, before the backfill."""
    today = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=2 + back) for back in reversed(range(DAYS))]


@pytest.fixture(scope="module")
def daily(home: Path, days: list[datetime], tiny_base_model: Path, topic_rows: Rows) -> str:
    """A pipeline that reads a table which has grown an hour before each night, and before the last one."""
    table, rows = str(home / "daily"), tickets(topic_rows(FIRST_ROWS + DAYS * ROWS_A_DAY))
    before = 0
    for version, day in enumerate([*days, days[-1] + timedelta(days=1)]):
        until = FIRST_ROWS + version * ROWS_A_DAY
        write_deltalake(table, rows.slice(before, until - before), mode="append")
        moment = (day - timedelta(hours=1)).timestamp()
        os.utime(home / "daily" / "_delta_log" / f"{version:020d}.json", (moment, moment))
        before = until
    return DAILY.replace("TABLE", table).replace("BASE", str(tiny_base_model))


@pytest.fixture(scope="module")
def desks(home: Path, tiny_base_model: Path, topic_rows: Rows) -> str:
    write_deltalake(str(home / "tickets"), tickets(topic_rows(160)))
    return DESKS.replace("TABLE", str(home / "tickets")).replace("BASE", str(tiny_base_model))


@pytest.fixture(scope="module")
def topology(home: Path, desks: str, daily: str, light_python: Path) -> Iterator[Topology]:
    if lacking := missing():
        pytest.skip(f"needs {'; '.join(lacking)}")
    pipelines = home / "dags" / "pipelines"
    pipelines.mkdir(parents=True)
    (home / "dags" / "loader.py").write_text(DAG_FILE)
    (pipelines / "daily.yaml").write_text(daily)
    (pipelines / "desks.yaml").write_text(desks.replace("HOME", str(home / "there")))
    with Topology(home / "servers", home / "dags", python=str(light_python)) as servers:
        yield servers


def test_the_champion_is_that_of_the_embedded_default(
    topology: Topology, light_python: Path, desks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = subprocess.run(
        [light_python, "-c", f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"],
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "[]"
    with closing(topology.airflow.client()) as client:
        client.wait_for_dag("desks")
        client.unpause("desks")
        run_id = client.trigger("desks")
        assert client.wait("desks", run_id, timeout=900) == "success", client.states("desks", run_id)
        tasks = client.tasks("desks", run_id)
        assert {name: task["queue"] for name, task in tasks.items()} == {**QUEUES, "teacher": "gpu"}
        assert tasks["teacher"]["pool"] == "gpus"
        assert "this machine has no GPU: the step runs on the CPU" in client.log("desks", run_id, "teacher")
        there = client.xcom("desks", run_id, "champion", "model")
        scored = client.xcom("desks", run_id, "scored", "table")
    check_what_is_missing(topology.airflow, light_python)
    check_who_may_ask(topology)
    # An application's executors have a folder each on both workers.
    assert all(
        list((topology.spark.home / worker).glob("app-*/*/stderr")) for worker in ("worker0", "worker1")
    )

    for name in topology.environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "here"))
    (tmp_path / "here.yaml").write_text(desks.replace("HOME", str(tmp_path / "here")))
    embedded = run_pipeline(load_pipeline(str(tmp_path / "here.yaml")), settings=Settings.from_environment())
    here: Any = embedded["champion"].outputs["model"]
    assert (there["uri"], there["digest"]) == (here.uri, here.digest)
    tables = [scored["uri"], embedded["scored"].outputs["table"].uri]
    assert answers(tables[0]) == answers(tables[1])


@pytest.mark.skipif(not os.environ.get("MODELMILL_LONG_TESTS"), reason="minutes: set MODELMILL_LONG_TESTS")
def test_a_backfill_reads_a_growing_table_as_it_was_and_moves_no_champion(
    topology: Topology, light_python: Path, days: list[datetime]
) -> None:
    with closing(topology.airflow.client()) as client:
        client.wait_for_dag("daily")
        client.unpause("daily")
        # Airflow schedules nothing that is past when a pipeline is switched on.
        night = client.trigger("daily", logical_date=days[-1] + timedelta(days=1))
        assert client.wait("daily", night, timeout=900) == "success", client.states("daily", night)
        assert client.states("daily", night)["champion"] == "success"
        dates = ["--from-date", days[0].isoformat(), "--to-date", days[-1].isoformat()]
        command = [light_python, "-m", "airflow", "backfill", "create", "--dag-id", "daily", *dates]
        environment = {**os.environ, **topology.airflow.environment()}
        subprocess.run([*command, "--max-active-runs", "2"], env=environment, check=True)
        past = wait_for_runs(client, "backfill", DAYS)
        for number, run_id in enumerate(past):
            assert client.states("daily", run_id)["champion"] == "skipped"
            read = client.xcom("daily", run_id, "rows", "table")
            made = client.xcom("daily", run_id, "dataset", "dataset")
            assert read["version"] == number
            rows = DeltaTable(made["uri"], version=made["version"]).to_pyarrow_table(columns=["example_key"])
            assert rows.num_rows == FIRST_ROWS + number * ROWS_A_DAY
    check_registry_and_hindsight(topology, days)


def wait_for_runs(client: AirflowClient, kind: str, count: int) -> list[str]:
    """Wait until so many runs have succeeded; return their ids, the oldest logical date first."""
    deadline = time.monotonic() + 900
    while True:
        runs = client.call("GET", "/dags/daily/dagRuns", params={"run_type": kind})["dag_runs"]
        states = [run["state"] for run in runs]
        assert "failed" not in states, [client.states("daily", run["dag_run_id"]) for run in runs]
        if states.count("success") == count:
            return [run["dag_run_id"] for run in sorted(runs, key=lambda run: run["logical_date"])]
        assert time.monotonic() < deadline, states
        time.sleep(1)


def check_registry_and_hindsight(topology: Topology, days: list[datetime]) -> None:
    environment = {**os.environ, **topology.environment}
    user = environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"]
    api = f"{topology.mlflow.url}/api/2.0/mlflow"
    asked = {"filter": "name='daily_desk'"}
    found = httpx.get(f"{api}/model-versions/search", params=asked, auth=user).json()["model_versions"]
    assert [version["version"] for version in found] == ["1"]
    model = httpx.get(f"{api}/registered-models/get", params={"name": "daily_desk"}, auth=user).json()
    assert model["registered_model"]["aliases"] == [{"alias": "champion", "version": "1"}]
    command = [sys.executable, "-m", "modelmill", "hindsight", "daily", "--until", days[-1].isoformat()]
    print(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    done = subprocess.run([*command, "--json"], env=environment, check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert [datetime.fromisoformat(one["day"]) for one in told["days"]] == days
    assert len({one["digest"] for one in told["days"]}) == DAYS
    assert len({one["dataset"] for one in told["days"]}) == DAYS
    assert told["dataset"] == told["days"][-1]["dataset"]
    assert told["rows"] > 0.2 * (FIRST_ROWS + (DAYS - 1) * ROWS_A_DAY)


def answers(table: str) -> list[tuple[str, str, float]]:
    rows = DeltaTable(table).to_pyarrow_table().sort_by("ticket").to_pylist()
    return [(row["ticket"], row["prediction"], round(row["score"], 5)) for row in rows]


def check_who_may_ask(topology: Topology) -> None:
    """MLflow knows the user, who is no administrator; artifacts lie in the store, whose key no step has."""
    search = f"{topology.mlflow.url}/api/2.0/mlflow/experiments/search?max_results=1"
    environment = topology.airflow.environment()
    user = environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"]
    assert httpx.get(search).status_code == 401
    assert httpx.get(search, auth=user).status_code == 200
    users = f"{topology.mlflow.url}/api/2.0/mlflow/users/create"
    new = {"username": "another", "password": "a password of his"}
    assert httpx.post(users, json=new, auth=user).status_code == 403
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(environment)
    stored = httpx.get(f"{topology.store.url}/{BUCKET}?list-type=2&prefix=mlflow/").text
    assert "model.onnx" in stored


def check_what_is_missing(airflow: LocalAirflow, python: Path) -> None:
    def check(profiles: dict[str, Any]) -> tuple[int, str]:
        path = airflow.home / "other.yaml"
        path.write_text(json.dumps(profiles))
        environment = airflow.environment() | {"AIRFLOW__MODELMILL__PROFILES": str(path)}
        done = subprocess.run(
            [python, "-m", "modelmill_operators", "profiles", "--check"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    status, said = check({"any": {"queue": "cpu", "pool": "gpus", "pool_slots": 1}})
    assert status == 0, said
    status, said = check({"any": {"queue": "gpuu", "pool": "none", "pool_slots": 1}})
    assert status == 1
    assert "no worker listens on queue 'gpuu'" in said
    assert "did you mean 'gpu'" in said
    assert "there is no pool 'none'" in said
