"""Airflow on several machines: PostgreSQL, Redis, a worker for each queue, no torch where Airflow runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from demo.servers import LocalAirflow, LocalMlflow

from modelmill.pipeline.local_run import run_pipeline
from modelmill.pipeline.validation import load_pipeline
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "onnxruntime", "pysail", "sklearn", "tokenizers")
DAG_FILE = """
from pathlib import Path
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(Path(__file__).parent / "pipelines"))  # a file for Airflow and its DAG parser
"""
PIPELINE = """
pipeline: desks
steps:
  raw: {component: delta_table, config: {uri: TABLE}}
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config:
      {key: ticket, text: message, labels: [desk], split: {test: 0.3, validation: 0.1}, to: HOME/dataset}
  teacher:
    component: fine_tune
    inputs: {dataset: dataset.dataset}
    config:
      {base_model: BASE, max_tokens: 16, frozen_layers: 0, epochs: 2, batch_size: 8, learning_rate: 3.0e-3}
  exported: {component: quantize, inputs: {dataset: dataset.dataset, model: teacher.model}}
  report:
    component: evaluate
    inputs: {dataset: dataset.dataset, models: [teacher.model, exported.model]}
    config: {resamples: 200, throughput_rows: 32}
"""
Cluster = Callable[[Mapping[str, str], Mapping[str, str]], AbstractContextManager[LocalAirflow]]
QUEUES = {"raw": "cpu", "dataset": "cpu", "teacher": "gpu", "exported": "cpu", "report": "cpu"}


@pytest.fixture
def light_python(tmp_path: Path) -> Path:
    """The interpreter of an environment like this one, but without what only steps need."""
    folder = tmp_path / "light"
    venv.create(folder, with_pip=False)
    [site] = folder.glob("lib/python*/site-packages")
    for item in Path(sysconfig.get_path("purelib")).iterdir():
        if item.name.split("-")[0].lower() not in HEAVY and not (site / item.name).exists():
            (site / item.name).symlink_to(item)
    return folder / "bin" / "python"


@pytest.fixture
def desks(tmp_path: Path, tiny_base_model: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> str:
    rows = topic_rows(160)
    table = {
        "ticket": [f"T{number}" for number in range(len(rows))],
        "message": [f"{text} {number}" for number, (text, _) in enumerate(rows)],
        "desk": [topic for _, topic in rows],
    }
    write_deltalake(str(tmp_path / "tickets"), pa.table(table))
    return PIPELINE.replace("TABLE", str(tmp_path / "tickets")).replace("BASE", str(tiny_base_model))


@pytest.fixture
def cluster(tmp_path: Path, light_python: Path, postgres: str, redis_url: str) -> Cluster:
    """Return a function that starts an Airflow with a worker for each queue, and MLflow beside it."""

    @contextmanager
    def start(pipelines: Mapping[str, str], parameters: Mapping[str, str]) -> Iterator[LocalAirflow]:
        (tmp_path / "dags" / "pipelines").mkdir(parents=True)
        (tmp_path / "dags" / "loader.py").write_text(DAG_FILE)
        for name, text in pipelines.items():
            (tmp_path / "dags" / "pipelines" / f"{name}.yaml").write_text(text)
        profiles = {
            "cpu": {"queue": "cpu", "python": sys.executable},
            "gpu": {"queue": "gpu", "python": sys.executable, "gpus": 1, "pool": "gpus", "pool_slots": 1},
        }
        (tmp_path / "profiles.yaml").write_text(yaml.safe_dump(profiles))
        with LocalMlflow(tmp_path / "mlflow") as tracking:
            environment = {
                "MLFLOW_TRACKING_URI": tracking.url,
                "MODELMILL_HOME": str(tmp_path / "there"),
                "MODELMILL_PIPELINES": None,
                "AIRFLOW__MODELMILL__PROFILES": str(tmp_path / "profiles.yaml"),
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{postgres}",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{postgres}",
                "AIRFLOW__CELERY__BROKER_URL": redis_url,
                **parameters,
            }
            with LocalAirflow(
                tmp_path / "airflow",
                tmp_path / "dags",
                environment=environment,
                queues=("cpu", "gpu"),
                python=str(light_python),
            ) as server:
                yield server

    return start


@pytest.fixture
def airflow(cluster: Cluster, desks: str, tmp_path: Path) -> Iterator[LocalAirflow]:
    with cluster({"desks": desks.replace("HOME", str(tmp_path / "there"))}, {}) as server:
        yield server


def test_steps_run_on_the_queue_of_their_profile(
    airflow: LocalAirflow, light_python: Path, desks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = subprocess.run(
        [light_python, "-c", f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"],
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "[]"
    with closing(airflow.client()) as client:
        client.wait_for_dag("desks")
        client.unpause("desks")
        run_id = client.trigger("desks")
        assert client.wait("desks", run_id, timeout=400) == "success", client.states("desks", run_id)
        tasks = client.tasks("desks", run_id)
        assert {name: task["queue"] for name, task in tasks.items()} == QUEUES
        assert tasks["teacher"]["pool"] == "gpus"
        assert "this machine has no GPU: the step runs on the CPU" in client.log("desks", run_id, "teacher")
        there = client.xcom("desks", run_id, "report", "report")["uri"]

        check_what_is_missing(airflow, light_python)
        tracking_uri = airflow.environment()["MLFLOW_TRACKING_URI"]
        monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "here"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        (tmp_path / "here.yaml").write_text(desks.replace("HOME", str(tmp_path / "here")))
        embedded = run_pipeline(
            load_pipeline(str(tmp_path / "here.yaml")), settings=Settings.from_environment()
        )
        assert quality(tracking_uri, embedded["report"].outputs["report"].uri) == quality(tracking_uri, there)


@pytest.mark.timeout(7200)
@pytest.mark.skipif(
    not os.environ.get("MODELMILL_LONG_TESTS"), reason="half an hour: set MODELMILL_LONG_TESTS"
)
def test_the_demonstration_gives_the_same_metrics_on_workers(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = (ROOT / "dags" / "pipelines" / "reuters_nightly.yaml").read_text()
    parameters = prepared(tmp_path / "there")
    with cluster({"reuters_nightly": pipeline}, parameters) as server:
        with closing(server.client()) as client:
            client.wait_for_dag("reuters_nightly")
            client.unpause("reuters_nightly")
            run_id = client.trigger("reuters_nightly")
            ended = client.wait("reuters_nightly", run_id, timeout=5400)
            assert ended == "success", client.states("reuters_nightly", run_id)
            queues = {name: task["queue"] for name, task in client.tasks("reuters_nightly", run_id).items()}
            on_workers = client.xcom("reuters_nightly", run_id, "report", "report")["uri"]
        trained = ("teacher", "student")
        assert queues == {name: "gpu" if name in trained else "cpu" for name in queues}
        measured = quality(server.environment()["MLFLOW_TRACKING_URI"], on_workers)

    settings = {"MODELMILL_HOME": str(tmp_path / "here"), **prepared(tmp_path / "here")}
    settings["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/here/mlflow.db"
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "here.yaml").write_text(pipeline)
    embedded = run_pipeline(load_pipeline(str(tmp_path / "here.yaml")), settings=Settings.from_environment())
    report = embedded["report"].outputs["report"].uri
    assert not any(step.reused for step in embedded.values())
    assert quality(os.environ["MLFLOW_TRACKING_URI"], report) == measured


def prepared(home: Path) -> dict[str, str]:
    """Make the demonstration's data; return its parameters."""
    command = [sys.executable, "-m", "demo.samples", "--home", str(home)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    base_model = home / "base_models" / "all-MiniLM-L6-v2"
    return {"MODELMILL_PARAM_DATA": str(home / "data"), "MODELMILL_PARAM_BASE_MODEL": str(base_model)}


def quality(tracking_uri: str, report: str) -> list[Any]:
    tracking_client(tracking_uri)
    content = mlflow.artifacts.load_dict(report)
    return [(model["accuracy"], model["macro_f1"], model["size_mb"]) for model in content["models"]]


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
