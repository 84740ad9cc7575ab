"""Of the runs whose process seems dead, those that end while they are looked for stay as they ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelmill.registry.dead_runs import mark_dead_runs
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.settings import Settings

KEY = "a" * 64


@pytest.mark.parametrize("end", ["finish", "discard"])
def test_a_run_that_ends_meanwhile_stays_as_it_ended(
    end: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, "tests")
    (tmp_path / KEY).mkdir()
    run = open_run(client, experiment, KEY, name="step", tags={}, folder=tmp_path / KEY)
    (tmp_path / KEY / "lock").touch()
    search = client.search_runs

    def found_before_it_ends(*what: Any, **how: Any) -> Any:
        found = search(*what, **how)
        run.finish({}) if end == "finish" else run.discard(ValueError("no"))
        return found

    monkeypatch.setattr(client, "search_runs", found_before_it_ends)
    assert mark_dead_runs(client, experiment, tmp_path) == []
    info = client.get_run(run.run_id).info
    expected = ("FINISHED", "active") if end == "finish" else ("FAILED", "deleted")
    assert (info.status, info.lifecycle_stage) == expected


def test_a_run_that_lives_on_another_machine_is_not_marked(settings: Settings, tmp_path: Path) -> None:
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, "tests")
    here, there = tmp_path / "here" / KEY, tmp_path / "there" / KEY
    for folder in (here, there):
        folder.mkdir(parents=True)
    (here / "lock").touch()
    died = open_run(client, experiment, KEY, name="step", tags={}, folder=here)
    lives = open_run(client, experiment, KEY, name="step", tags={}, folder=there)
    assert lives.run_id == died.run_id
    assert mark_dead_runs(client, experiment, here.parent) == []
    assert client.get_run(lives.run_id).info.status == "RUNNING"
    open_run(client, experiment, KEY, name="step", tags={}, folder=here)  # and dies
    assert mark_dead_runs(client, experiment, here.parent) == [died.run_id]
