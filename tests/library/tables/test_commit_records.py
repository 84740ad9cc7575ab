"""What a commit says, which version it was, and what a writer is told whose commit does not go through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from modelmill.errors import TableError, TransientError
from modelmill.system.digests import file_digest
from modelmill.tables import commits
from modelmill.tables.commits import (
    commit_files,
    commit_properties,
    committed_version,
    is_committed,
    is_conflict,
    write_rows,
)
from modelmill.tables.staged_files import DataFile, stage_rows


def rows(*numbers: int) -> pa.Table:
    return pa.table({"n": pa.array(numbers, pa.int64())})


SCHEMA = Schema.from_arrow(rows().schema)


def numbers(place: Path, version: int | None = None) -> list[int]:
    return sorted(DeltaTable(str(place), version=version).to_pyarrow_table()["n"].to_pylist())


def commit(place: Path, *numbers: int, transaction: str, **more: Any) -> int:
    file = stage_rows(rows(*numbers), str(place))
    values: dict[str, Any] = {"schema": SCHEMA, "mode": "append", **more}
    return commit_files(str(place), [file], transaction=transaction, **values)


def test_a_commit_names_its_transactions_its_files_and_why(tmp_path: Path) -> None:
    properties = {"delta.enableChangeDataFeed": "true"}
    why = {"rows_read": 7}
    commit(tmp_path, 1, transaction="t", parts=("a", "b"), metadata=why, properties=properties)
    (file,) = tmp_path.glob("*.parquet")
    table = DeltaTable(str(tmp_path))
    assert table.history()[0]["modelmill"] == {
        "transaction": "t",
        "rows_read": 7,
        "sha256": {file.name: file_digest(file)},
        "transactions": 3,
    }
    assert table.metadata().configuration == properties
    assert [table.transaction_version(name) for name in ("t", "a", "b")] == [1, 1, 1]
    other = {"delta.appendOnly": "true"}
    commit(tmp_path, 2, transaction="u", properties=other)
    assert DeltaTable(str(tmp_path)).metadata().configuration == properties, (
        "a table that is there keeps its own"
    )
    assert DeltaTable(str(tmp_path)).history()[0]["modelmill"]["transactions"] == 1


def test_rows_in_memory_replace_others_or_come_beside_them(tmp_path: Path) -> None:
    place = str(tmp_path / "t")
    assert write_rows(place, rows(1), mode="append", transaction="a", metadata={"why": "first"}) == 0
    assert write_rows(place, rows(2), mode="append", transaction="b") == 1
    assert write_rows(place, rows(3), mode="overwrite", transaction="c") == 2
    assert [numbers(tmp_path / "t", version) for version in range(3)] == [[1], [1, 2], [3]]
    assert [entry["modelmill"].get("why") for entry in DeltaTable(place).history()] == [None, None, "first"]


def test_a_transaction_is_found_among_many_as_long_as_the_log_says(tmp_path: Path) -> None:
    for number in range(6):
        commit(tmp_path, number, transaction=f"t{number}")
    write_deltalake(str(tmp_path), rows(9), mode="append")  # of another writer, without a transaction
    found = [committed_version(str(tmp_path), f"t{number}") for number in range(6)]
    assert found == [0, 1, 2, 3, 4, 5]
    assert committed_version(str(tmp_path), "t6") is None
    DeltaTable(str(tmp_path)).create_checkpoint()
    for number in range(4):  # cleaned up
        (tmp_path / "_delta_log" / f"{number:020d}.json").unlink()
    found = [committed_version(str(tmp_path), f"t{number}") for number in range(6)]
    assert found == [6, 6, 6, 6, 4, 5], "that it was committed is still known, and its version no more"
    assert commit(tmp_path, 1, transaction="t1") == 6
    assert numbers(tmp_path) == [0, 1, 2, 3, 4, 5, 9]


def test_files_of_a_folder_may_be_part_of_a_table(tmp_path: Path) -> None:
    place = tmp_path / "t"
    assert not is_committed(str(place), "part-1")
    (place / "part-10").mkdir(parents=True)
    staged = stage_rows(rows(1), str(place))
    path = f"part-10/{staged.path}"
    (place / staged.path).rename(place / path)
    assert not is_committed(str(place), "part-10")
    file = DataFile(path=path, size=staged.size, rows=1, modified=staged.modified)
    commit_files(str(place), [file], schema=SCHEMA, mode="append", transaction="t")
    assert is_committed(str(place), "part-10")
    assert not is_committed(str(place), "part-1"), "another folder, whose name is the beginning of it"
    (place / "_delta_log" / f"{0:020d}.json").write_text("{ no JSON")
    assert is_committed(str(place), "part-1"), "who cannot look removes nothing"


def test_who_always_loses_is_told_after_a_bounded_number_of_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def lose(*_: Any, **__: Any) -> None:
        nonlocal tries
        tries += 1
        raise CommitFailedError("version 3")

    with monkeypatch.context() as patch:
        patch.setattr(commits, "add_files", lose)
        with pytest.raises(TransientError) as caught:
            commit(tmp_path, 1, transaction="t")
    assert str(caught.value) == f"another writer was faster 20 times (version 3); got '{tmp_path}'"
    assert tries == 20
    assert commit(tmp_path, 1, transaction="t") == 0


def test_who_loses_once_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, losses = commits.add_files, [CommitFailedError("lost"), DeltaError("Delta table already exists")]

    def add(*rest: Any, **more: Any) -> None:
        if losses:
            raise losses.pop()
        real(*rest, **more)

    monkeypatch.setattr(commits, "add_files", add)
    assert commit(tmp_path, 1, transaction="t") == 0
    assert losses == []
    assert numbers(tmp_path) == [1]


def test_what_is_no_conflict_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [
        DeltaError("the store\n is gone"),
        OSError("the store is gone"),
        ValueError("bug"),
    ]

    def fail(*_: Any, **__: Any) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(commits, "add_files", fail)
    for _ in range(2):
        with pytest.raises(TransientError) as caught:
            commit(tmp_path, 1, transaction="t")
        assert str(caught.value) == (
            f"the commit must go through (the store is gone); got '{tmp_path}'; try again"
        )
    with pytest.raises(ValueError, match="bug"):
        commit(tmp_path, 1, transaction="t")


def test_only_a_faster_writer_makes_a_conflict() -> None:
    assert is_conflict(CommitFailedError("any"))
    assert is_conflict(OSError("version 0 already exists"))
    assert not is_conflict(DeltaError("any"))


def test_a_commit_that_the_log_does_not_show_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "add_files", lambda *_, **__: None)
    with pytest.raises(TransientError) as caught:
        commit(tmp_path, 1, transaction="t")
    assert str(caught.value) == f"a commit must be in the log after it was made; got '{tmp_path}'"


def test_a_first_commit_is_not_put_behind_another_tables(tmp_path: Path) -> None:
    """delta-rs would try again upon what another writer has begun there meanwhile."""
    commit(tmp_path, 1, transaction="t")
    assert commit_properties(None, {}, transactions={"t": 1}).max_commit_retries == 0
    upon = commit_properties(DeltaTable(str(tmp_path)), {}, transactions={"t": 4})
    assert upon.max_commit_retries == commits.MAX_COMMIT_RETRIES == 200
    assert [(one.app_id, one.version) for one in upon.app_transactions or []] == [("t", 4)]
    assert upon.custom_metadata == {"modelmill": {"sha256": {}, "transactions": 1}}


def test_an_append_says_what_stands_in_its_way(tmp_path: Path) -> None:
    commit(tmp_path, 1, transaction="t", parts=("a",))
    with pytest.raises(TransientError) as caught:
        commit(tmp_path, 2, transaction="u", parts=("a", "b"))
    assert str(caught.value) == (
        "a file is loaded once; another writer has just loaded some of these; got '1 of 2'; try again"
    )
    other = pa.table({"m": pa.array([1], pa.int64())})
    file = stage_rows(other, str(tmp_path))
    schema = Schema.from_arrow(other.schema)
    with pytest.raises(TransientError) as caught:
        commit_files(str(tmp_path), [file], schema=schema, mode="append", transaction="u")
    assert str(caught.value) == (
        f"the table's columns must not change while rows are added; got '{tmp_path}'"
    )
    assert numbers(tmp_path) == [1]


def test_a_table_with_rules_is_named(tmp_path: Path) -> None:
    commit(tmp_path, 1, transaction="t")
    DeltaTable(str(tmp_path)).alter.add_constraint({"small": "n < 2"})
    with pytest.raises(TableError) as caught:
        commit(tmp_path, 2, transaction="u")
    assert str(caught.value) == (
        f"a table that is written to has no partitions and no constraints ({tmp_path}); "
        "got 'delta.constraints.small'; write to another table"
    )
