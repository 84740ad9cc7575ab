"""Files that only old versions of a table need go; every version that can be asked for stays whole."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.tables.commits import write_rows
from modelmill.tables.old_versions import old_files, remove_old_file
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table

NOW = datetime.now(UTC)


def committed(table: Path, version: int, *, days_ago: float) -> None:
    """Have a version committed some days ago, and its files written then."""
    moment = (NOW - timedelta(days=days_ago)).timestamp()
    os.utime(table / "_delta_log" / f"{version:020d}.json", (moment, moment))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table that was written anew 50, 40, …, 10 days ago: version 0 is of 50 days ago."""
    place = tmp_path / "table"
    for version in range(5):
        write_rows(str(place), pa.table({"n": [version]}), mode="overwrite", transaction=f"t{version}")
        committed(place, version, days_ago=50 - 10 * version)
    return place


def readable(table: Path) -> list[int]:
    found = []
    for version in range(DeltaTable(table).version() + 1):
        try:
            rows = read_arrow(TableRef(uri=str(table), version=version))
        except TableError:
            continue
        assert rows.column("n").to_pylist()[-1] == version
        found.append(version)
    return found


def test_what_a_reader_can_ask_for_stays(table: Path) -> None:
    since = NOW - timedelta(days=25)
    found = old_files(str(table), since=since, pinned=[0])
    # Version 2, of 30 days ago, was the newest one 25 days ago.
    assert [file.last for file in found] == [1]
    assert all(file.size > 0 for file in found)
    assert readable(table) == [0, 1, 2, 3, 4]  # nothing is gone that was only found
    assert all(remove_old_file(file) for file in found)
    assert readable(table) == [0, 2, 3, 4]
    assert DeltaTable(table).version() == 4  # whoever reads the newest version sees no change
    then = resolve_table(str(table), timestamp=since)
    assert (then.version, read_arrow(then).column("n").to_pylist()) == (2, [2])
    assert old_files(str(table), since=since, pinned=[0]) == []
    assert all(remove_old_file(file) for file in found)  # somebody else was faster


def test_files_that_later_versions_share_stay(tmp_path: Path) -> None:
    place = tmp_path / "table"
    for version in range(4):
        write_deltalake(place, pa.table({"n": [version]}), mode="append")
        committed(place, version, days_ago=50 - 10 * version)
    assert old_files(str(place), since=NOW - timedelta(days=1)) == []
    DeltaTable(place).optimize.compact()  # one file instead of four
    committed(place, 4, days_ago=9)
    assert [file.last for file in old_files(str(place), since=NOW - timedelta(days=5))] == [3, 3, 3, 3]
    DeltaTable(place).restore(1)
    committed(place, 5, days_ago=8)
    for file in old_files(str(place), since=NOW - timedelta(days=5)):
        assert remove_old_file(file)
    assert sorted(read_arrow(resolve_table(str(place))).column("n").to_pylist()) == [0, 1]


def test_a_file_whose_first_commit_was_cleaned_up_goes_by_the_one_that_removed_it(table: Path) -> None:
    DeltaTable(table).create_checkpoint()
    for version in (0, 1):
        (table / "_delta_log" / f"{version:020d}.json").unlink()
    found = old_files(str(table), since=NOW - timedelta(days=5))
    # The file of version 0 is known to nobody any more; that of version 1 may be older than it says.
    assert sorted(file.last for file in found) == [1, 2, 3]
    pinned = old_files(str(table), since=NOW - timedelta(days=5), pinned=[0])
    assert sorted(file.last for file in pinned) == [2, 3]


def test_the_change_feed_of_old_versions_goes(tmp_path: Path) -> None:
    place = tmp_path / "table"
    configuration = {"delta.enableChangeDataFeed": "true"}
    write_deltalake(place, pa.table({"n": [1, 2]}), configuration=configuration)
    DeltaTable(place).update({"n": "n + 1"})
    DeltaTable(place).update({"n": "n + 1"})
    for version in range(3):
        committed(place, version, days_ago=50 - 10 * version)
    found = old_files(str(place), since=NOW - timedelta(days=5))
    feeds = [file.path for file in found if "_change_data" in file.path]
    assert len(feeds) == 1  # that of version 2 can still be asked for
    assert {file.last for file in found} == {0, 1}


def test_a_table_younger_than_the_policy_keeps_all(table: Path) -> None:
    assert old_files(str(table), since=NOW - timedelta(days=100)) == []
