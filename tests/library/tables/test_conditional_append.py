"""Compare and append: who loses looks again, and everybody else is told what stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from modelmill.errors import TableError, TransientError
from modelmill.tables import conditional_append, staged_files
from modelmill.tables.conditional_append import Proposal, append_if

SCHEMA = pa.schema([("n", pa.int64())])


def rows(*numbers: int) -> pa.Table:
    return pa.table({"n": pa.array(numbers, pa.int64())})


def numbers(place: Path) -> list[int]:
    return sorted(DeltaTable(str(place)).to_pyarrow_table()["n"].to_pylist())


def test_each_commit_says_what_it_settles_and_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, seen = tmp_path / "t", []
    flushed: list[Path] = []
    monkeypatch.setattr(staged_files, "flush", flushed.append)

    def propose(table: DeltaTable | None) -> Proposal:
        seen.append(None if table is None else table.version())
        return Proposal(rows(1, 2), {"a": 7, "b": 1}, bounds=("n",))

    properties = {"delta.appendOnly": "true"}
    assert append_if(str(place), propose, schema=SCHEMA, properties=properties)
    assert append_if(str(place), lambda _: Proposal(None, {"a": 8}), schema=SCHEMA)
    assert append_if(str(place), propose, schema=SCHEMA)
    assert seen == [None, 1]
    table = DeltaTable(str(place))
    assert table.metadata().configuration == properties
    assert [table.transaction_version(name) for name in ("a", "b", "c")] == [7, 1, None]
    assert numbers(place) == [1, 1, 2, 2]
    files = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert [(file["num_records"], file["min.n"], file["max.n"]) for file in files] == [(2, 1, 2)] * 2
    commits = [commit["modelmill"] for commit in reversed(table.history())]
    assert [commit["transactions"] for commit in commits] == [2, 1, 2]
    assert [len(commit["sha256"]) for commit in commits] == [1, 0, 1], "damage is found by these"
    log = place / "_delta_log"
    for path in (*place.glob("*.parquet"), *log.glob("*.json")):
        assert path in flushed


def test_who_proposes_nothing_adds_nothing(tmp_path: Path) -> None:
    assert not append_if(str(tmp_path / "t"), lambda _: None, schema=SCHEMA)
    assert not (tmp_path / "t").exists()


def test_who_loses_looks_again_and_waits_a_little_longer_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    waits: list[float] = []
    ranges: list[float] = []

    def propose(table: DeltaTable | None) -> Proposal:
        asked.append(None if table is None else table.version())
        if len(asked) <= 8:  # somebody else is faster
            write_deltalake(str(tmp_path / "t"), rows(0), mode="append")
            raise_next.append(CommitFailedError("a concurrent transaction"))
        return Proposal(rows(len(asked)), {"a": 1})

    raise_next: list[Exception] = []
    real = conditional_append.add_files

    def add(*rest: Any, **more: Any) -> None:
        if raise_next:
            raise raise_next.pop()
        real(*rest, **more)

    def uniform(low: float, high: float) -> float:
        assert low == 0
        ranges.append(high)
        return high / 2

    monkeypatch.setattr(conditional_append, "add_files", add)
    monkeypatch.setattr(conditional_append.random, "uniform", uniform)
    monkeypatch.setattr(conditional_append.time, "sleep", waits.append)
    assert append_if(str(tmp_path / "t"), propose, schema=SCHEMA)
    assert asked == [None, *range(8)]
    assert ranges == [0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05, 0.05]
    assert waits == [high / 2 for high in ranges]
    assert numbers(tmp_path / "t") == [0] * 8 + [9]


def test_who_always_loses_is_told_after_a_bounded_number_of_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def lose(*_: Any, **__: Any) -> None:
        nonlocal tries
        tries += 1
        raise CommitFailedError("version 3")

    monkeypatch.setattr(conditional_append, "add_files", lose)
    monkeypatch.setattr(conditional_append.time, "sleep", lambda _: None)
    place = str(tmp_path / "t")
    with pytest.raises(TransientError) as caught:
        append_if(place, lambda _: Proposal(None, {"a": 1}), schema=SCHEMA)
    assert str(caught.value) == f"another writer was faster 200 times (version 3); got '{place}'"
    assert tries == 200


def test_what_is_no_conflict_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fail(*_: Any, **__: Any) -> None:
        raise DeltaError("the store\n  is gone")

    def propose(table: object) -> Proposal:
        asked.append(table)
        return Proposal(None, {"a": 1})

    monkeypatch.setattr(conditional_append, "add_files", fail)
    with pytest.raises(TransientError) as caught:
        append_if(str(tmp_path / "t"), propose, schema=SCHEMA)
    assert str(caught.value) == (
        f"the commit must go through (the store is gone); got '{tmp_path}/t'; try again"
    )
    assert asked == [None]


def test_another_table_is_named_with_its_columns(tmp_path: Path) -> None:
    place = str(tmp_path / "t")
    write_deltalake(place, pa.table({"x": [1], "y": [1]}))
    schema = pa.schema([("n", pa.int64()), ("m", pa.int64())])
    with pytest.raises(TableError) as caught:
        append_if(place, lambda _: Proposal(None, {"a": 1}), schema=schema)
    assert str(caught.value) == (
        f"the table must have the columns n, m ({place}); got 'x, y'; it is another table, or one of "
        "another version of modelmill: name another place"
    )


def test_promises_of_a_table_are_kept_by_not_appending_to_it(tmp_path: Path) -> None:
    place = str(tmp_path / "t")
    write_deltalake(place, rows(1))
    DeltaTable(place).alter.add_constraint({"small": "n < 2"})
    with pytest.raises(TableError, match=r"no constraints \(.*/t\); got 'delta\.constraints\.small'"):
        append_if(place, lambda _: Proposal(rows(2), {"a": 1}), schema=SCHEMA)
    assert numbers(tmp_path / "t") == [1]
