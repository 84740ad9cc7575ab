"""The ledger takes each decision once, whoever writes at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelmill.errors import InputError
from modelmill.registry.ledger import Entry, entries, record
from modelmill.settings import Settings


def entry(key: str, **changes: object) -> Entry:
    values = {
        "action": "promote",
        "model": "topics",
        "from_version": None,
        "to_version": 1,
        "digest": "d" * 64,
        "reasons": (),
        "evidence": "runs:/r/gate/verdict.json",
        "pipeline": "nightly",
        "step_key": key,
    }
    return Entry.model_validate(values | changes)


def test_a_row_says_who_did_what_when_and_why(settings: Settings) -> None:
    assert entries(settings) == []
    written = entry("a", action="refuse", from_version=3, to_version=3, reasons=("too bad",))
    record(written, settings)
    record(entry("b", model="other"), settings)
    (row,) = entries(settings, model="topics")
    time = row.pop("time")
    assert isinstance(time, datetime)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)
    assert row.pop("who")
    assert row == {**written.model_dump(), "reasons": ["too bad"]}


def test_a_step_writes_one_row_however_often_it_is_tried(settings: Settings) -> None:
    for _ in range(3):
        record(entry("a"), settings)
    assert len(entries(settings)) == 1


def test_writers_at_the_same_time_lose_and_double_nothing(settings: Settings) -> None:
    keys = [f"{number % 6}" for number in range(12)]  # each decision twice
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda key: record(entry(key), settings), keys))
    assert sorted(row["step_key"] for row in entries(settings)) == sorted(set(keys))


def test_a_place_that_cannot_be_written_is_told_in_one_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        record(entry("a"), replace(settings, ledger=str(tmp_path / "file" / "ledger")))
    assert "\n" not in str(caught.value)
