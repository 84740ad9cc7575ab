"""Files that ingest has to refuse, or to take as they are."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bad_datasets import Case, Config
from deltalake import DeltaTable, write_deltalake

from modelmill.errors import ConfigError

refused, taken = partial(Case.refused, "ingest"), partial(Case.taken, "ingest")


def load(*files: tuple[str, bytes | str], **config: Any) -> Callable[[Path], Config]:
    """Load files, all in one night."""

    def make(folder: Path) -> Config:
        landing = folder / "landing"
        landing.mkdir()
        for name, content in files:
            (landing / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return {"source": f"{landing}/*", "to": str(folder / "table"), **config}

    return make


def onto(table: pa.Table, *files: tuple[str, bytes | str], **config: Any) -> Callable[[Path], Config]:
    """Load files into a table that last night has made."""

    def make(folder: Path) -> Config:
        write_deltalake(str(folder / "table"), table)
        return load(*files, **config)(folder)

    return make


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def not_utf8(column: str = "t") -> pa.Table:
    """A Parquet string column with bytes that are no UTF-8: a lone surrogate, as some writers leave it."""
    raw = pa.array([b"fine", b"lone \xed\xa0\x80 surrogate"], pa.binary())
    text = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    return pa.table({"id": [1, 2], column: text})


def in_place(change: Callable[[Path], object], **config: Any) -> Callable[[Path], Config]:
    """Load one good file, after something else in the folder has been changed."""

    def make(folder: Path) -> Config:
        made = load(("a.jsonl", '{"id": 1}\n'), **config)(folder)
        change(folder)
        return made

    return make


def own_files(folder: Path) -> Config:
    write_deltalake(str(folder / "table"), pa.table({"id": [1]}))
    return {"source": f"{folder}/table/*.parquet", "to": str(folder / "table"), "format": "parquet"}


def unreadable(folder: Path) -> Config:
    config = load(("a.jsonl", '{"id": 1}\n'))(folder)
    (folder / "landing" / "a.jsonl").chmod(0)
    return config


def partitioned(folder: Path) -> Config:
    write_deltalake(str(folder / "table"), LOADED, partition_by=["id"])
    return load(("a.jsonl", '{"id": 1, "t": "a"}\n'))(folder)


def constrained(folder: Path) -> Config:
    write_deltalake(str(folder / "table"), pa.table({"id": [1]}))
    DeltaTable(str(folder / "table")).alter.add_constraint({"positive": "id > 0"})
    return load(("a.jsonl", '{"id": -1}\n'))(folder)


def not_null(folder: Path) -> Config:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    write_deltalake(str(folder / "table"), pa.table({"id": [1]}, schema=schema))
    return load(("a.jsonl", '{"id": null}\n{"id": 2}\n'))(folder)


UNREADABLE = "the files must be readable as what they are said to be"
LOADED = pa.table({"id": [1], "t": ["a"]})
CSV = {"format": "csv"}
PARQUET = {"format": "parquet"}

INGEST = [
    refused("no files", load(), "there must be files to load", "check the path"),
    refused("empty file", load(("a.jsonl", "")), "must have rows"),
    refused("blank lines", load(("a.jsonl", "\n\n")), "must have rows"),
    refused("malformed line", load(("a.jsonl", '{"id": 1}\n{"id": oops}\n')), UNREADABLE),
    refused("cut off", load(("a.jsonl", '{"id": 1}\n{"id": 2, "t": "hal')), UNREADABLE),
    refused("JSON not UTF-8", load(("a.jsonl", b'{"t": "\xff\xfe"}\n')), UNREADABLE),
    refused("lone surrogate byte", load(("a.jsonl", b'{"t": "\xed\xa0\x80"}\n')), UNREADABLE),
    refused("lone surrogate escape", load(("a.jsonl", '{"t": "\\ud800 x"}\n')), UNREADABLE),
    refused("NUL byte in JSON", load(("a.jsonl", b'{"t": "a\x00b"}\n')), UNREADABLE),
    taken("NUL escape in JSON", load(("a.jsonl", '{"t": "a\\u0000b"}\n')), rows=1),
    refused("zero-filled JSON", load(("a.jsonl", b"\x00" * 100)), UNREADABLE),
    refused("JSON scalars", load(("a.jsonl", "1\n2\n")), UNREADABLE),
    refused("JSON of lists", load(("a.jsonl", "[1]\n[2]\n")), UNREADABLE),
    refused("number then text", load(("a.jsonl", '{"a": 1}\n{"a": "x"}\n')), UNREADABLE),
    refused("number then object", load(("a.jsonl", '{"a": 1}\n{"a": {"b": 1}}\n')), UNREADABLE),
    refused("NaN in JSON", load(("a.jsonl", '{"a": NaN}\n')), UNREADABLE),
    refused("2**70 in JSON", load(("a.jsonl", f'{{"a": {2**70}}}\n')), UNREADABLE, str(2**70), "as text"),
    refused("2**63 in a list", load(("a.jsonl", f'{{"a": [1, {2**63}]}}\n')), UNREADABLE, "as text"),
    taken("2**63 - 1 in JSON", load(("a.jsonl", f'{{"a": {2**63 - 1}}}\n')), rows=1),
    taken("2**70 within a text", load(("a.jsonl", f'{{"a": "so: {2**70}"}}\n')), rows=1),
    refused("1e400 in JSON", load(("a.jsonl", '{"a": 1e400}\n')), UNREADABLE),
    taken("key twice in JSON", load(("a.jsonl", '{"a": 1, "a": 2}\n')), rows=1),
    refused("columns differ by case", load(("a.jsonl", '{"a": 1, "A": 2}\n')), "'A', 'a'", "rename"),
    refused("column without a name", load(("a.jsonl", '{"": 1}\n')), "has a name", "got \"''\""),
    taken("column a.b", load(("a.jsonl", '{"a.b": 1}\n')), rows=1),
    taken("column a`b", load(("a.jsonl", '{"a`b": 1}\n')), rows=1),
    taken("column of two words", load(("a.jsonl", '{"a b": 1}\n')), rows=1),
    taken("column größe", load(("a.jsonl", '{"größe 数": 1}\n')), rows=1),
    refused("CSV line too short", load(("a.csv", "id,t\n1,a\n2\n"), **CSV), UNREADABLE),
    refused("CSV line too long", load(("a.csv", "id,t\n1,a,b\n"), **CSV), UNREADABLE),
    refused("CSV quote left open", load(("a.csv", 'id,t\n1,"a\n2,b\n'), **CSV), UNREADABLE),
    refused("CSV not UTF-8", load(("a.csv", b"id,t\n1,\xff\n"), **CSV), UNREADABLE),
    refused("CSV header twice", load(("a.csv", "id,id\n1,2\n"), **CSV), "id"),
    taken("CSV header alone", load(("a.csv", "id,t\n"), **CSV), rows=0),
    refused("CSV empty", load(("a.csv", ""), **CSV), "must have rows"),
    refused("gzip cut off", load(("a.csv.gz", gzip.compress(b"id\n1\n" * 999)[:-20]), **CSV), UNREADABLE),
    refused("gzip JSON cut off", load(("a.jsonl.gz", gzip.compress(b'{"id": 1}\n' * 999)[:-20])), UNREADABLE),
    refused("gzip that is none", load(("a.csv.gz", "id\n1\n"), **CSV), UNREADABLE),
    taken("quote inside a CSV field", load(("a.csv", 'id,t\n1,5" pipe\n'), **CSV), rows=1),
    refused("no Parquet", load(("a.parquet", "id,t\n1,a\n"), **PARQUET), UNREADABLE),
    refused("Parquet empty file", load(("a.parquet", ""), **PARQUET), UNREADABLE, "0 bytes"),
    refused("Parquet torn", load(("a.parquet", parquet(LOADED)[:-9]), **PARQUET), UNREADABLE),
    refused("Parquet zero-filled", load(("a.parquet", b"\x00" * 500), **PARQUET), UNREADABLE),
    refused("Parquet not UTF-8", load(("a.parquet", parquet(not_utf8())), **PARQUET), UNREADABLE),
    refused(
        "Parquet types differ",
        load(("a.parquet", parquet(LOADED)), ("b.parquet", parquet(pa.table({"id": ["x"]}))), **PARQUET),
        "id",
    ),
    taken("Parquet without rows", load(("a.parquet", parquet(LOADED.slice(0, 0))), **PARQUET), rows=0),
    refused(
        "Parquet without columns", load(("a.parquet", parquet(pa.table({}))), **PARQUET), "must have rows"
    ),
    refused(
        "column renamed overnight",
        onto(LOADED, ("a.jsonl", '{"id": 2, "text": "b"}\n')),
        "text is not in the table",
        "select",
    ),
    refused("column gone overnight", onto(LOADED, ("a.csv", "id\n2\n"), **CSV), "t is not in the files"),
    refused(
        "type changed overnight",
        onto(LOADED, ("a.jsonl", '{"id": "two", "t": "b"}\n')),
        "id is bigint in the table and string in the files",
    ),
    refused(
        "nested overnight",
        onto(LOADED, ("a.jsonl", '{"id": 2, "t": {"en": "b"}}\n')),
        "t is string in the table",
    ),
    refused(
        "case changed overnight", onto(LOADED, ("a.jsonl", '{"ID": 2, "t": "b"}\n')), "ID is not in the table"
    ),
    refused("source is a folder", in_place(lambda f: None, source="landing"), "there must be files"),
    refused("name like a pattern", load(("a[1].jsonl", '{"id": 1}\n')), "rename it"),
    refused("name with a percent sign", load(("a%20b.jsonl", '{"id": 1}\n')), "rename it"),
    refused("scheme that nobody knows", in_place(lambda f: None, source="nowhere://x/*"), "nowhere"),
    refused(
        "file in the table's place", in_place(lambda f: (f / "table").write_text("x")), "must be writable"
    ),
    refused("a table's own files", own_files, "own files"),
    refused("file that may not be read", unreadable, "must be readable"),
    refused("partitioned table", partitioned, "no partitions"),
    refused("constraint", constrained, "constraint"),
    refused("NOT NULL", not_null, "NOT NULL of column id"),
    refused(
        "select that is no SQL",
        in_place(lambda f: None, select={"a": "id +"}),
        "select and where must be SQL",
        "id",
        error=ConfigError,
    ),
    refused(
        "select differs by case",
        in_place(lambda f: None, select={"a": "id", "A": "id"}),
        "'A', 'a'",
        "rename",
    ),
    refused(
        "where that is no condition",
        in_place(lambda f: None, where="id + 1"),
        "must be a condition",
        error=ConfigError,
    ),
    refused(
        "type that Delta lacks",
        in_place(lambda f: None, select={"a": "interval '1' month"}),
        "type that Delta has",
        "cast",
    ),
]
