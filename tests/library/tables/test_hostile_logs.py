"""Logs that an attacker wrote: no file outside the table is read, and no process ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.errors import TableError
from modelmill.tables.newest_commit import newest_commit
from modelmill.tables.opening import open_table
from modelmill.tables.preview import first_rows, preview, rows_with
from modelmill.tables.reading import read_arrow, scan_arrow
from modelmill.tables.versions import resolve_table

SECRET = pa.table({"n": [42], "text": ["secret"]})


def add_file(table: Path, path: str, **more: Any) -> None:
    """Commit an add action as somebody who may write the log."""
    file = table.parent / "secret.parquet"
    action = {
        "path": path,
        "partitionValues": {},
        "size": file.stat().st_size,
        "modificationTime": 0,
        "dataChange": True,
        **more,
    }
    (table / "_delta_log" / f"{3:020d}.json").write_text(json.dumps({"add": action}) + "\n")


@pytest.fixture
def secret(table: Path) -> Path:
    """A Parquet file beside the table."""
    pq.write_table(SECRET, table.parent / "secret.parquet")
    return table.parent / "secret.parquet"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.parquet",
        "%2e%2e/secret.parquet",
        "%2E%2E/secret.parquet",
        "..%2Fsecret.parquet",
        "..%2fsecret.parquet",
        "%252e%252e/secret.parquet",
        "..%252Fsecret.parquet",
        "sub/../../secret.parquet",
        "..%5Csecret.parquet",
        "{absolute}",
        "%2F{absolute}",
        "{quoted}",
        "file://{absolute}",
        "link.parquet",
        "folder/secret.parquet",
        "folder%2Fsecret.parquet",
    ],
)
def test_no_file_outside_the_table_is_read(table: Path, secret: Path, path: str) -> None:
    (table / "sub").mkdir()
    (table / "link.parquet").symlink_to(secret)
    (table / "folder").symlink_to(table.parent)
    add_file(table, path.format(absolute=secret, quoted=quote(str(secret), safe="")))
    uri = str(table)
    for read in (
        lambda: read_arrow(resolve_table(uri)),
        lambda: list(scan_arrow(resolve_table(uri), columns=["n"], batch_rows=10)),
        lambda: preview(uri, labels=["text"]),
        lambda: first_rows(uri, rows=5),
        lambda: rows_with(uri, column="n", key="42"),
    ):
        with pytest.raises(TableError, match=r"must lie in its directory|must be readable"):
            read()


def test_a_table_behind_a_link_and_files_with_odd_names_are_read(table: Path, secret: Path) -> None:
    odd = table / "year=2024" / "a b%..c.parquet"
    odd.parent.mkdir()
    odd.write_bytes(secret.read_bytes())
    add_file(table, quote(str(odd.relative_to(table))))
    (table.parent / "link").symlink_to(table)
    rows = read_arrow(resolve_table(str(table.parent / "link")))
    assert sorted(rows.column("n").to_pylist()) == [0, 1, 2, 42]


@pytest.mark.parametrize(
    "deep", ["[" * 50_000 + "]" * 50_000, '{"a":' * 50_000 + "1" + "}" * 50_000], ids=["lists", "objects"]
)
@pytest.mark.parametrize("where", ["stats", "commitInfo", "line"])
def test_deep_json_in_a_commit_is_refused_and_ends_no_process(
    table: Path, secret: Path, deep: str, where: str
) -> None:
    commit = table / "_delta_log" / f"{3:020d}.json"
    if where == "stats":
        add_file(table, "x.parquet", stats=deep)
    else:
        commit.write_text(deep if where == "line" else f'{{"commitInfo": {{"a": {deep}}}}}')
    for read in (open_table, newest_commit, preview):
        with pytest.raises(TableError, match=commit.name):
            read(str(table))


def test_many_columns_are_not_deep(tmp_path: Path) -> None:
    rows = pa.table({f"c{number}": pa.array([{"a": [1]}]) for number in range(300)})
    write_deltalake(str(tmp_path / "wide"), rows)
    assert open_table(str(tmp_path / "wide")).version() == 0


DEEPER = 100_000
"""Brackets: enough to end a process, wherever they are hidden."""


def commit(table: Path, text: str) -> Path:
    path = table / "_delta_log" / f"{3:020d}.json"
    path.write_text(text + "\n")
    return path


def add_with(**more: Any) -> str:
    add = {"path": "x.parquet", "partitionValues": {}, "size": 3, "modificationTime": 0, "dataChange": True}
    return json.dumps({"add": {**add, **more}})


@pytest.mark.parametrize("how", ["escaped", "closed before", "closed between", "in lines", "behind a name"])
def test_depth_that_is_hidden_is_refused(table: Path, how: str) -> None:
    deep = "[" * DEEPER + "]" * DEEPER
    log = table / "_delta_log"
    if how == "escaped":
        commit(table, add_with(stats="@").replace("@", "\\u005b" * DEEPER + "\\u005D" * DEEPER))
    elif how == "closed before":
        commit(table, add_with(tags={"a": "]" * DEEPER}, stats=deep))
    elif how == "closed between":
        commit(table, add_with(stats='["]",' * DEEPER + "1" + "]" * DEEPER))
    elif how == "in lines":
        commit(table, '{"commitInfo": {"a": ' + "[\n" * DEEPER + "]\n" * DEEPER + "}}")
    else:
        (log / f"{9:020d}.checkpoint.parquet").write_bytes(b"")
        (log / "99999999999999999999.checkpoint.parquet").write_bytes(b"x")
        commit(table, add_with(stats=deep))
    for read in (open_table, newest_commit, preview):
        with pytest.raises(TableError, match="nested more than 200 deep"):
            read(str(table))


@pytest.mark.parametrize("column", ["stats", "schemaString"])
def test_deep_json_in_a_checkpoint_is_refused(table: Path, column: str) -> None:
    DeltaTable(str(table)).create_checkpoint()
    (path,) = (table / "_delta_log").glob("*.checkpoint.parquet")
    rows = pq.read_table(path)
    actions = rows.to_pylist()
    for action in actions:
        for name in ("add", "metaData"):
            if action[name] and column in action[name]:
                action[name][column] = "[" * DEEPER + "]" * DEEPER
    pq.write_table(pa.Table.from_pylist(actions, rows.schema), path)
    for read in (open_table, newest_commit, preview):
        with pytest.raises(TableError, match="nested more than 200 deep"):
            read(str(table))


def test_commits_before_a_checkpoint_are_looked_at_where_they_are_read(table: Path) -> None:
    DeltaTable(str(table)).create_checkpoint()
    first = table / "_delta_log" / f"{0:020d}.json"
    first.write_text(first.read_text() + add_with(stats="[" * DEEPER) + "\n")
    assert open_table(str(table)).version() == 2
    with pytest.raises(TableError, match=first.name):
        open_table(str(table), version=1)


@pytest.mark.parametrize("name", ["_last_checkpoint", f"{3:020d}.json", f"{2:020d}.checkpoint.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_a_log_has_regular_files_of_its_own(table: Path, name: str, kind: str) -> None:
    path = table / "_delta_log" / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        (table.parent / "elsewhere").write_text('{"commitInfo": {}}')
        path.symlink_to(table.parent / "elsewhere")
    for read in (open_table, newest_commit, preview):
        with pytest.raises(TableError, match="regular files, and no links out of it"):
            read(str(table))


@pytest.mark.parametrize("kind", ["p", "u", "u link"])
def test_deletion_vectors_lie_in_the_table(table: Path, secret: Path, kind: str) -> None:
    if kind == "u link":
        (table / "deletion_vector_1.bin").symlink_to(secret)
    where = {"p": f"file://{secret}", "u": "../" + "a" * 20, "u link": "a" * 20}[kind]
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    protocol = json.dumps({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}})
    vector = {"storageType": kind[0], "pathOrInlineDv": where, "sizeInBytes": 36, "cardinality": 1}
    (table / "x.parquet").write_bytes(secret.read_bytes())
    size = secret.stat().st_size
    commit(table, protocol + "\n" + add_with(size=size, deletionVector={**vector, "offset": 1}))
    for read in (lambda: read_arrow(resolve_table(str(table))), lambda: preview(str(table))):
        with pytest.raises(TableError, match="deletion vectors must lie in its directory"):
            read()


def test_names_and_types_that_no_reader_takes_are_typed_errors(table: Path) -> None:
    commit(table, add_with(path="a" * 5_000))
    with pytest.raises(TableError, match="files must be readable"):
        preview(str(table))
    nested = '{"type":"array","containsNull":true,"elementType":' * 90 + '"string"' + "}" * 90
    first = (table / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
    (metadata,) = (json.loads(line) for line in first if "metaData" in line)
    field = json.dumps({"name": "a", "nullable": True, "metadata": {}, "type": "@"}).replace('"@"', nested)
    metadata["metaData"]["schemaString"] = f'{{"type": "struct", "fields": [{field}]}}'
    commit(table, json.dumps(metadata))
    with pytest.raises(TableError, match="files must be readable"):
        preview(str(table))
