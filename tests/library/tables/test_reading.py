"""Delta tables without Spark: what is opened, what is read, what is refused, and by which name."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError
from modelmill.tables.opening import open_table
from modelmill.tables.preview import preview
from modelmill.tables.reading import read_arrow, scan_arrow
from modelmill.tables.storage import table_exists, table_location
from modelmill.tables.versions import resolve_table


def edit(table: Path, kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change one action of the table's first commit."""
    commit = table / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if kind in action:
            change(action[kind])
    commit.write_text("".join(json.dumps(action) + "\n" for action in actions))


def require(*features: str) -> Callable[[dict[str, Any]], object]:
    return lambda protocol: protocol.update(
        minReaderVersion=3, minWriterVersion=7, readerFeatures=list(features), writerFeatures=list(features)
    )


def refusal(table: Path, version: int | None = None) -> str:
    with pytest.raises(TableError) as caught:
        open_table(str(table), version=version)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def rows(table: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_arrow(resolve_table(str(table))).to_pylist()
    return found


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
    [
        "typeWidening",
        "typeWidening-preview",
        "variantType",
        "variantShredding",
        "catalogManaged",
        "somethingNew",
    ],
)
def test_a_reader_feature_that_is_not_supported_is_refused_by_name(table: Path, feature: str) -> None:
    edit(table, "protocol", require(feature, "timestampNtz"))
    said = refusal(table)
    assert feature in said
    assert "DROP FEATURE" in said


def test_features_that_no_path_reads_together_are_refused(table: Path) -> None:
    edit(table, "protocol", require("deletionVectors", "vacuumProtocolCheck"))
    assert "got 'vacuumProtocolCheck'" in refusal(table)


@pytest.mark.parametrize(
    "feature", ["deletionVectors", "columnMapping", "v2Checkpoint", "vacuumProtocolCheck"]
)
def test_a_feature_that_is_allowed_and_not_in_use_changes_nothing(table: Path, feature: str) -> None:
    edit(table, "protocol", require(feature))
    assert sorted(row["n"] for row in rows(table)) == [0, 1, 2]


def test_column_mapping_is_followed_whatever_the_protocol_says(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"col-7f": [1, 2], "col-9c": ["a", None]}))
    edit(tmp_path / "t", "protocol", lambda protocol: protocol.update(minReaderVersion=2, minWriterVersion=5))
    # Allowed by the version, and not in use: the physical names are the names.
    assert read_arrow(resolve_table(str(tmp_path / "t"))).column_names == ["col-7f", "col-9c"]

    def map_columns(metadata: dict[str, Any]) -> None:
        schema = json.loads(metadata["schemaString"])
        for number, (field, name) in enumerate(zip(schema["fields"], ["n, m", 'a "text"'], strict=True), 1):
            field["metadata"] = {
                "delta.columnMapping.id": number,
                "delta.columnMapping.physicalName": field["name"],
            }
            field["name"] = name
        metadata["schemaString"] = json.dumps(schema)
        metadata["configuration"] = {
            "delta.columnMapping.mode": "name",
            "delta.columnMapping.maxColumnId": "2",
        }

    mapped = shutil.copytree(tmp_path / "t", tmp_path / "mapped")  # a log is never written over
    edit(mapped, "metaData", map_columns)
    assert rows(mapped) == [{"n, m": 1, 'a "text"': "a"}, {"n, m": 2, 'a "text"': None}]
    one = read_arrow(resolve_table(str(mapped)), columns=['a "text"'])
    assert one.schema == pa.schema({'a "text"': pa.string()})


def test_rows_that_a_deletion_vector_deletes_stay_deleted(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"value": list(range(10))}))
    edit(tmp_path / "t", "protocol", require("deletionVectors"))
    # A RoaringBitmapArray of the rows 0 and 5 in the Z85 of the protocol.
    vector = {
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg000f5",
        "sizeInBytes": 36,
        "cardinality": 2,
    }
    edit(tmp_path / "t", "add", lambda add: add.update(deletionVector=vector))
    assert [row["value"] for row in rows(tmp_path / "t")] == [1, 2, 3, 4, 6, 7, 8, 9]


