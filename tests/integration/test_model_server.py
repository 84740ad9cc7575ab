"""A champion in a real MLflow server, asked the way people without modelmill's Airflow parts ask it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.models.bundle import bundle_digest
from modelmill.registry import promotion
from modelmill.registry.bundles import fetch_bundle, log_model
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate


def judge(config: GateConfig, dataset: DatasetRef, challenger: ModelRef, context: StepContext) -> VerdictRef:
    return run_gate(config, GateInputs(dataset=dataset, challenger=challenger), context).verdict


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(arguments: list[str], *, url: str, log: Path, **variables: str) -> Iterator[None]:
    """Run a server of MLflow's until the block ends, its children included."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **variables},
        )
        try:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline and not answers(url):
                time.sleep(0.3)
            assert answers(url), log.read_text()[-3000:]
            yield
        finally:
            for sign in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, sign)
                    process.wait(10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def served_mlflow(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracking server that hands out its artifacts itself."""
    url = f"http://127.0.0.1:{free_port()}"
    database = tmp_path / "server.db"
    shutil.copy(mlflow_database, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    arguments = ["server", "--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1], "--workers", "1"]
    arguments += ["--backend-store-uri", f"sqlite:///{database}"]
    arguments += ["--artifacts-destination", str(tmp_path / "served")]
    with running(arguments, url=f"{url}/health", log=tmp_path / "server.log"):
        yield url


@pytest.fixture
def served_context(step_context: StepContext, served_mlflow: str) -> StepContext:
    client = tracking_client(served_mlflow)
    mlflow.set_tracking_uri(served_mlflow)
    mlflow.set_registry_uri(served_mlflow)
    run = open_run(client, experiment_id(client, "tests"), "0" * 64, name="step", tags={})
    return replace(step_context, run=run, settings=replace(step_context.settings, tracking_uri=served_mlflow))


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def test_a_champion_answers_over_http(
    make_bundle: Callable[..., Path],
    topic_dataset: DatasetRef,
    served_context: StepContext,
    tmp_path: Path,
) -> None:
    folder = make_bundle("good")
    model = log_model(folder, role="exported", dataset=topic_dataset, context=served_context)
    shutil.rmtree(served_context.cache / "models")
    assert bundle_digest(fetch_bundle(model, served_context.cache)) == model.digest
    verdict = judge(GateConfig(name="topics", resamples=200), topic_dataset, model, served_context)
    champion = promotion.promote(verdict, served_context)
    assert champion.uri == "models:/topics/1"
    assert promotion.promote(verdict, served_context) == champion

    loaded = mlflow.pyfunc.load_model("models:/topics@champion")
    assert loaded.predict(pd.DataFrame({"body": ["goal"]}))["prediction"].tolist() == ["sport"]

    url = f"http://127.0.0.1:{free_port()}"
    arguments = ["models", "serve", "-m", "models:/topics@champion", "--env-manager", "local"]
    arguments += ["-h", "127.0.0.1", "-p", url.rsplit(":", 1)[1], "-w", "1"]
    with running(arguments, url=f"{url}/ping", log=tmp_path / "serve.log"):
        found = ask(url, {"dataframe_split": {"columns": ["body"], "data": [["goal team"], ["a loan"]]}})
        assert [row["prediction"] for row in found["predictions"]] == ["sport", "trade"]
        expected = [found["predictions"][0], {"prediction": None, "score": None}]
        for body in (
            {"inputs": ["goal team", None]},
            {"instances": [{"text": "goal team"}, {"text": None}]},
            {"dataframe_records": [{"text": "goal team"}, {"text": None}]},
        ):
            assert ask(url, body)["predictions"] == expected
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(url, {"dataframe_split": {"columns": ["other", "columns"], "data": [["goal", "x"]]}})
        assert caught.value.code == 400
        caught.value.close()
    assert not answers(f"{url}/ping")
