"""Damaged logs and files: an error that names the damage, or the rows as they were. Never other rows."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Schema, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.tables import files, first_reads
from modelmill.tables.commits import commit_files, write_rows
from modelmill.tables.opening import open_table
from modelmill.tables.reading import read_arrow
from modelmill.tables.staged_files import DataFile
from modelmill.tables.versions import resolve_table

FLIPS = 300


def commit(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def put(table: Path, name: str, numbers: range, *, mode: Literal["append", "overwrite"] = "append") -> int:
    """Commit one file of rows with a manifest, as our jobs do."""
    rows = pa.table({"n": list(numbers), "text": [f"text {number % 7}" for number in numbers]})
    table.mkdir(exist_ok=True)
    pq.write_table(rows, table / name)
    stat = (table / name).stat()
    file = DataFile(path=name, size=stat.st_size, rows=len(numbers), modified=int(stat.st_mtime * 1000))
    schema = Schema.from_arrow(rows.schema)
    return commit_files(str(table), [file], schema=schema, mode=mode, transaction=name)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two commits."""
    put(tmp_path / "d", "a.parquet", range(200))
    put(tmp_path / "d", "b.parquet", range(200, 300))
    return tmp_path / "d"


def read(table: Path, version: int | None = None) -> pa.Table:
    return read_arrow(resolve_table(str(table), version=version))


def refusal(table: Path, version: int | None = None) -> str:
    with pytest.raises(TableError) as caught:
        read(table, version)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def test_an_empty_commit_is_refused_and_versions_before_it_are_not(table: Path) -> None:
    os.truncate(commit(table, 1), 0)
    assert DeltaTable(str(table)).count() == 2  # what delta-rs makes of it
    said = refusal(table)
    assert f"{1:020d}.json, 0 bytes" in said
    assert "read version 0" in said
    assert open_table(str(table), version=0).version() == 0


@pytest.mark.parametrize("damage", ["truncated", "zeros", "gap"])
def test_a_damaged_log_is_refused(table: Path, damage: str) -> None:
    file = commit(table, 1)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif damage == "zeros":
        file.write_bytes(b"\0" * file.stat().st_size)
    else:
        file.unlink()
    assert str(table) in refusal(table)


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 7, "size": 1}', b'{"version": 0, "size": 9}'])
def test_a_bad_pointer_to_the_last_checkpoint_changes_no_rows(table: Path, content: bytes) -> None:
    DeltaTable(str(table)).create_checkpoint()
    write_deltalake(str(table), pa.table({"n": [3], "t": ["t3"]}), mode="append")
    (table / "_delta_log/_last_checkpoint").write_bytes(content)
    try:
        assert sorted(read(table)["n"].to_pylist()) == [0, 1, 2, 3]
    except TableError as error:
        assert "log must be readable" in str(error)  # noqa: PT017 (both outcomes are right)


@pytest.mark.parametrize("damage", ["torn", "zeros", "empty"])
def test_a_corrupt_checkpoint_is_refused_where_the_commits_are_gone(table: Path, damage: str) -> None:
    DeltaTable(str(table)).create_checkpoint()
    (file,) = table.glob("_delta_log/*.checkpoint.parquet")
    content = file.read_bytes()
    file.write_bytes({"torn": content[:-30], "zeros": bytes(len(content)), "empty": b""}[damage])
    for version in range(3):
        commit(table, version).unlink()
    assert str(table) in refusal(table)


def test_a_log_that_was_cleaned_up_is_read_from_its_checkpoint(table: Path) -> None:
    DeltaTable(str(table)).create_checkpoint()
    for version in range(3):
        commit(table, version).unlink()
    assert sorted(read(table)["n"].to_pylist()) == [0, 1, 2]
    assert "must have the version" in refusal(table, 1)


