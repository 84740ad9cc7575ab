"""The memory of which run made a result stays small, and keeps what is asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from modelmill.registry import finished_runs
from modelmill.registry.finished_runs import AskedRun, RunPlace, memory_file, remember, remembered

RUN = RunPlace("1", "0123456789abcdef" * 2)


def test_what_nobody_asked_for_longest_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished_runs, "_MOST_REMEMBERED", 8)
    every = [AskedRun("http://tracking", "desks", f"{number:064x}") for number in range(10_000)]
    here = [asked for asked in every if asked.digest.startswith("ab")][:9]
    elsewhere = next(asked for asked in every if asked.digest.startswith("cd"))
    hour_ago = time.time() - 3600
    for number, asked in enumerate([elsewhere, *here[:8]]):
        remember(tmp_path, asked, RUN)
        os.utime(memory_file(tmp_path, asked), (hour_ago + number,) * 2)
    assert remembered(tmp_path, here[0]) == RUN  # asked for: it stays
    remember(tmp_path, here[8], RUN)
    assert [asked for asked in here if remembered(tmp_path, asked) == RUN] == [here[0], *here[4:]]
    assert remembered(tmp_path, elsewhere) == RUN
