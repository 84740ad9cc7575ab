"""Rows go out of a table and others come in, in one commit: exactly those, once, or nothing at all."""

from __future__ import annotations

import datetime
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given
from hypothesis import strategies as st

from modelmill.artifacts import TableRef
from modelmill.errors import TransientError
from modelmill.tables import commits, row_replacement
from modelmill.tables.reading import read_arrow
from modelmill.tables.row_hash import matched
from modelmill.tables.row_replacement import replace_rows

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("a.b", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("stars", pa.float64()),
        ("when", pa.timestamp("us", "UTC")),
        ("blob", pa.binary()),
    ]
)
START = datetime.datetime(2026, 2, 28, tzinfo=datetime.UTC)


def rows_of(*numbers: int, text: str = "text") -> pa.Table:
    rows = [
        {
            "id": f"k{n}",
            "a.b": None if n % 5 == 0 else f"{text} {n % 7}",
            "tags": [["a", None], [], None][n % 3],
            "stars": [0.5, float("nan"), None][n % 3],
            "when": START + datetime.timedelta(microseconds=n),
            "blob": bytes([n % 256]),
        }
        for n in numbers
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


NONE = rows_of()


class Place:
    """A table of 100 rows in 3 files."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "table")
        for start, end in ((0, 40), (40, 41), (41, 100)):
            write_deltalake(self.path, rows_of(*range(start, end)), mode="append")

    def replace(self, gone: pa.Table, came: pa.Table, **more: Any) -> int | None:
        more = {"version": 2, "transaction": "t", "metadata": {"why": "night"}, **more}
        return replace_rows(self.path, more.pop("version"), gone=gone, came=came, **more)

    @property
    def version(self) -> int:
        return DeltaTable(self.path).version()

    def rows(self) -> list[str]:
        return shown(read_arrow(TableRef(uri=self.path, version=self.version)))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.path)) for path in Path(self.path).rglob("*.parquet")}


def shown(rows: pa.Table) -> list[str]:
    return sorted(map(str, rows.to_pylist()))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("key", ["id", None])
@pytest.mark.parametrize("seed", range(3))
def test_exactly_these_rows_go_and_come(place: Place, key: str | None, seed: int) -> None:
    random_ = random.Random(seed)
    out = random_.sample(range(100), 20)
    came = pa.concat_tables([rows_of(*range(200, 205)), rows_of(*out[:3], text="changed")])
    assert place.replace(rows_of(*out), came, key=key) == 3
    left = rows_of(*(n for n in range(100) if n not in out))
    assert place.rows() == shown(pa.concat_tables([left, came]))


def test_only_new_rows_are_appended(place: Place) -> None:
    before = place.files()
    assert place.replace(NONE, rows_of(100, 101), key="id") == 3
    assert place.rows() == shown(rows_of(*range(102)))
    files = pa.table(DeltaTable(place.path).get_add_actions(flatten=True)).to_pylist()
    assert sum(file["num_records"] for file in files) == 102
    assert all(abs(file["modification_time"] / 1000 - time.time()) < 3600 for file in files)
    assert set(DeltaTable(place.path).file_uris()) > {f"{place.path}/{name}" for name in before}


def test_rows_on_both_sides_stay_where_they_are(place: Place) -> None:
    before = place.files()
    both = rows_of(3, 50)
    assert place.replace(both, both, key="id") == 2
    assert (place.version, place.files()) == (2, before)
    assert place.replace(both, both, key="id", always=True) == 3
    assert place.files() == before
    assert place.rows() == shown(rows_of(*range(100)))


def test_of_copies_as_many_go_as_are_said(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_deltalake(place.path, rows_of(*[7] * 5), mode="append")
    assert place.replace(rows_of(7, 7), rows_of(7), version=3) == 4
    assert place.rows() == shown(rows_of(*range(100), *[7] * 4))
    assert place.replace(rows_of(*[7] * 5), NONE, version=4, transaction="u") == 5
    assert place.rows() == shown(rows_of(*(n for n in range(100) if n != 7)))


@pytest.mark.parametrize("key", ["id", None])
@pytest.mark.parametrize(
    "gone",
    [rows_of(3, 1000), rows_of(3, text="other"), rows_of(3, 3)],
    ids=["unknown", "another text", "too many copies"],
)
def test_nothing_happens_where_a_row_is_not_there(place: Place, gone: pa.Table, key: str | None) -> None:
    assert place.replace(gone, rows_of(300), key=key) is None
    assert place.version == 2
    assert place.rows() == shown(rows_of(*range(100)))
    assert len(place.files()) == 3, "what was written for it is gone"


def test_nothing_is_left_where_there_was_nothing_to_write(place: Place) -> None:
    assert place.replace(rows_of(*range(101)), NONE) is None
    assert (place.version, len(place.files())) == (2, 3)


def test_nothing_happens_where_others_have_written(place: Place) -> None:
    assert place.replace(rows_of(3), NONE, version=1) is None
    assert place.version == 2


def test_all_rows_may_go(place: Place) -> None:
    assert place.replace(rows_of(*range(100)), NONE, key="id") == 3
    assert place.rows() == []
    assert place.replace(NONE, rows_of(1), version=3, transaction="u", key="id") == 4
    assert place.rows() == shown(rows_of(1))


def test_a_repeated_transaction_adds_nothing(place: Place) -> None:
    assert place.replace(NONE, rows_of(100)) == 3
    assert place.replace(NONE, rows_of(100)) == 3
    assert place.replace(rows_of(1), rows_of(100), version=3) == 3
    assert place.rows() == shown(rows_of(*range(101)))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk")])
def test_what_is_committed_stays_whatever_happens_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(_: str) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(commits, "sync_log", fail)
        with pytest.raises(type(error)):
            place.replace(rows_of(3), rows_of(103), key="id")
    expected = shown(rows_of(*(n for n in range(104) if n != 3 and not 100 <= n < 103)))
    assert place.rows() == expected
    assert place.replace(rows_of(3), rows_of(103), key="id") == 3
    assert place.rows() == expected


def test_what_is_not_committed_goes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commits, "settle_on_disk", fail)
    with pytest.raises(KeyboardInterrupt):
        place.replace(rows_of(3), rows_of(103), key="id")
    assert (place.version, len(place.files())) == (2, 3)
    assert not list(Path(place.path).glob("part-*/"))


@pytest.mark.parametrize("key", ["id", None])
def test_a_table_is_rewritten_batch_by_batch(
    place: Place, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Rows to take out may lie in any batch, and no more than a batch is held in memory."""
    monkeypatch.setattr(row_replacement, "_BATCH", 16)
    gone = (0, 15, 16, 47, 99)
    came = rows_of(*range(200, 240)).select(SCHEMA.names[::-1])  # in another order than the table's columns
    assert place.replace(rows_of(*gone), came, key=key) == 3
    left = [n for n in range(100) if n not in gone]
    assert place.rows() == shown(rows_of(*left, *range(200, 240)))
    (uri,) = DeltaTable(place.path).file_uris()
    file = pq.ParquetFile(uri).metadata
    groups = [file.row_group(number) for number in range(file.num_row_groups)]
    assert max(group.num_rows for group in groups) == 16
    assert {group.column(0).compression for group in groups} == {"SNAPPY"}


def test_the_commit_says_what_was_asked(place: Place) -> None:
    assert place.replace(rows_of(3), rows_of(103), key="id") == 3
    table = DeltaTable(place.path)
    said = table.history()[0]["modelmill"]
    (name,) = said.pop("sha256")
    assert said == {"transaction": "t", "why": "night", "transactions": 1}
    (file,) = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert (file["path"], file["num_records"]) == (name, 100)
    assert file["size_bytes"] == (Path(place.path) / name).stat().st_size
    assert table.transaction_version("t") == 1


def test_a_transaction_is_answered_whatever_was_written_since(place: Place) -> None:
    assert place.replace(NONE, rows_of(100)) == 3
    write_deltalake(place.path, rows_of(101), mode="append")
    assert place.replace(NONE, rows_of(100), version=2) == 3
    assert place.replace(NONE, rows_of(102), version=3, transaction="u") is None, "another one is too late"
    assert place.rows() == shown(rows_of(*range(102)))


def test_who_is_too_late_is_told_and_leaves_no_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise CommitFailedError("lost")

    monkeypatch.setattr(commits, "add_files", lose)
    with pytest.raises(TransientError, match="another writer was faster"):
        place.replace(rows_of(3), rows_of(103), key="id")
    assert (place.version, len(place.files())) == (2, 3)
    assert not list(Path(place.path).glob("part-*/"))


NUMBERS = st.lists(st.integers(0, 5), max_size=12)


@given(NUMBERS, NUMBERS)
def test_copies_are_matched_one_by_one(one: list[int], other: list[int]) -> None:
    found = matched(np.array(one, np.int64), np.array(other, np.int64)).tolist()
    for value in range(6):
        mine = [is_matched for number, is_matched in zip(one, found, strict=True) if number == value]
        count = min(one.count(value), other.count(value))
        assert mine == [True] * count + [False] * (one.count(value) - count)
