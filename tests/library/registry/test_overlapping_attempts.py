"""An old attempt that wakes up on another machine neither ends nor changes the run of the newer one."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmill.artifacts import TableRef
from modelmill.errors import TransientError
from modelmill.registry.tracking import TrackedRun, experiment_id, find_finished, open_run, tracking_client
from modelmill.settings import Settings

KEY = "a" * 64


@pytest.fixture
def attempts(settings: Settings) -> tuple[TrackedRun, TrackedRun]:
    """An old attempt and a newer one, which share MLflow."""
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, "tests")
    old, new = (open_run(client, experiment, KEY, name="step", tags={}) for _ in range(2))
    assert old.run_id == new.run_id
    return old, new


def table(path: Path, name: str) -> TableRef:
    return TableRef(uri=str(path / name), version=0)


@pytest.mark.parametrize("first", ["old", "new"])
def test_the_newer_attempts_outputs_count(
    first: str, attempts: tuple[TrackedRun, TrackedRun], tmp_path: Path
) -> None:
    old, new = attempts
    if first == "new":
        new.finish({"table": table(tmp_path, "new")})
    with pytest.raises(TransientError, match="which a newer attempt has opened"):
        old.finish({"table": table(tmp_path, "old")})
    if first == "old":
        assert old.client.get_run(old.run_id).info.status == "RUNNING"
        new.finish({"table": table(tmp_path, "new")})
    finished = find_finished(new.client, new.experiment_id, KEY)
    assert finished is not None
    assert finished.outputs == {"table": table(tmp_path, "new")}


@pytest.mark.parametrize("end", ["fail", "discard"])
def test_an_old_attempt_that_fails_leaves_the_run_as_it_is(
    end: str, attempts: tuple[TrackedRun, TrackedRun], tmp_path: Path
) -> None:
    old, new = attempts
    new.finish({"table": table(tmp_path, "new")})
    getattr(old, end)(ValueError("woken up"))
    found = old.client.get_run(old.run_id)
    assert (found.info.status, found.info.lifecycle_stage) == ("FINISHED", "active")
    assert "modelmill.error" not in found.data.tags
