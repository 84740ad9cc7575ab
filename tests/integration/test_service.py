"""The shipped pipelines reuters_service and reuters_watch in a real Airflow, beside a real service.

A model is made, promoted and deployed; the service answers with it. Then texts drift: the watch raises an
alarm, whose asset event starts the first pipeline again, and the service swaps to what comes out of it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from demo.servers import AirflowClient, LocalAirflow, LocalMlflow
from demo.servers.processes import free_port

# Two trainings and two nights: more than a busy machine does in the time that a test usually has.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(3000)]

ROOT = Path(__file__).parents[2]
TREES = ("ashes", "cedar", "elder", "hazel", "larch", "maple", "olive", "palms", "pines", "rowan")
MADE, WATCH = "reuters_service", "reuters_watch"
Rows = Callable[..., list[tuple[str, str]]]


def land(folder: Path, name: str, rows: list[tuple[str, str]], *, test_share: float) -> None:
    """Write rows as the demo's files are."""
    folder.mkdir(parents=True, exist_ok=True)
    every = round(1 / test_share)
    with (folder / f"{name}.jsonl").open("w") as file:
        for number, (text, topic) in enumerate(rows):
            split = "test" if number // 2 % every == 0 else "train"
            # Words that tell texts apart and that training knows: new ones would be drift.
            own = " ".join(random.Random(f"{name}-{number}").choices(TREES, k=4))
            row = {"id": f"{name}-{number:05d}", "topic": topic, "text": f"{text} {own}", "split": split}
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def data(tmp_path: Path, topic_rows: Rows) -> Path:
    """The folder of the tables, with rows to learn from."""
    land(tmp_path / "data" / "landing" / "reuters_r8", "first", topic_rows(800), test_share=0.3)
    return tmp_path / "data"


@pytest.fixture
def environment(tmp_path: Path, data: Path, tiny_base_model: Path) -> Iterator[dict[str, str]]:
    with LocalMlflow(tmp_path / "mlflow") as mlflow:
        yield {
            "MLFLOW_TRACKING_URI": mlflow.url,
            "MODELMILL_HOME": str(tmp_path / "home"),
            "MODELMILL_PIPELINES": str(ROOT / "dags" / "pipelines"),
            "MODELMILL_PARAM_DATA": str(data),
            "MODELMILL_PARAM_BASE_MODEL": str(tiny_base_model),
            "MODELMILL_PARAM_RULES": str(ROOT / "dags" / "rules"),
        }


@pytest.fixture
def service(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """A service that serves whatever deploy steps say; its URL."""
    port = free_port()
    log = tmp_path / "service.log"
    command = [sys.executable, "-m", "modelmill", "serve", "--service", "main", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def airflow(tmp_path: Path, environment: dict[str, str], service: str) -> Iterator[LocalAirflow]:
    given = {**environment, "MODELMILL_PARAM_SERVICE_URL": service}
    with LocalAirflow(tmp_path / "airflow", ROOT / "dags", environment=given) as server:
        yield server


@pytest.mark.skipif(not os.environ.get("MODELMILL_LONG_TESTS"), reason="minutes: set MODELMILL_LONG_TESTS")
def test_a_model_is_deployed_watched_and_made_again(
    airflow: LocalAirflow, service: str, data: Path, topic_rows: Rows
) -> None:
    """One test, because starting the servers takes most of its time."""
    with closing(airflow.client()) as client:
        for dag_id in (MADE, WATCH):
            client.wait_for_dag(dag_id, timeout=180)
            client.unpause(dag_id)
        first = client.trigger(MADE)
        assert client.wait(MADE, first, timeout=1400) == "success", told(client, MADE, first)
        answer = predicted(service, "goal of the team")
        assert answer["rows"] == [{MADE: {"prediction": "sport", "score": answer["rows"][0][MADE]["score"]}}]
        assert answer["models"][MADE]["version"] == 1

        # The same kind of rows is no alarm, and no alarm starts nothing.
        land(data / "landing" / "reuters_new", "calm", topic_rows(200, seed=5), test_share=0.3)
        calm = client.trigger(WATCH)
        assert client.wait(WATCH, calm, timeout=900) == "success", told(client, WATCH, calm)
        assert client.xcom(WATCH, calm, "checked")["report"]["alarms"] == []
        assert client.xcom(WATCH, calm, "champion")["model"]["uri"] == f"models:/{MADE}/1"

        drifted = long_rows(topic_rows(600, seed=6))
        land(data / "landing" / "reuters_new", "drifted", drifted, test_share=0.3)
        land(data / "landing" / "reuters_r8", "labelled", drifted, test_share=0.3)
        alarmed = client.trigger(WATCH)
        assert client.wait(WATCH, alarmed, timeout=900) == "success", told(client, WATCH, alarmed)
        alarms = client.xcom(WATCH, alarmed, "checked")["report"]["alarms"]
        assert any(line.startswith("text: characters has drifted") for line in alarms), alarms
        second = wait_for(lambda: started_by_asset(client))
        assert client.wait(MADE, second, timeout=1400) == "success", told(client, MADE, second)
        assert client.xcom(MADE, second, "verdict")["verdict"]["champion_version"] == 1
        assert client.xcom(MADE, second, "champion")["model"]["uri"] == f"models:/{MADE}/2"
        assert predicted(service, "goal of the team")["models"][MADE]["version"] == 2


def long_rows(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Make texts much longer than before, and one topic rarer."""
    chosen = random.Random(0)
    words = ["the", "a", "of", "and", "today", "with", "new", "said"]
    found = [(f"{text} {' '.join(chosen.choices(words, k=25))}", topic) for text, topic in rows]
    return [row for number, row in enumerate(found) if row[1] == "trade" or number % 4 == 0]


def started_by_asset(client: AirflowClient) -> str | None:
    runs = client.call("GET", f"/dags/{MADE}/dagRuns")["dag_runs"]
    return next((run["dag_run_id"] for run in runs if run["run_type"] == "asset_triggered"), None)


def told(client: AirflowClient, dag_id: str, run_id: str) -> str:
    """Return the end of the log of whatever has failed."""
    failed = [name for name, task in client.tasks(dag_id, run_id).items() if task["state"] == "failed"]
    return "\n".join(f"{name}: {client.log(dag_id, run_id, name)[-3000:]}" for name in failed)


def predicted(url: str, text: str) -> Any:
    request = urllib.request.Request(
        f"{url}/v1/predict",
        data=json.dumps({"rows": [{"text": text}]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def wait_for(found: Callable[[], str | None], *, seconds: float = 180) -> str:
    deadline = time.monotonic() + seconds
    while (value := found()) is None:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)
    return value