def test_timestamps_without_a_zone_are_read(tmp_path: Path) -> None:
    rows = pa.table({"at": pa.array([1_000_000], pa.timestamp("us"))})
    write_deltalake(str(tmp_path / "t"), rows)
    assert DeltaTable(str(tmp_path / "t")).protocol().reader_features == ["timestampNtz"]
    assert read_arrow(resolve_table(str(tmp_path / "t"))).equals(rows)


def test_times_beyond_what_int96_holds_in_nanoseconds_do_not_wrap_round(tmp_path: Path) -> None:
    far = pa.table({"at": pa.array([253402214400000000], pa.timestamp("us", "UTC"))})
    write_deltalake(str(tmp_path / "t"), far)
    (file,) = (tmp_path / "t").glob("*.parquet")
    pq.write_table(far, file, use_deprecated_int96_timestamps=True)
    edit(tmp_path / "t", "add", lambda add: add.update(size=file.stat().st_size))
    ref = resolve_table(str(tmp_path / "t"))
    assert read_arrow(ref).equals(far)
    assert pa.Table.from_batches(scan_arrow(ref, columns=["at"], batch_rows=10)).equals(far)


SPECIAL = ["a b", "100%", "%41", "a/b", "a:b", "é", "a+b", "a=b", "[x]*?", "{}", "'\"", "a\\b", None]


def test_special_characters_in_partition_values_are_read(tmp_path: Path) -> None:
    source = pa.table({"n": list(range(len(SPECIAL))), "p": SPECIAL})
    write_deltalake(str(tmp_path / "a é place"), source, partition_by=["p"])
    ref = resolve_table(str(tmp_path / "a é place"))
    assert read_arrow(ref).sort_by("n").to_pydict() == source.to_pydict()
    batches = pa.Table.from_batches(scan_arrow(ref, columns=["n", "p"], batch_rows=2))
    assert batches.sort_by("n").to_pydict() == source.to_pydict()


def test_a_path_that_stands_for_another_one_is_refused(table: Path) -> None:
    odd = str(table.parent / "a%20b")
    table.rename(odd)
    with pytest.raises(DeltaError, match="a b/_delta_log"):  # where delta-rs looks for the log's files
        DeltaTable(odd)
    for ask in (open_table, table_exists):
        with pytest.raises(TableError, match="has no %"):
            ask(odd)


def test_an_empty_string_in_a_partition_is_null_as_the_protocol_says(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"n": [1], "p": ["x"]}), partition_by=["p"])
    edit(tmp_path / "t", "add", lambda add: add.update(partitionValues={"p": ""}))
    assert rows(tmp_path / "t") == [{"n": 1, "p": None}]


def test_tables_of_no_rows_and_of_no_files_have_their_columns(tmp_path: Path) -> None:
    nothing = pa.table({"n": pa.array([], pa.int64()), "s": pa.array([], pa.list_(pa.string()))})
    write_deltalake(str(tmp_path / "rows"), nothing)
    DeltaTable.create(str(tmp_path / "files"), schema=nothing.schema)
    for name in ("rows", "files"):
        found = read_arrow(resolve_table(str(tmp_path / name)))
        assert (found.num_rows, found.column_names) == (0, ["n", "s"])


def test_nested_values_and_columns_that_came_later_are_read(tmp_path: Path) -> None:
    old = [{"s": {"a": [1, None], "m": [("k", {"x": "é"})]}}, {"s": None}]
    kind = pa.struct({"a": pa.list_(pa.int64()), "m": pa.map_(pa.string(), pa.struct({"x": pa.string()}))})
    write_deltalake(str(tmp_path / "t"), pa.table({"s": pa.array([row["s"] for row in old], kind)}))
    more = pa.table({"s": pa.array([None], kind), "later": ["x"]})
    write_deltalake(str(tmp_path / "t"), more, mode="append", schema_mode="merge")
    found = sorted(rows(tmp_path / "t"), key=str)
    assert found == sorted([*({**row, "later": None} for row in old), {"s": None, "later": "x"}], key=str)


