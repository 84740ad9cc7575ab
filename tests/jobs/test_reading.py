"""Tables as Spark jobs read them: the same rows as without Spark, on each engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.errors import TableError
from modelmill.spark import scratch_folder
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table
from modelmill_jobs import build_dataset
from modelmill_jobs.reading import read_table

SPECIAL = ["a b", "100%", "%41", "a/b", "a:b", "é", "a+b", "a=b", "", None]
GLOBS = ["[x]*?", "{}", "a\\b"]


@pytest.fixture(params=["sail", pytest.param("jvm", marks=pytest.mark.jvm)])
def spark(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def edit(table: Path, kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    commit = table / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        if kind in action:
            change(action[kind])
    commit.write_text("".join(json.dumps(action) + "\n" for action in actions))


def same(spark: Any, table: Path) -> list[str]:
    """Read the table both ways, and return its rows."""
    ref = resolve_table(str(table))
    found = read_table(spark, ref)
    expected = read_arrow(ref)
    assert found.columns == expected.column_names
    rows = sorted(str(row.asDict(recursive=True)) for row in found.collect())
    assert rows == sorted(map(str, expected.to_pylist()))
    return rows


@pytest.mark.parametrize("values", [SPECIAL, GLOBS])
def test_special_characters_in_partition_values(spark: Any, tmp_path: Path, values: list[str | None]) -> None:
    source = pa.table({"n": list(range(len(values))), "p": values})
    write_deltalake(str(tmp_path / "t"), source, partition_by=["p"])
    assert len(same(spark, tmp_path / "t")) == len(values)


def test_tables_of_no_rows_and_of_no_files(spark: Any, tmp_path: Path) -> None:
    nothing = pa.table({"n": pa.array([], pa.int64()), "s": pa.array([], pa.list_(pa.string()))})
    write_deltalake(str(tmp_path / "rows"), nothing)
    DeltaTable.create(str(tmp_path / "files"), schema=nothing.schema)
    assert same(spark, tmp_path / "rows") == same(spark, tmp_path / "files") == []


def test_a_deletion_vector_deletes(spark: Any, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"value": list(range(10))}))
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    edit(
        tmp_path / "t",
        "protocol",
        lambda protocol: protocol.update(minReaderVersion=3, minWriterVersion=7, **features),
    )
    staged = set(scratch_folder(spark).rglob("*.parquet"))
    assert len(same(spark, tmp_path / "t")) == 10
    assert set(scratch_folder(spark).rglob("*.parquet")) == staged  # allowed, not in use: no copy
    # A RoaringBitmapArray of the rows 0 and 5 in the Z85 of the protocol.
    vector = {
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg000f5",
        "sizeInBytes": 36,
        "cardinality": 2,
    }
    less = shutil.copytree(tmp_path / "t", tmp_path / "less")  # a log is never written over
    edit(less, "add", lambda add: add.update(deletionVector=vector))
    assert len(same(spark, less)) == 8
    bad = shutil.copytree(less, tmp_path / "bad")
    edit(bad, "add", lambda add: add["deletionVector"].update(pathOrInlineDv="^Bg9^"))
    with pytest.raises(TableError, match="deletion vectors must be readable"):
        read_table(spark, resolve_table(str(bad)))
    assert set(scratch_folder(spark).rglob("*.parquet")) > staged  # until the session ends


def test_column_mapping_is_followed(spark: Any, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"col-7f": [1, 2], "col-9c": ["a", None]}))
    edit(tmp_path / "t", "protocol", lambda protocol: protocol.update(minReaderVersion=2, minWriterVersion=5))

    def map_columns(metadata: dict[str, Any]) -> None:
        schema = json.loads(metadata["schemaString"])
        for number, (field, name) in enumerate(zip(schema["fields"], ["n, m", "a text"], strict=True), 1):
            physical = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": field["name"]}
            field |= {"metadata": physical, "name": name}
        metadata["schemaString"] = json.dumps(schema)
        metadata["configuration"] = {"delta.columnMapping.mode": "name"}

    edit(tmp_path / "t", "metaData", map_columns)
    assert same(spark, tmp_path / "t") == ["{'n, m': 1, 'a text': 'a'}", "{'n, m': 2, 'a text': None}"]


def test_a_decimal_that_statistics_call_constant_keeps_its_digits(spark: Any, tmp_path: Path) -> None:
    from decimal import Decimal

    exact = pa.array([Decimal("3333333333.3333333333")], pa.decimal128(20, 10))
    write_deltalake(str(tmp_path / "t"), pa.table({"d": exact}))
    assert same(spark, tmp_path / "t") == ["{'d': Decimal('3333333333.3333333333')}"]


def test_a_file_that_is_gone_is_an_error_and_no_missing_rows(spark: Any, tmp_path: Path) -> None:
    for number in range(2):
        write_deltalake(str(tmp_path / "t"), pa.table({"n": [number]}), mode="append")
    min((tmp_path / "t").glob("*.parquet")).unlink()
    with pytest.raises(TableError, match="missing"):
        read_table(spark, resolve_table(str(tmp_path / "t")))


def test_a_flipped_bit_in_a_dataset_is_found_before_spark_reads_it(sail: Any, tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"text number {n}", "topic": "ab"[n % 2]} for n in range(60)]
    write_deltalake(str(tmp_path / "raw"), pa.Table.from_pylist(rows))
    request = BuildDatasetRequest(
        table=TableRef(uri=str(tmp_path / "raw"), version=0),
        options=BuildOptions(key="id", text="text", labels=("topic",)),
        to=str(tmp_path / "d"),
    )
    ref = build_dataset.main(request, sail).dataset
    assert read_table(sail, ref).count() == 60
    file = next((tmp_path / "d").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    with pytest.raises(TableError, match="as it was written"):
        read_table(sail, ref)
