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
    run = open_run(client, experiment, KEY, name="step", tags={})
    (tmp_path / KEY).mkdir()
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