def test_what_statistics_say_drops_no_rows(table: Path) -> None:
    edit(table, "add", lambda add: add.update(stats='{"numRecords": 1, "minValues": {"n": 5}}'))
    assert sorted(row["n"] for row in rows(table)) == [0, 1, 2]


def test_a_shallow_clone_is_refused(table: Path) -> None:
    edit(table, "add", lambda add: add.update(path=f"file:{table}/{add['path']}"))
    with pytest.raises(TableError, match="shallow clone"):
        rows(table)


def test_columns_are_read_in_the_order_asked_for(table: Path) -> None:
    ref = resolve_table(str(table))
    assert read_arrow(ref, columns=["t"]).column_names == ["t"]
    assert read_arrow(ref, columns=["t", "n"]).column_names == ["t", "n"]
    assert read_arrow(ref).column_names == ["n", "t"]
    assert read_arrow(TableRef(uri=str(table), version=0)).num_rows == 1
    with pytest.raises(TableError, match="did you mean 't'"):
        read_arrow(ref, columns=["tt"])
    with pytest.raises(TableError, match="got 'tt, m'; did you mean 't'"):
        read_arrow(ref, columns=["tt", "n", "m"])


def test_a_dataset_is_read_in_the_order_of_its_keys(tmp_path: Path) -> None:
    for keys in (["b", "d"], ["a", "c"]):
        write_deltalake(str(tmp_path / "d"), pa.table({"k": keys, "t": keys}), mode="append")
    ref = DatasetRef(uri=str(tmp_path / "d"), version=1, key="k", text="t", labels=(), split="s")
    assert read_arrow(ref, columns=["t"]).to_pydict() == {"t": ["a", "b", "c", "d"]}


def bytes_read() -> int:
    said = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(said["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what a process reads")
def test_the_first_rows_cost_the_same_in_a_large_row_group(tmp_path: Path) -> None:
    rows = 400_000
    texts = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(rows)]
    write_deltalake(str(tmp_path), pa.table({"id": range(rows), "text": texts}))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.parquet")) > 10 * 2**20
    before = bytes_read()
    shown = preview(str(tmp_path), rows=20)
    assert bytes_read() - before < 4 * 2**20  # of two columns, a page of the dictionary and one of values
    assert [row["text"] for row in shown.sample] == texts[:20]
    assert shown.rows == rows


def test_the_first_rows_of_a_table_that_has_got_a_column_since(tmp_path: Path) -> None:
    place = str(tmp_path)
    write_deltalake(place, pa.table({"id": [1, 2]}))
    write_deltalake(place, pa.table({"id": [3], "text": ["new"]}), mode="append", schema_mode="merge")
    shown = preview(place, rows=3, labels=["text"])
    rows = sorted(tuple(row.values()) for row in shown.sample if row["id"] < 3)
    assert rows == [(1, None), (2, None)]
    assert {"id": 3, "text": "new"} in shown.sample
    assert {(count.value, count.rows) for count in shown.balance["text"]} == {(None, 2), ("new", 1)}


def test_a_table_is_checked_without_pandas(table: Path, tmp_path: Path) -> None:
    """To import it takes a third of the time of a step whose result is reused."""
    code = """
import sys
from pathlib import Path
from modelmill.tables.reading import check_table
from modelmill.tables.versions import resolve_table
check_table(resolve_table(sys.argv[1]), memory=Path(sys.argv[2]))
print("pandas" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(table), str(tmp_path / "digests")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("version", [100_001, 2**31, 2**63 - 1, 2**64, 10**30])
def test_a_version_that_is_far_away_is_refused_at_once(table: Path, version: int) -> None:
    """delta-rs would take time and memory for each version up to it, or no such number at all."""
    assert f"got {version}; its newest version is 2" in refusal(table, version=version)
