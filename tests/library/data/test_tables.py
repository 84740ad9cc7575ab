"""Delta tables without Spark: what is opened, what is refused, and by which name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.data.tables import open_table, read_arrow, resolve_table, table_exists, table_location
from modelmill.errors import TableError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three versions of one row each."""
    path = tmp_path / "table"
    for number in range(3):
        write_deltalake(str(path), pa.table({"n": [number], "t": [f"t{number}"]}), mode="append")
    return path


def edit(table: Path, kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change one action of the table's first commit."""
    commit = table / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if kind in action:
            change(action[kind])
    commit.write_text("".join(json.dumps(action) + "\n" for action in actions))


def refusal(table: Path, version: int | None = None) -> str:
    with pytest.raises(TableError) as caught:
        open_table(str(table), version=version)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def test_a_reference_is_absolute_and_names_the_version(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(table.parent)
    assert resolve_table("table") == TableRef(uri=str(table), version=2)
    assert resolve_table(f"file://{table}/", version=0) == TableRef(uri=str(table), version=0)
    assert table_location("s3://bucket/table/") == "s3://bucket/table"
    assert table_exists("table")
    assert not table_exists("nothing")


def test_what_is_missing_is_told_from_what_is_no_table(table: Path, tmp_path: Path) -> None:
    assert "must exist" in refusal(tmp_path / "nothing")
    plain = tmp_path / "plain"
    plain.mkdir()
    assert "must be a Delta table (it has no _delta_log)" in refusal(plain)
    (plain / "_delta_log").mkdir()
    assert "readable Delta table" in refusal(plain)
    assert "got 7; its newest version is 2" in refusal(table, version=7)
    with pytest.raises(TableError, match="must not be empty"):
        open_table(" ")


@pytest.mark.parametrize(
    "feature",
    ["deletionVectors", "columnMapping", "v2Checkpoint", "typeWidening", "variantType", "somethingNew"],
)
def test_a_reader_feature_that_is_not_supported_is_refused_by_name(table: Path, feature: str) -> None:
    def require(protocol: dict[str, Any]) -> None:
        protocol |= {"minReaderVersion": 3, "minWriterVersion": 7}
        protocol |= {"readerFeatures": [feature], "writerFeatures": [feature]}

    edit(table, "protocol", require)
    assert feature in refusal(table)


def test_column_mapping_is_refused_whatever_the_protocol_says(table: Path) -> None:
    edit(table, "protocol", lambda protocol: protocol.update(minReaderVersion=2, minWriterVersion=5))
    assert open_table(str(table)).version() == 2  # allowed by the version, and not in use
    settings = {"delta.columnMapping.mode": "name"}
    edit(table, "metaData", lambda metadata: metadata.update(configuration=settings))
    assert "columnMapping" in refusal(table)


def test_timestamps_without_a_zone_are_read(tmp_path: Path) -> None:
    rows = pa.table({"at": pa.array([1_000_000], pa.timestamp("us"))})
    write_deltalake(str(tmp_path / "t"), rows)
    assert DeltaTable(str(tmp_path / "t")).protocol().reader_features == ["timestampNtz"]
    assert read_arrow(resolve_table(str(tmp_path / "t"))).equals(rows)


def test_an_empty_commit_is_refused_and_versions_before_it_are_not(table: Path) -> None:
    os.truncate(table / "_delta_log" / f"{1:020d}.json", 0)
    assert DeltaTable(str(table)).count() == 2  # what delta-rs makes of it
    said = refusal(table)
    assert f"{1:020d}.json, 0 bytes" in said
    assert "read version 0" in said
    assert open_table(str(table), version=0).version() == 0


@pytest.mark.parametrize("damage", ["truncated", "zeros", "gap"])
def test_a_damaged_log_is_refused(table: Path, damage: str) -> None:
    commit = table / "_delta_log" / f"{1:020d}.json"
    if damage == "truncated":
        commit.write_bytes(commit.read_bytes()[:-40])
    elif damage == "zeros":
        commit.write_bytes(b"\0" * commit.stat().st_size)
    else:
        commit.unlink()
    assert str(table) in refusal(table)


def test_columns_are_read_in_the_order_asked_for(table: Path) -> None:
    ref = resolve_table(str(table))
    assert read_arrow(ref, columns=["t"]).column_names == ["t"]
    assert read_arrow(ref).column_names == ["n", "t"]
    assert read_arrow(TableRef(uri=str(table), version=0)).num_rows == 1
    with pytest.raises(TableError, match="did you mean 't'"):
        read_arrow(ref, columns=["tt"])


def test_a_dataset_is_read_in_the_order_of_its_keys(tmp_path: Path) -> None:
    for keys in (["b", "d"], ["a", "c"]):
        write_deltalake(str(tmp_path / "d"), pa.table({"k": keys, "t": keys}), mode="append")
    ref = DatasetRef(uri=str(tmp_path / "d"), version=1, key="k", text="t", labels=(), split="s")
    assert read_arrow(ref, columns=["t"]).to_pydict() == {"t": ["a", "b", "c", "d"]}


def test_a_file_that_is_gone_is_an_error_of_one_line(table: Path) -> None:
    for file in table.glob("*.parquet"):
        file.unlink()
    with pytest.raises(TableError, match="files must be readable") as caught:
        read_arrow(resolve_table(str(table)))
    assert "\n" not in str(caught.value)