@pytest.mark.parametrize("sidecar", [False, True])
def test_a_checkpoint_of_the_second_kind_is_read(table: Path, sidecar: bool) -> None:
    actions = [json.loads(line) for n in range(3) for line in commit(table, n).read_text().splitlines()]
    adds = [action for action in actions if "add" in action]
    (metadata,) = [action for action in actions if "metaData" in action]
    features = {"readerFeatures": ["v2Checkpoint"], "writerFeatures": ["v2Checkpoint"]}
    lines = [
        {"checkpointMetadata": {"version": 2}},
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        metadata,
    ]
    log = table / "_delta_log"
    if sidecar:
        (log / "_sidecars").mkdir()
        kind = pa.struct(
            {
                "path": pa.string(),
                "partitionValues": pa.map_(pa.string(), pa.string()),
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
            }
        )
        rows = [{"add": {field.name: action["add"][field.name] for field in kind}} for action in adds]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([("add", kind)])), log / "_sidecars/s.parquet")
        size = (log / "_sidecars/s.parquet").stat().st_size
        lines.append({"sidecar": {"path": "s.parquet", "sizeInBytes": size, "modificationTime": 0}})
    else:
        lines += adds
    name = f"{2:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json"
    (log / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for version in range(3):
        commit(table, version).unlink()
    assert sorted(read(table)["n"].to_pylist()) == [0, 1, 2]


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_file_that_is_not_whole_is_named(table: Path, damage: str) -> None:
    file = min(table.glob("*.parquet"))
    if damage == "gone":
        file.unlink()
        assert f"{file.name}: missing" in refusal(table)
    else:
        os.truncate(file, 50)
        assert f"{file.name}: 50 bytes instead of" in refusal(table)


def test_rows_are_counted_where_the_log_says_how_many_there_are(table: Path) -> None:
    text = commit(table, 1).read_text()
    commit(table, 1).write_text(text.replace('{\\"numRecords\\":1', '{\\"numRecords\\":2'))
    assert "3 instead of 4" in refusal(table)


def test_a_flipped_bit_is_found_in_whichever_commit_the_file_came(dataset: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        content = (dataset / name).read_bytes()
        (dataset / name).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        said = refusal(dataset)
        assert f"as it was written ({dataset}@1); got '{name}'" in said
        (dataset / name).write_bytes(content)
        assert read(dataset).num_rows == 300


def test_commits_of_others_after_ours_do_not_hide_the_digests(dataset: Path) -> None:
    for number in range(3):
        DeltaTable(str(dataset)).alter.set_table_properties(
            {"delta.appendOnly": str(number % 2 == 0).lower()}
        )
    (dataset / "a.parquet").write_bytes((dataset / "a.parquet").read_bytes()[:-1] + b"2")
    assert "a.parquet" in refusal(dataset)


def test_what_the_log_still_says_is_checked_after_a_clean_up(dataset: Path) -> None:
    DeltaTable(str(dataset)).create_checkpoint()
    commit(dataset, 0).unlink()
    table = open_table(str(dataset))
    active = files.active_files(table, str(dataset))
    assert files.check_digests(table, str(dataset), active, shown="d") == {"b.parquet"}
    assert read(dataset).num_rows == 300


def test_a_commit_that_lost_its_last_lines_is_found(dataset: Path) -> None:
    lines = commit(dataset, 1).read_text().splitlines(keepends=True)
    commit(dataset, 1).write_text("".join(line for line in lines if '"add"' not in line))
    assert "must have the files that it says it has" in refusal(dataset)


def test_an_overwrite_that_lost_its_removals_is_found(dataset: Path) -> None:
    version = put(dataset, "c.parquet", range(10), mode="overwrite")
    assert read(dataset).num_rows == 10
    lines = commit(dataset, version).read_text().splitlines(keepends=True)
    commit(dataset, version).write_text("".join(line for line in lines if '"remove"' not in line))
    assert "a.parquet, b.parquet" in refusal(dataset)


def test_files_are_hashed_once_in_a_process(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    original = files.file_digests
    monkeypatch.setattr(
        files, "file_digests", lambda place, paths, memory: hashed.extend(paths) or original(place, paths)
    )
    for columns in (["n"], ["text"], None):
        read_arrow(resolve_table(str(dataset)), columns=columns)
    assert sorted(hashed) == ["a.parquet", "b.parquet"]


def test_no_flipped_bit_goes_unseen(dataset: Path, tmp_path: Path) -> None:
    """One bit at a time, in data files and commits: refused, or the very same rows."""
    expected = read(dataset).sort_by("n")
    chance = random.Random(7)
    targets = [*dataset.glob("*.parquet"), *dataset.glob("_delta_log/*.json")]
    sizes = [target.stat().st_size for target in targets]
    found = 0
    for number in range(FLIPS):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(dataset, copy)
        (target,) = chance.choices(targets, sizes)
        file = copy / target.relative_to(dataset)
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        try:
            rows = read_arrow(TableRef(uri=str(copy), version=1))
        except TableError:
            found += 1
        else:
            assert rows.sort_by("n").equals(expected), file
        shutil.rmtree(copy)
    assert found > FLIPS // 2


@pytest.mark.parametrize("writer", ["ours", "delta-rs"])
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_commit_that_was_cut_at_a_lines_end_is_refused(tmp_path: Path, writer: str, mode: Any) -> None:
    """At every line: what is lost may be files, removals, or the transactions that make a retry harmless."""
    place = tmp_path / "table"
    rows = [pa.table({"n": [number], "text": [str(number)]}) for number in range(2)]
    for number, part in enumerate(rows):
        if writer == "ours":
            write_rows(str(place), part, mode=mode, transaction=f"t{number}")
        else:
            write_deltalake(str(place), part, mode=mode)
    lines = commit(place, 1).read_text().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        commit(place, 1).write_text("".join(lines[:kept]))
        assert commit(place, 1).name in refusal(place), kept


def test_rows_of_our_own_tables_are_read_as_written_or_refused(tmp_path: Path) -> None:
    place = tmp_path / "table"
    write_rows(str(place), pa.table({"n": range(50)}), mode="append", transaction="t")
    file = next(place.glob("*.parquet"))
    content = file.read_bytes()
    for position in range(4, len(content), 41):
        flipped = bytearray(content)
        flipped[position] ^= 4
        file.write_bytes(flipped)
        files._verified.clear()
        assert file.name in refusal(place), position


def test_a_file_of_others_that_reads_differently_than_at_first_is_refused(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    assert read(table).num_rows == 3  # without a home nothing is remembered, nor made
    assert not home.exists()
    home.mkdir()
    assert read(table).num_rows == 3
    file = min(table.glob("*.parquet"))
    content = file.read_bytes()
    flips = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(4, 200, 7)]
    for flipped in flips:
        file.write_bytes(flipped)
        first_reads._seen.clear()  # as in another process
        assert f"when it was first read ({table}@2); got '{file.name}'" in refusal(table)
    file.write_bytes(content)
    write_deltalake(str(table), pa.table({"n": [3], "t": ["t3"]}), mode="append")
    assert read(table).num_rows == 4


def test_a_memory_that_was_damaged_calls_no_good_table_damaged(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    rows = read(table)
    (memory,) = (home / "cache" / "first_reads").glob("*.json")
    content = memory.read_bytes()
    for at in range(0, len(content), 23):
        memory.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert read(table).equals(rows), at


def test_a_table_that_was_written_anew_is_another_one(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    assert read(table).num_rows == 3
    names = sorted(file.name for file in table.glob("*.parquet"))
    shutil.rmtree(table)
    rows = pa.table({"n": [9], "t": ["t9"]})
    write_deltalake(str(table), rows)
    (new,) = table.glob("*.parquet")
    log = commit(table, 0)
    log.write_text(log.read_text().replace(new.name, names[0]))
    new.rename(table / names[0])
    assert read(table).equals(rows)


def test_a_column_that_another_name_in_the_log_would_make_null_is_refused(dataset: Path) -> None:
    log = commit(dataset, 0)
    log.write_text(log.read_text().replace('\\"name\\":\\"text\\"', '\\"name\\":\\"tezt\\"'))
    assert "tezt instead of text" in refusal(dataset)
    assert read_arrow(resolve_table(str(dataset)), columns=["n"]).num_rows == 300


def test_a_column_that_was_added_later_is_null_in_older_files(table: Path) -> None:
    write_deltalake(
        str(table), pa.table({"n": [3], "t": ["t3"], "more": [1]}), schema_mode="merge", mode="append"
    )
    assert sorted(read(table)["more"].to_pylist(), key=str) == [1, None, None, None]


@pytest.mark.parametrize("version", range(3))
def test_a_commit_of_others_that_was_cut_is_refused_however_old_it_is(table: Path, version: int) -> None:
    log = commit(table, version)
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if '"add"' not in line))
    assert log.name in refusal(table)


@pytest.mark.parametrize(
    ("was", "now"), [('"day":"1"', '"day":"3"'), ('"remove":{"path":"day', '"remove":{"path":"eay')]
)
def test_a_commit_of_others_that_reads_differently_than_at_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str, now: str
) -> None:
    """A partition's value and what a commit removes are in the log alone."""
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    place = tmp_path / "table"
    for number in range(2):
        rows = pa.table({"n": [0, 1], "day": ["1", "2"]})
        write_deltalake(str(place), rows, mode="overwrite" if number else "append", partition_by=["day"])
    assert read(place).num_rows == 2
    log = commit(place, 1)
    assert was in log.read_text()
    log.write_text(log.read_text().replace(was, now))
    first_reads._seen.clear()  # as in another process
    assert f"got '{log.relative_to(place)}'" in refusal(place)
