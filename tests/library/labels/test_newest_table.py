"""A table that is asked for again and again is opened when something was committed, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.labels import newest_table
from modelmill.labels.newest_table import NewestTable
from modelmill.tables.opening import open_table


def test_only_a_commit_opens_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noted(place: str) -> DeltaTable:
        opened.append(place)
        return open_table(place)

    monkeypatch.setattr(newest_table, "open_table", noted)
    place = tmp_path / "t"
    newest = NewestTable(str(place))
    assert newest.opened() is None

    def values() -> list[list[int]]:
        found = [newest.opened() for _ in range(3)]
        return [sorted(table.to_pyarrow_table()["a"].to_pylist()) for table in found if table is not None]

    for number in range(1, 4):
        write_deltalake(str(place), pa.table({"a": [number]}), mode="append")
        assert values() == [list(range(1, number + 1))] * 3
        assert len(opened) == number
    # Another table with as many commits stands in its place.
    shutil.rmtree(place)
    for number in range(7, 10):
        write_deltalake(str(place), pa.table({"a": [number]}), mode="append")
    assert values() == [[7, 8, 9]] * 3
    # Its commits were cleared away behind a checkpoint: it is opened each time.
    DeltaTable(str(place)).create_checkpoint()
    for commit in (place / "_delta_log").glob("*.json"):
        commit.unlink()
    assert values() == [[7, 8, 9]] * 3
    shutil.rmtree(place)
    assert newest.opened() is None
