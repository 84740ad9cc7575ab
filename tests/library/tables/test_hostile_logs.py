"""Logs that an attacker wrote: no file outside the table is read, and no process ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

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
