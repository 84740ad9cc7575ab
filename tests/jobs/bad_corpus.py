"""Tables that are wrong, each in one way: what every component that reads tables is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import convert_to_deltalake, write_deltalake

Make = Callable[[Path], None]
Rows = list[dict[str, Any]]


def good(count: int = 24) -> Rows:
    """Rows that every component takes: two topics, each third row for test, each scored by a model."""
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)
    return [
        {
            "id": f"r{n:02d}",
            "text": f"{('grain ship', 'bank rate')[n % 2]} number {n}",
            "topic": ("grain", "money")[n % 2],
            "split": ("train", "train", "train", "validation", "test", "test")[n // 2 % 6],
            "price": float(n),
            "seen": begin + timedelta(minutes=30 * n),
            "prediction": ("grain", "money")[n % 2],
            "score": 0.9,
        }
        for n in range(count)
    ]


def table_of(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows)


def rows_with(change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Make:
    """Good rows, each with some values replaced."""

    def make(place: Path) -> None:
        write_deltalake(str(place), table_of([row | change(n, row) for n, row in enumerate(good())]))

    return make


def column(name: str, values: Callable[[Rows], pa.Array]) -> Make:
    """Good rows, with one column replaced by values of any type."""

    def make(place: Path) -> None:
        rows = table_of(good())
        write_deltalake(str(place), rows.set_column(rows.column_names.index(name), name, values(good())))

    return make


def of_table(change: Callable[[pa.Table], pa.Table]) -> Make:
    """Good rows, as a table that is changed."""

    def make(place: Path) -> None:
        write_deltalake(str(place), change(table_of(good())))

    return make


def renamed(old: str, new: str) -> Make:
    return of_table(lambda rows: rows.rename_columns([new if n == old else n for n in rows.column_names]))


def lone_surrogate(place: Path) -> None:
    """A string column of Parquet with bytes that are no UTF-8, as some writers leave it."""
    rows = table_of(good())
    raw = pa.array([*(row["text"].encode() for row in good()[:-1]), b"lone \xed\xa0\x80 one"], pa.binary())
    text = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    place.mkdir()
    pq.write_table(rows.set_column(1, "text", text), place / "a.parquet")
    convert_to_deltalake(str(place))


def edited(**changes: Callable[[dict[str, Any]], object]) -> Make:
    """Good rows, with actions of the first commit changed by kind."""

    def make(place: Path) -> None:
        write_deltalake(str(place), table_of(good()))
        commit = place / "_delta_log" / f"{0:020d}.json"
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            for kind, change in changes.items():
                if kind in action:
                    change(action[kind])
        commit.write_text("".join(json.dumps(action) + "\n" for action in actions))

    return make


def requires(*features: str) -> Callable[[dict[str, Any]], object]:
    needed = {"readerFeatures": list(features), "writerFeatures": list(features)}
    return lambda protocol: protocol.update(minReaderVersion=3, minWriterVersion=7, **needed)


def deletion_vector(bitmap: str) -> Callable[[dict[str, Any]], object]:
    vector = {"storageType": "i", "pathOrInlineDv": bitmap, "sizeInBytes": 36, "cardinality": 2}
    return lambda add: add.update(deletionVector=vector)


def map_columns(metadata: dict[str, Any]) -> None:
    """Give the columns new names, under which nobody asks for them."""
    schema = json.loads(metadata["schemaString"])
    for number, field in enumerate(schema["fields"], 1):
        physical = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": field["name"]}
        field |= {"metadata": physical, "name": f"{field['name']} (new)"}
    metadata["schemaString"] = json.dumps(schema)
    metadata["configuration"] = {"delta.columnMapping.mode": "name"}


def broken_file(change: Callable[[Path], object]) -> Make:
    """Good rows, in a file that something happened to after the commit."""

    def make(place: Path) -> None:
        write_deltalake(str(place), table_of(good()))
        (file,) = place.glob("*.parquet")
        change(file)

    return make


DELETED = "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg000f5"
"""A RoaringBitmapArray of the rows 0 and 5 in the Z85 of the protocol."""

CORPUS: Mapping[str, Make] = {
    "nulls": rows_with(lambda n, row: {"text": None, "topic": None, "price": None} if n % 2 else {}),
    "only nulls": column("text", lambda rows: pa.nulls(len(rows), pa.string())),
    "type null": column("text", lambda rows: pa.nulls(len(rows))),
    "NaN": column("score", lambda rows: pa.array([float("nan")] * len(rows))),
    "infinite": rows_with(lambda n, row: {"price": float("inf" if n % 2 else "-inf")}),
    "text a number": column("text", lambda rows: pa.array(range(len(rows)))),
    "label a number": column("topic", lambda rows: pa.array([n % 2 for n in range(len(rows))])),
    "label NaN": column("topic", lambda rows: pa.array([float("nan")] * len(rows))),
    "no rows": of_table(lambda rows: rows.slice(0, 0)),
    "one row": of_table(lambda rows: rows.slice(0, 1)),
    "one class": rows_with(lambda n, row: {"topic": "grain"}),
    "all alike": rows_with(lambda n, row: {k: v for k, v in good()[0].items() if k != "split"}),
    "cell of 10 MB": rows_with(lambda n, row: {"text": "grain ship " * 950_000} if n == 3 else {}),
    "lone surrogate": lone_surrogate,
    "hours of a clock change": column(
        "seen",
        lambda rows: pa.array([row["seen"] for row in rows], pa.timestamp("us", "Europe/Berlin")),
    ),
    "nested": column("text", lambda rows: pa.array([{"en": row["text"]} for row in rows])),
    "column renamed": renamed("text", "txt"),
    "label gone": of_table(lambda rows: rows.drop_columns(["topic"])),
    "key gone": of_table(lambda rows: rows.drop_columns(["id"])),
    "deletion vectors": edited(protocol=requires("deletionVectors"), add=deletion_vector(DELETED)),
    "deletion vector torn": edited(protocol=requires("deletionVectors"), add=deletion_vector("^Bg9^")),
    "column mapping": edited(metaData=map_columns, protocol=requires("columnMapping")),
    "feature of the future": edited(protocol=requires("quantumRows")),
    "test rows among those learned from": rows_with(lambda n, row: {"text": good()[n % 2]["text"]}),
    "label only in test": rows_with(lambda n, row: {"topic": "gold"} if row["split"] == "test" else {}),
    "split unknown": rows_with(lambda n, row: {"split": "holdout"} if row["split"] == "test" else {}),
    "file missing": broken_file(lambda file: file.unlink()),
    "file torn": broken_file(lambda file: file.write_bytes(file.read_bytes()[:-50])),
}
