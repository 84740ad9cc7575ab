"""Files that no commit knows yet: where they lie, what the log says of them later, what is flushed."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Schema

from modelmill.errors import TableError, TransientError
from modelmill.tables import staged_files
from modelmill.tables.commits import commit_files, write_rows
from modelmill.tables.staged_files import DataFile, settle_on_disk, stage_rows, sync_log

ROWS = pa.table({"n": [3, None, 1], "name": ["b", "a", None]})


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that were flushed, in order."""
    seen: list[Path] = []
    monkeypatch.setattr(staged_files, "flush", seen.append)
    return seen


def test_the_log_says_what_readers_need_of_a_file(tmp_path: Path) -> None:
    place = tmp_path / "new" / "table"
    before = time.time()
    file = stage_rows(ROWS, str(place), bounds=("n", "name"))
    assert pq.read_table(place / file.path).equals(ROWS)
    commit_files(str(place), [file], schema=Schema.from_arrow(ROWS.schema), mode="append", transaction="t")
    log = (place / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
    (added,) = [action["add"] for line in log if "add" in (action := json.loads(line))]
    assert added["path"] == file.path
    assert added["size"] == (place / file.path).stat().st_size
    assert added["partitionValues"] == {}
    assert added["dataChange"] is True, "whoever follows the table's changes would pass over its rows"
    assert int(before * 1000) <= added["modificationTime"] <= time.time() * 1000
    assert json.loads(added["stats"]) == {
        "numRecords": 3,
        "minValues": {"n": 1, "name": "a"},
        "maxValues": {"n": 3, "name": "b"},
        "nullCount": {"n": 1, "name": 1},
    }


def test_without_bounds_the_log_says_only_how_many_rows_there_are(tmp_path: Path) -> None:
    file = stage_rows(ROWS, str(tmp_path))
    assert file.bounds == {}
    assert DataFile(path="p", size=1, rows=1, modified=0).bounds == {}
    assert json.loads(file.add_action().stats) == {"numRecords": 3}


def test_files_have_names_of_their_own(tmp_path: Path) -> None:
    names = [stage_rows(ROWS, str(tmp_path)).path for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name.startswith("part-") and name.endswith(".parquet") for name in names)


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    place = f"{tmp_path}/file/table"
    with pytest.raises(TableError) as caught:
        stage_rows(ROWS, place)
    assert str(caught.value) == (
        f"the table's directory must be writable (Not a directory); got '{place}'; "
        "name another place, or give this user the right to write there"
    )

    def refuse(_: str) -> Any:
        raise OSError("Arrow: no room")  # Arrow's errors have no errno

    monkeypatch.setattr(staged_files, "table_files", refuse)
    with pytest.raises(TableError, match=r"must be writable \(Arrow: no room\); got '.*/table'"):
        stage_rows(ROWS, f"{tmp_path}/table")
    with pytest.raises(TransientError, match=r"must go through \(Arrow: no room\); got 's3://b/table'"):
        stage_rows(ROWS, "s3://b/table")


def test_rows_are_on_the_disk_before_their_commit_is(tmp_path: Path, flushed: list[Path]) -> None:
    place = tmp_path / "table"
    (place / "part-1").mkdir(parents=True)
    files = [DataFile(path=name, size=0, rows=0, modified=0) for name in ("a.parquet", "part-1/b.parquet")]
    settle_on_disk(str(place), files)
    assert set(flushed[:2]) == {place / "a.parquet", place / "part-1" / "b.parquet"}
    assert set(flushed[2:]) == {place, place / "part-1", tmp_path}
    flushed.clear()
    assert write_rows(str(place), ROWS, mode="append", transaction="t") == 0
    (file,) = place.glob("*.parquet")
    log = place / "_delta_log"
    assert flushed.index(file) < flushed.index(log / f"{0:020d}.json")
    assert flushed[-2:] == [log / f"{0:020d}.json", log]


def test_only_the_newest_commit_is_flushed(tmp_path: Path, flushed: list[Path]) -> None:
    for number in range(3):
        write_rows(str(tmp_path), ROWS, mode="append", transaction=f"t{number}")
    DeltaTable(str(tmp_path)).create_checkpoint()
    flushed.clear()
    log = tmp_path / "_delta_log"
    sync_log(str(tmp_path))
    assert flushed == [log / f"{2:020d}.json", log]
    for path in log.glob("*.json"):
        path.unlink()
    flushed.clear()
    sync_log(str(tmp_path))
    assert flushed == [log]


def test_nothing_is_flushed_in_a_store(flushed: list[Path]) -> None:
    settle_on_disk("s3://b/table", [DataFile(path="a", size=0, rows=0, modified=0)])
    sync_log("s3://b/table")
    assert flushed == []


def test_a_disk_that_does_not_take_a_commit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(str(tmp_path), ROWS, mode="append", transaction="t")

    def fail(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(staged_files, "flush", fail)
    for call in (lambda: settle_on_disk(str(tmp_path), []), lambda: sync_log(str(tmp_path))):
        with pytest.raises(TableError) as caught:
            call()
        assert "must be writable (Read-only file system)" in str(caught.value)
        assert caught.value.got == str(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_can_be_tried_again(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no wrong input: once there is room, the same step goes through."""

    def fail(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(staged_files, "flush", fail)
    (tmp_path / "_delta_log").mkdir()
    calls: list[Callable[[], object]] = [
        lambda: settle_on_disk(str(tmp_path), []),
        lambda: sync_log(str(tmp_path)),
        lambda: stage_rows(ROWS, str(tmp_path)),
    ]
    for call in calls:
        with pytest.raises(
            TransientError, match=r"the disk must take what a step writes .*make room"
        ) as told:
            call()
        assert told.value.got == str(tmp_path)
        monkeypatch.setattr(staged_files, "table_files", fail)
