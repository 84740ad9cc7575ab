"""What a table's log says of a version: columns with what they are made of, and what one commit added."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from modelmill.artifacts import TableRef
from modelmill.tables.commits import write_rows
from modelmill.tables.description import Column, added_by, columns_of

KEY = "a" * 64


def test_columns_are_told_with_what_they_are_made_of(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("id", pa.int64(), metadata={"comment": "of the ticket"}),
            pa.field("price", pa.decimal128(10, 2)),
            pa.field("boxes", pa.list_(pa.struct([("left", pa.float32())]))),
            pa.field("counts", pa.map_(pa.string(), pa.int32())),
        ]
    )
    write_deltalake(str(tmp_path), schema.empty_table())
    assert columns_of(TableRef(uri=str(tmp_path), version=0)) == (
        Column(name="id", type="long", description="of the ticket"),
        Column(name="price", type="decimal(10,2)"),
        Column(
            name="boxes",
            type="array",
            fields=(Column(name="_element", type="struct", fields=(Column(name="left", type="float"),)),),
        ),
        Column(
            name="counts",
            type="map",
            fields=(Column(name="_key", type="string"), Column(name="_value", type="integer")),
        ),
    )


def test_a_version_has_the_columns_that_it_had(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"a": [1]}))
    write_deltalake(str(tmp_path), pa.table({"b": ["x"]}), mode="overwrite", schema_mode="overwrite")
    names = [columns_of(TableRef(uri=str(tmp_path), version=version))[0].name for version in (0, 1)]
    assert names == ["a", "b"]


def test_what_a_step_added_is_told_of_its_own_commit_alone(tmp_path: Path) -> None:
    uri = str(tmp_path)
    write_deltalake(uri, pa.table({"a": [1, 2, 3]}))
    version = write_rows(uri, pa.table({"a": [4, 5]}), mode="append", transaction=f"{KEY}-after-a-run")
    added = added_by(TableRef(uri=uri, version=version), KEY)
    assert added is not None
    assert (added.rows, added.files) == (2, 1)
    (file,) = [path for path in tmp_path.glob("**/*.parquet") if path.stat().st_size == added.size]
    assert file.is_file()
    assert added_by(TableRef(uri=uri, version=version), "b" * 64) is None
    assert added_by(TableRef(uri=uri, version=0), KEY) is None
    assert added_by(TableRef(uri=uri, version=7), KEY) is None


def test_rows_that_the_log_does_not_count_are_not_made_up(tmp_path: Path) -> None:
    version = write_rows(str(tmp_path), pa.table({"a": [1, 2]}), mode="append", transaction=KEY)
    commit = tmp_path / "_delta_log" / f"{version:020d}.json"
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    for action in actions:
        action.get("add", {}).pop("stats", None)
    commit.write_text("\n".join(map(json.dumps, actions)))
    added = added_by(TableRef(uri=str(tmp_path), version=version), KEY)
    assert added is not None
    assert (added.rows, added.files) == (None, 1)
