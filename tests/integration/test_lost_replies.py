"""A step whose MLflow loses requests or replies ends as one whose MLflow does not. All cells:
``python -m benchmarks.lost_replies``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.fault_proxy import FaultProxy
from benchmarks.lost_replies import cell, deployment

from modelmill.errors import ConfigError
from modelmill.registry.dead_runs import mark_dead_runs
from modelmill.registry.mlflow_calls import retries
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.settings import mlflow_patience
from modelmill.system.locks import locked


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FaultProxy]]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODELMILL_MLFLOW_REPLY", "MODELMILL_MLFLOW_CALL"):
            patch.setenv(name, "1")  # put back afterwards, whatever is set meanwhile
        for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
            patch.setenv(name, "2")
        with deployment(tmp_path_factory.mktemp("mlflow")) as found:
            yield found


@pytest.mark.parametrize(
    ("fault", "call"),
    [
        ("reset after", "create run"),
        ("hang after", "create model"),
        ("duplicated", "create model"),
        ("500 after", "create version"),
        ("duplicated", "create version"),
        ("truncated", "end run"),
    ],
)
def test_nothing_is_doubled(servers: tuple[str, FaultProxy], tmp_path: Path, fault: str, call: str) -> None:
    end = cell(*servers, fault, call, tmp_path)
    assert end.is_right, end


def test_a_server_that_hangs_ends_the_step_in_time_with_an_error_that_names_it(
    servers: tuple[str, FaultProxy], tmp_path: Path
) -> None:
    began = time.monotonic()
    end = cell(*servers, "hang before", "upload", tmp_path, times=99)
    assert time.monotonic() - began < 60
    assert end.is_right, end
    assert end.errors
    assert all("MLflow must answer" in error and servers[1].url in error for error in end.errors)


def test_the_run_of_a_step_that_died_is_marked_when_the_next_one_starts(
    servers: tuple[str, FaultProxy], tmp_path: Path
) -> None:
    client = tracking_client(servers[0])
    experiment = experiment_id(client, "deaths")
    for digit in "abc":
        (tmp_path / (digit * 64)).mkdir()
    dead, alive, elsewhere = (
        open_run(client, experiment, digit * 64, name=digit, tags={}, folder=tmp_path / (digit * 64)).run_id
        for digit in "abc"
    )
    for digit in "ab":
        (tmp_path / (digit * 64) / "lock").touch()
    with locked(tmp_path / ("b" * 64) / "lock"):
        assert mark_dead_runs(client, experiment, tmp_path) == [dead]
    found = {run.info.run_id: run.info.status for run in client.search_runs([experiment])}
    assert found == {dead: "KILLED", alive: "RUNNING", elsewhere: "RUNNING"}


def test_the_time_of_a_call_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert retries(30, 180) == 3
    assert retries(30, 1) == 1
    assert retries(1, 100_000) == 10
    monkeypatch.setenv("MODELMILL_MLFLOW_REPLY", "soon")
    with pytest.raises(ConfigError, match="MODELMILL_MLFLOW_REPLY must be a whole number of seconds"):
        mlflow_patience()
