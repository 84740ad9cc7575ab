"""Rows for people to label, taken from a table: disagreements, ranked label errors, or any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.labels.queue import MOST_LETTERS, QueueRow
from modelmill.tables.opening import open_table
from modelmill.tables.preview import first_rows
from modelmill.tables.reading import check_columns

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Shown:
    """What a step shows beside a row that it puts forward."""

    name: str
    """Name of the label; empty: not known."""
    label: str | None = None
    """Column with the label; None: there is none."""
    suggestion: str | None = None
    """Column with what functions or a model say; None: there is none."""
    why: str | None = None
    """Column that says why a person should look; None: there is none."""


@dataclass(frozen=True)
class TakenRows:
    """What was taken from a table."""

    source: TableRef
    rows: tuple[QueueRow, ...]
    left_out: int
    """Rows without a key or a text, and rows whose key an earlier one has."""
    label: str
    """Name of the label; empty: not known."""
    classes: tuple[str, ...]
    """The labels and suggestions in these rows, the most frequent first."""


def what_is_shown(names: Sequence[str], label: str = "") -> Shown:
    """Find the label, the suggestion and the reason among the columns of a table.

    ``label_rows`` and ``label_by_llm`` name theirs after the label (``topic_suggested``, ``topic_reason``),
    ``rank_label_errors`` has ``suggested_label``, just behind the label's column.

    :param names: the table's columns.
    :param label: which label is asked about, where the table has several; empty, or another one: the first.
    :return: what they are for, where something looks like it.
    """
    stems = suggested_labels(names)
    if stems:
        stem = label if label in stems else stems[0]
        return Shown(stem, stem if stem in names else None, f"{stem}_suggested", f"{stem}_reason")
    if "suggested_label" in names and (place := names.index("suggested_label")) > 0:
        return Shown(names[place - 1], names[place - 1], "suggested_label")
    return Shown("")


def suggested_labels(names: Sequence[str]) -> list[str]:
    """Return the labels for which a table has suggestions with reasons, in the order of its columns."""
    stems = [name.removesuffix("_suggested") for name in names if name.endswith("_suggested")]
    return [stem for stem in stems if f"{stem}_reason" in names]


def take_rows(
    uri: str, *, key: str, text: str, most: int, label: str = "", version: int | None = None
) -> TakenRows:
    """Take the first rows of a table: the most useful ones, where a step has ranked them.

    Where a table has rows for several labels, those are taken that are there for the label asked about.

    :param uri: path or URI.
    :param key: column that identifies a row.
    :param text: column that people read.
    :param most: rows to read.
    :param label: which label, if the table has suggestions for several; empty: the first.
    :param version: version; None: the newest.
    :return: the rows, in the table's order.
    :raises TableError: if the table cannot be read, has no rows, or lacks a column.
    """
    table = open_table(uri, version=version)
    names = [field.name for field in table.schema().fields]
    check_columns(names, [key, text], place=uri)
    shown = what_is_shown(names, label)
    several = len(suggested_labels(names)) if f"{shown.name}_rank" in names else 1
    parts = {"text": text} | {
        part: name
        for part, name in (("label", shown.label), ("suggestion", shown.suggestion), ("why", shown.why))
        if name is not None
    }
    # Beside these may stand columns of images, for which no server has the memory.
    read = list(dict.fromkeys([key, *parts.values()]))
    if several > 1:
        place, at, batch = _of_one_label(uri, shown, read, table.version(), most=most, several=several)
    else:
        place, at, batch = first_rows(uri, version=table.version(), rows=most, columns=read)
    rows: dict[str, QueueRow] = {}
    counts: dict[str, int] = {}
    keys = key_texts(batch.column(key), key).to_pylist()
    for found, raw in zip(keys, batch.select(list(dict.fromkeys(parts.values()))).to_pylist(), strict=True):
        values = {part: _shown(raw[name]) for part, name in parts.items()}
        # A key is a key only as a whole.
        if not found or not values["text"] or found in rows or len(found) > MOST_LETTERS:
            continue
        rows[found] = QueueRow(
            key=found,
            text=values["text"],
            label=values.get("label"),
            suggestion=values.get("suggestion"),
            why=values.get("why") or "",
        )
        for part in ("label", "suggestion"):
            for one in _classes(raw[parts[part]]) if part in parts else ():
                counts[one] = counts.get(one, 0) + 1
    classes = sorted(counts, key=lambda one: (-counts[one], one))
    return TakenRows(
        source=TableRef(uri=place, version=at),
        rows=tuple(rows.values()),
        left_out=batch.num_rows - len(rows),
        label=shown.name,
        classes=tuple(classes),
    )


def _of_one_label(
    uri: str, shown: Shown, read: Sequence[str], version: int, *, most: int, several: int
) -> tuple[str, int, pa.RecordBatch]:
    """Read the rows that are there for one of several labels, in the order of its ranks.

    The table is in the order of each row's best rank: the first rows of one label are among as many of each.
    """
    import pyarrow.compute as pc

    columns = list(dict.fromkeys([*read, rank := f"{shown.name}_rank"]))
    place, at, batch = first_rows(uri, version=version, rows=most * several, columns=columns)
    ours = batch.filter(pc.is_valid(batch.column(f"{shown.name}_reason")))
    return place, at, ours.take(pc.sort_indices(ours.column(rank))).slice(0, most)


def key_texts(column: pa.Array, name: str) -> pa.Array:
    """Return keys as text, as they stand in tables of labels.

    :param column: the keys.
    :param name: of the column, for the message.
    :return: texts; null where there is none.
    :raises TableError: if its values are lists or structures, or bytes that are no text.
    """
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        raise TableError("a key is one value", got=f"{name}: {column.type}", remedy="name another column")
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError("a key is a text", got=f"{name}: {error}", remedy="name another column") from error


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text[:MOST_LETTERS]


def _classes(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if one is not None and str(one) != ""]
