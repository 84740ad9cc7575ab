"""Rows and configurations that build_dataset has to refuse, or to quarantine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bad_datasets import Case, Config
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake

from modelmill.errors import ConfigError, DatasetError

Row = dict[str, Any]
refused, taken = partial(Case.refused, "build_dataset"), partial(Case.taken, "build_dataset")


BY_COLUMN: Config = {
    "key": "id",
    "text": "text",
    "labels": ["topic"],
    "split": {"column": "part", "validation": 0},
}


def good(count: int = 12) -> list[Row]:
    """Rows that make a dataset: two topics, every fourth row for test."""
    return [
        {
            "id": f"r{n:02d}",
            "text": f"text {n}",
            "topic": "xy"[n % 2],
            "part": "test" if n % 6 < 2 else "train",
        }
        for n in range(count)
    ]


def with_rows(*rows: Row, config: Config | None = None, **change: Any) -> Callable[[Path], Config]:
    """Good rows, all changed alike, and more rows, whose missing columns are those of a good train row."""

    def make(folder: Path) -> Config:
        base = {"id": "bad", "text": "the bad one", "topic": "x", "part": "train"}
        made = [
            {**row, **{k: v(n) if callable(v) else v for k, v in change.items()}}
            for n, row in enumerate(good())
        ]
        made += [{**base, "id": f"bad{n}", "text": f"the bad one {n}", **row} for n, row in enumerate(rows)]
        return source(folder, pa.Table.from_pylist(made), config)

    return make


def with_column(
    name: str, values: Callable[[list[Row]], pa.Array], config: Config | None = None
) -> Callable[[Path], Config]:
    """Good rows, with one column replaced by values of another type."""

    def make(folder: Path) -> Config:
        table = pa.Table.from_pylist(good())
        column = values(good())
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
        return source(folder, table, config)

    return make


def source(folder: Path, table: pa.Table, config: Config | None = None) -> Config:
    write_deltalake(str(folder / "raw"), table)
    return {**BY_COLUMN, "to": str(folder / "dataset"), **(config or {})}


def renamed(old: str, new: str, config: Config | None = None) -> Callable[[Path], Config]:
    def make(folder: Path) -> Config:
        table = pa.Table.from_pylist(good())
        names = [new if name == old else name for name in table.column_names]
        return source(folder, table.rename_columns(names), config)

    return make


def broken_file(change: Callable[[Path], object]) -> Callable[[Path], Config]:
    """Good rows, in a Parquet file that something happened to after the commit."""

    def make(folder: Path) -> Config:
        config = with_rows()(folder)
        (file,) = (folder / "raw").glob("*.parquet")
        change(file)
        return config

    return make


def vacuumed(folder: Path) -> Config:
    """Version 0 of a table whose files have been cleaned up since."""
    config = with_rows()(folder)
    raw = str(folder / "raw")
    write_deltalake(raw, pa.Table.from_pylist(good()), mode="overwrite")
    DeltaTable(raw).vacuum(0, dry_run=False, enforce_retention_duration=False)
    return {**config, "@version": 0}


def many_classes(folder: Path) -> Config:
    count = 10_001
    table = pa.table(
        {
            "id": [str(n) for n in range(count + 2)],
            "text": [f"text {n}" for n in range(count + 2)],
            "topic": [f"class {n}" for n in range(count)] + ["class 0", "class 1"],
            "part": ["train"] * count + ["test"] * 2,
        }
    )
    return source(folder, table)


def invalid_text(folder: Path) -> Config:
    """A lone surrogate in the text column of one row."""
    texts = [row["text"].encode() for row in good()]
    raw = pa.array([*texts[:-1], b"lone \xed\xa0\x80 surrogate"], pa.binary())
    buffers = raw.buffers()
    column = pa.StringArray.from_buffers(len(raw), buffers[1], buffers[2])
    (folder / "raw").mkdir()
    table = pa.Table.from_pylist(good())
    pq.write_table(table.set_column(1, "text", column), folder / "raw" / "a.parquet")
    convert_to_deltalake(str(folder / "raw"))
    return {**BY_COLUMN, "to": str(folder / "dataset")}


def over_source(folder: Path) -> Config:
    return {**with_rows()(folder), "to": str(folder / "raw")}


def over_file(folder: Path) -> Config:
    (folder / "file").write_text("x")
    return {**with_rows()(folder), "to": str(folder / "file")}


def nan_label(rows: list[Row]) -> pa.Array:
    return pa.array([float("nan"), *(float(n % 2) for n in range(1, len(rows)))])


def no_split(**more: Any) -> Config:
    return {"split": {"column": None, "test": 0.5, "validation": 0}, **more}


BLANK = " \t\u00a0\u2003\u3000\u200b\ufeff\u2028"
LONG = "long " * 20_000

BUILD = [
    refused(
        "no rows",
        lambda f: source(f, pa.Table.from_pylist(good()).slice(0, 0)),
        "must have rows",
        error=DatasetError,
    ),
    taken("text null", with_rows({"text": None}), rows=12, reasons={"text is empty": 1}),
    taken("text empty", with_rows({"text": ""}), rows=12, reasons={"text is empty": 1}),
    taken("text of blanks", with_rows({"text": BLANK}), rows=12, reasons={"text is empty": 1}),
    refused(
        "texts all null",
        with_column("text", lambda r: pa.nulls(len(r), pa.string())),
        "'text' must have texts",
        "12 of 12",
        error=DatasetError,
    ),
    refused(
        "texts of type null", with_column("text", lambda r: pa.nulls(len(r))), "text", error=DatasetError
    ),
    taken("label null", with_rows({"topic": None}), rows=12, reasons={"no label": 1}),
    taken("label of blanks", with_rows({"topic": BLANK}), rows=12, reasons={"no label": 1}),
    refused(
        "labels all null",
        with_column("topic", lambda r: pa.nulls(len(r), pa.string())),
        "12 no label",
        error=DatasetError,
    ),
    taken("key null", with_rows({"id": None}), rows=12, reasons={"key is null": 1}),
    taken("key of two rows", with_rows({"id": "k"}, {"id": "k"}), rows=12, reasons={"key is not unique": 2}),
    refused("keys all alike", with_rows(id="k"), "12 key is not unique", error=DatasetError),
    taken("split null", with_rows({"part": None}), rows=12, reasons={"split is null": 1}),
    refused(
        "split unknown", with_rows({"part": "holdout"}), "'holdout'", "train, validation", error=DatasetError
    ),
    refused(
        "split a number",
        with_column("part", lambda r: pa.array([0, 1] * 6)),
        "'0'",
        "train, validation",
        error=DatasetError,
    ),
    refused("no test rows", with_rows(part="train"), "must have test rows", "mark rows", error=DatasetError),
    refused("no train rows", with_rows(part="test"), "must have train rows", "mark rows", error=DatasetError),
    refused("one class", with_rows(topic="x"), "two classes or more", "'x'", error=DatasetError),
    refused(
        "class only in test",
        with_rows({"topic": "gold", "part": "test"}),
        "'gold'",
        "train rows",
        error=DatasetError,
    ),
    refused("10,001 classes", many_classes, "at most 10,000", "10,001", error=DatasetError),
    refused("texts all alike", with_rows(text="same", topic="x"), "must have train rows", error=DatasetError),
    refused(
        "labels all in conflict",
        with_rows(text="same", part="train"),
        "12 conflicting labels",
        error=DatasetError,
    ),
    taken(
        "labels in conflict",
        with_rows({"text": "same", "topic": "x"}, {"text": "same", "topic": "y"}),
        rows=12,
        reasons={"conflicting labels: topic is 'x' and 'y'": 2},
    ),
    taken(
        "label NaN",
        with_column("topic", nan_label),
        rows=11,
        reasons={"label topic is not a finite number": 1},
    ),
    taken(
        "label infinite",
        with_column("topic", lambda r: pa.array([float("inf"), *(float(n % 2) for n in range(1, len(r)))])),
        rows=11,
        reasons={"label topic is not a finite number": 1},
    ),
    taken(
        "key NaN",
        with_column("id", lambda r: pa.array([float("nan"), *(float(n) for n in range(1, len(r)))])),
        rows=11,
        reasons={"key is null": 1},
    ),
    taken(
        "label a decimal",
        with_column(
            "topic", lambda r: pa.array([Decimal(n % 2) for n in range(len(r))], pa.decimal128(5, 2))
        ),
        rows=12,
    ),
    taken(
        "label a date",
        with_column(
            "topic", lambda r: pa.array([date(2026, 1, 1) + timedelta(n % 2) for n in range(len(r))])
        ),
        rows=12,
    ),
    taken(
        "label a truth value",
        with_column("topic", lambda r: pa.array([n % 2 == 0 for n in range(len(r))])),
        rows=12,
    ),
    refused(
        "label a struct",
        with_column("topic", lambda r: pa.array([{"a": n % 2} for n in range(len(r))])),
        "needs a column that fits it",
        "topic",
    ),
    refused(
        "label a list of one class",
        with_column("topic", lambda r: pa.array([["x"]] * len(r))),
        "two classes",
        error=DatasetError,
    ),
    refused(
        "label a map",
        with_column("topic", lambda r: pa.array([[("a", "x")]] * len(r), pa.map_(pa.string(), pa.string()))),
        "needs a column that fits it",
        "topic",
    ),
    refused(
        "text a struct",
        with_column("text", lambda r: pa.array([{"en": row["text"]} for row in r])),
        "simple values",
        "text",
    ),
    refused(
        "text bytes",
        with_column("text", lambda r: pa.array([row["text"].encode() for row in r])),
        "simple values",
        "binary",
    ),
    taken("label very long", with_rows({"topic": LONG}), rows=13),
    taken("text of 10 MB", with_rows({"text": "word " * 2_000_000}), rows=13),
    taken("NUL in text", with_rows({"text": "a\x00b"}), rows=13),
    taken("NUL alone", with_rows({"text": "\x00"}), rows=12, reasons={"text is empty": 1}),
    refused("lone surrogate in text", invalid_text, "UTF-8"),
    refused("no text column", with_rows(config={"text": "txt"}), "got 'txt'", "did you mean 'text'"),
    refused("no label column", with_rows(config={"labels": ["topics"]}), "did you mean 'topic'"),
    refused("no key column", with_rows(config={"key": "Id"}), "got 'Id'", "allowed: 'id'"),
    refused("no kept column", with_rows(config={"keep": ["when"]}), "got 'when'"),
    refused(
        "text is the label",
        with_rows(config={"labels": ["text"]}),
        "content or label, not both",
        error=ConfigError,
    ),
    refused("label twice", with_rows(config={"labels": ["topic", "topic"]}), "topic", error=ConfigError),
    refused("no labels", with_rows(config={"labels": []}), "labels", error=ConfigError),
    refused("test share of one", with_rows(config={"split": {"test": 1}}), "split.test", error=ConfigError),
    refused(
        "keeps a name of its own",
        renamed("id", "example_key", {"key": "example_key", "keep": ["example_key"]}),
        "example_key",
        "rename",
        error=ConfigError,
    ),
    refused(
        "keeps the name split",
        with_column("split", lambda r: pa.array(["a"] * len(r)), {"keep": ["split"]}),
        "split",
        "rename",
        error=ConfigError,
    ),
    taken(
        "source has a reason",
        with_rows({"text": None}, quarantine_reason="old"),
        rows=12,
        reasons={"text is empty": 1},
    ),
    refused(
        "source uses our prefix",
        with_column("_mm_text", lambda r: pa.array(["z"] * len(r))),
        "do not begin with _mm_",
        error=ConfigError,
    ),
    taken("text column a.b", renamed("text", "a.b", {"text": "a.b"}), rows=12),
    taken("text column a`b", renamed("text", "a`b", {"text": "a`b"}), rows=12),
    taken("text column größe", renamed("text", "die größe 数", {"text": "die größe 数"}), rows=12),
    taken("label column a.b", renamed("topic", "a.b", {"labels": ["a.b"]}), rows=12),
    refused(
        "too few for a split",
        with_rows(config=no_split(split={"column": None, "test": 0.0})),
        "must have test rows",
        "raise split.test",
        error=DatasetError,
    ),
    refused("data file missing", broken_file(lambda p: p.unlink()), ".parquet", "restore"),
    refused(
        "data file torn", broken_file(lambda p: p.write_bytes(p.read_bytes()[:-50])), ".parquet", "restore"
    ),
    refused("data file empty", broken_file(lambda p: p.write_bytes(b"")), ".parquet", "restore"),
    refused(
        "data file zero-filled",
        broken_file(lambda p: p.write_bytes(b"\x00" * p.stat().st_size)),
        ".parquet",
        "restore",
    ),
    refused("version cleaned up", vacuumed, ".parquet", "version"),
    refused("over its source", over_source, "not written over its source", error=ConfigError),
    refused("over a file", over_file, "must be writable"),
]
