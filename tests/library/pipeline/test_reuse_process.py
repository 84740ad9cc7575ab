"""Steps asked about in a process beside: bounded in time, and without the secrets of who asks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmill.errors import TransientError
from modelmill.models.base_model_folder import base_model_state
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.reuse_process import ReuseProcess, question_environment
from modelmill.pipeline.runner import run_step
from modelmill.settings import Settings

pytestmark = pytest.mark.usefixtures("toy_components")


@pytest.fixture
def process(settings: Settings) -> Iterator[ReuseProcess]:
    made = ReuseProcess()
    yield made
    made.close()
    assert made.pid is None


def request_of(folder: Path, number: int) -> StepRequest:
    config = {"journal": str(folder / "journal"), "number": number}
    return StepRequest(pipeline="toy", step=f"s{number}", component="count", config=config)


def test_it_answers_as_the_library_does_and_lives_on(
    process: ReuseProcess, tmp_path: Path, settings: Settings
) -> None:
    made = run_step(request_of(tmp_path, 0), settings)
    found = process.answers([request_of(tmp_path, 0), request_of(tmp_path, 1)], seconds=60)
    assert found[0].result == made.model_copy(update={"reused": True})
    assert found[0].lines == (f"s0: nothing that it reads has changed, so run {made.run_id} is reused",)
    assert found[1].result is None
    first = process.pid
    assert process.answers([request_of(tmp_path, 1)], seconds=60)[0].result is None
    assert process.pid == first
    assert first is not None
    os.kill(first, 9)  # somebody ends it: the next question is answered all the same
    assert process.answers([request_of(tmp_path, 0)], seconds=60)[0].result is not None
    assert process.pid != first


def test_a_server_that_never_answers_costs_the_deadline_and_no_more(
    process: ReuseProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections, and says nothing
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(TransientError, match="no answer within 4 s'; look whether MLflow"):
            process.answers([request_of(tmp_path, number) for number in range(20)], seconds=4)
        assert time.monotonic() - began < 8
        assert process.pid is None


def test_of_the_environment_it_gets_what_a_question_needs(
    process: ReuseProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://user:secret@db/airflow",
        "AIRFLOW__CORE__FERNET_KEY": "secret",
        "MODELMILL_LLM_KEY": "secret",
        "HF_TOKEN": "secret",
        "GITHUB_TOKEN": "secret",
    }
    needed = {"AWS_REGION": "eu", "MLFLOW_TRACKING_TOKEN": "token", "MODELMILL_SOURCES": "/data"}
    for name, value in {**secrets, **needed}.items():
        monkeypatch.setenv(name, value)
    process.answers([request_of(tmp_path, 0)], seconds=60)
    given = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
    assert not [one for one in given if "secret" in one]
    assert {f"{name}={value}" for name, value in needed.items()} <= set(given)


def test_nothing_is_downloaded_by_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert question_environment({})["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_CACHE" not in question_environment({})
    # Which revision is the newest only the hub can say: no local copy may answer for it.
    asked = question_environment({"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)})
    assert asked["HF_HUB_OFFLINE"] == "1"
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, asked[name])
    assert base_model_state("someone/some-encoder", memory=tmp_path) == "missing"
