"""Commits that happen once: retries, races, refusals, damage."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Schema, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import TableError, TransientError
from modelmill.tables.commits import commit_files, committed_version, write_rows
from modelmill.tables.reading import read_arrow
from modelmill.tables.staged_files import DataFile, stage_rows
from modelmill.tables.versions import resolve_table


def stage(table: Path, name: str, rows: pa.Table) -> DataFile:
    table.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, table / name)
    stat = (table / name).stat()
    return DataFile(path=name, size=stat.st_size, rows=rows.num_rows, modified=int(stat.st_mtime * 1000))


def put(
    table: Path,
    numbers: list[int],
    transaction: str,
    *,
    mode: Literal["append", "overwrite"] = "append",
    parts: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> int:
    rows = pa.table({"n": pa.array(numbers, pa.int64())})
    file = stage(table, f"{transaction}-{os.urandom(4).hex()}.parquet", rows)
    return commit_files(
        str(table),
        [file],
        schema=Schema.from_arrow(rows.schema),
        mode=mode,
        transaction=transaction,
        parts=parts or [],
        metadata=metadata,
    )


def numbers(table: Path) -> list[int]:
    return sorted(DeltaTable(str(table)).to_pyarrow_table()["n"].to_pylist())


def test_a_transaction_is_committed_once_and_its_version_is_found_again(tmp_path: Path) -> None:
    table = tmp_path / "a table"
    assert committed_version(str(table), "one") is None
    assert put(table, [1], "one") == 0
    assert put(table, [2], "two") == 1
    assert put(table, [1], "one") == 0
    assert put(table, [2], "two") == 1
    assert numbers(table) == [1, 2]
    assert committed_version(str(table), "two") == 1


def test_an_overwrite_replaces_rows_and_columns(tmp_path: Path) -> None:
    put(tmp_path / "t", [1], "one")
    rows = pa.table({"other": ["x"]})
    file = stage(tmp_path / "t", "x.parquet", rows)
    schema = Schema.from_arrow(rows.schema)
    version = commit_files(str(tmp_path / "t"), [file], schema=schema, mode="overwrite", transaction="two")
    assert read_arrow(TableRef(uri=str(tmp_path / "t"), version=version)).to_pylist() == [{"other": "x"}]
    assert read_arrow(TableRef(uri=str(tmp_path / "t"), version=0)).to_pylist() == [{"n": 1}]


def test_parts_that_another_commit_settled_are_not_settled_again(tmp_path: Path) -> None:
    put(tmp_path / "t", [1], "one", parts=["file a"])
    with pytest.raises(TransientError, match="loaded once"):
        put(tmp_path / "t", [1, 2], "two", parts=["file a", "file b"])
    assert numbers(tmp_path / "t") == [1]
    put(tmp_path / "t", [2], "three", parts=["file b", "file c"])
    assert numbers(tmp_path / "t") == [1, 2]


def test_rows_of_other_columns_are_not_added(tmp_path: Path) -> None:
    put(tmp_path / "t", [1], "one")
    rows = pa.table({"n": pa.array([2], pa.int32())})
    file = stage(tmp_path / "t", "x.parquet", rows)
    schema = Schema.from_arrow(rows.schema)
    with pytest.raises(TransientError, match=r"the table's columns must not change .*; got '.*/t'"):
        commit_files(str(tmp_path / "t"), [file], schema=schema, mode="append", transaction="two")
    assert DeltaTable(str(tmp_path / "t")).version() == 0


def test_rows_that_are_in_a_table_already_are_not_staged_again(tmp_path: Path) -> None:
    table = tmp_path / "t"
    rows = pa.table({"n": [1, 2]})
    first = [write_rows(str(table), rows, mode="append", transaction="one") for _ in range(2)]
    assert first == [0, 0]
    assert len(list(table.glob("*.parquet"))) == 1
    history = DeltaTable(str(table)).history()
    assert [commit["modelmill"]["transaction"] for commit in history] == ["one"]


def test_readers_can_pass_over_files_by_what_a_commit_says_of_them(tmp_path: Path) -> None:
    rows = pa.table({"n": [3, None, 1], "name": ["b", "a", "c"]})
    file = stage_rows(rows, str(tmp_path), bounds=("n", "name"))
    schema = Schema.from_arrow(rows.schema)
    commit_files(str(tmp_path), [file], schema=schema, mode="append", transaction="one")
    (said,) = pa.table(DeltaTable(str(tmp_path)).get_add_actions(flatten=True)).to_pylist()
    assert (said["num_records"], said["min.n"], said["max.n"], said["null_count.n"]) == (3, 1, 3, 1)
    assert (said["min.name"], said["max.name"], said["null_count.name"]) == ("a", "c", 0)


def race(work: list[Any]) -> list[Any]:
    results: list[Any] = [None] * len(work)
    gate = threading.Barrier(len(work))

    def run(index: int) -> None:
        gate.wait()
        try:
            results[index] = work[index]()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("begun", [True, False])
def test_writers_that_race_with_the_same_transaction_add_its_rows_once(tmp_path: Path, begun: bool) -> None:
    if begun:
        put(tmp_path / "t", [0], "zero")
    results = race([lambda: put(tmp_path / "t", [1], "same") for _ in range(6)])
    assert results == [int(begun)] * 6
    assert numbers(tmp_path / "t") == ([0, 1] if begun else [1])


def test_writers_that_race_with_different_transactions_all_get_in(tmp_path: Path) -> None:
    results = race([lambda n=n: put(tmp_path / "t", [n], f"t{n}") for n in range(12)])
    assert sorted(results) == list(range(12))
    assert numbers(tmp_path / "t") == list(range(12))


def test_promises_of_a_table_are_kept_by_not_writing_to_it(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "p"), pa.table({"n": [1], "p": ["a"]}), partition_by=["p"])
    with pytest.raises(TableError, match="partition column p"):
        put(tmp_path / "p", [2], "two")
    write_deltalake(str(tmp_path / "c"), pa.table({"n": [1]}))
    DeltaTable(str(tmp_path / "c")).alter.add_constraint({"small": "n < 2"})
    with pytest.raises(TableError, match=r"delta\.constraints\.small"):
        put(tmp_path / "c", [2], "two")
    assert numbers(tmp_path / "c") == [1]


def test_a_flipped_bit_is_found_where_the_commit_names_digests(tmp_path: Path) -> None:
    table = tmp_path / "t"
    rows = pa.table({"n": list(range(1000))})
    file = stage(table, "x.parquet", rows)
    schema = Schema.from_arrow(rows.schema)
    commit_files(str(table), [file], schema=schema, mode="append", transaction="one")
    assert read_arrow(resolve_table(str(table))).num_rows == 1000
    content = bytearray((table / "x.parquet").read_bytes())
    content[100] ^= 1
    (table / "x.parquet").write_bytes(content)
    with pytest.raises(TableError, match="as it was written"):
        read_arrow(resolve_table(str(table)))
