"""A look at a Delta table before it is used: schema, some rows, the balance of its classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.tables.files import ActiveFile, active_files
from modelmill.tables.opening import open_table
from modelmill.tables.reading import check_columns, read_batches, read_head, readable
from modelmill.tables.storage import is_local, table_location

if TYPE_CHECKING:
    import pyarrow as pa

BALANCE_ROWS = 100_000
"""Rows, from the beginning, in which classes are counted: a preview answers within seconds."""

MOST_CLASSES = 50
_CELL_CHARACTERS = 300


@dataclass(frozen=True)
class PreviewColumn:
    """A column."""

    name: str
    type: str
    """As Arrow calls it, such as ``string`` or ``list<double>``."""
    nullable: bool


@dataclass(frozen=True)
class ClassCount:
    """Rows of one class."""

    value: str | None
    """None: rows without a label."""
    rows: int


@dataclass(frozen=True)
class TablePreview:
    """What a preview shows."""

    uri: str
    version: int
    rows: int | None
    """Number of all rows; None if the log does not say."""
    columns: tuple[PreviewColumn, ...]
    sample: tuple[dict[str, Any], ...]
    """First rows; long values are cut, binary ones are described."""
    balance: dict[str, tuple[ClassCount, ...]]
    """By column: its classes, the most frequent first."""
    counted: int
    """Rows in which classes were counted."""


def check_below(uri: str, roots: Sequence[str]) -> str:
    """Make sure that a table lies below one of the places that may be shown.

    :param uri: path or URI.
    :param roots: paths and URIs.
    :return: the table's place, links followed.
    :raises TableError: if it lies elsewhere.
    """
    place = table_location(uri)
    # Stores decode a URI's path, perhaps more than once.
    if "\0" in uri or any(unquote(unquote(part)) == ".." for part in uri.split("/")):
        raise _elsewhere(uri, roots)
    if is_local(place):
        real = Path(place).resolve()
        local = [Path(table_location(root)).resolve() for root in roots if is_local(table_location(root))]
        if any(real.is_relative_to(root) for root in local):
            return str(real)
    elif any(f"{place}/".startswith(f"{table_location(root)}/") for root in roots):
        return place
    raise _elsewhere(uri, roots)


def _elsewhere(uri: str, roots: Sequence[str]) -> TableError:
    shown = (
        f"below {' or '.join(roots)}" if roots else "of folders that the deployment names, and it names none"
    )
    return TableError(
        f"only tables {shown} are shown here",
        got=uri,
        remedy="copy the table there, or let an administrator add its folder to MODELMILL_TABLES",
    )


def preview(
    uri: str, *, version: int | None = None, labels: Iterable[str] = (), rows: int = 20
) -> TablePreview:
    """Look at a table.

    :param uri: path or URI.
    :param version: version; None: the newest.
    :param labels: columns whose classes are counted.
    :param rows: rows to show.
    :return: the preview.
    :raises TableError: if it cannot be read, or has no such column.
    """
    table = open_table(uri, version=version)
    ref = TableRef(uri=table_location(uri), version=table.version())
    with readable(ref):
        files = active_files(table, ref.uri)
    names = [field.name for field in table.schema().fields]
    wanted = list(dict.fromkeys(labels))
    check_columns(names, wanted, place=ref.uri)
    sample = read_head(table, ref, _first(files, rows), rows=rows)
    schema = sample.schema
    counted, balance = 0, {}
    if wanted:
        head = read_head(table, ref, _first(files, BALANCE_ROWS), rows=BALANCE_ROWS, columns=wanted)
        counted, balance = head.num_rows, {name: _classes(head.column(name)) for name in wanted}
    return TablePreview(
        uri=ref.uri,
        version=ref.version,
        rows=_row_count(files),
        columns=tuple(PreviewColumn(field.name, str(field.type), field.nullable) for field in schema),
        sample=tuple({name: shown_value(value) for name, value in row.items()} for row in sample.to_pylist()),
        balance=balance,
        counted=counted,
    )


def _first(files: list[ActiveFile], rows: int) -> list[ActiveFile]:
    """Return the first files that have so many rows by the log: a reader would read ahead into the others."""
    known = 0
    for place, file in enumerate(files, start=1):
        known += file.rows or 0
        if known >= rows:
            return files[:place]
    return files


def rows_in(uri: str, *, version: int | None = None) -> int | None:
    """Count the rows of a table by its log: no file of data is read.

    :param uri: path or URI.
    :param version: version; None: the newest.
    :return: rows; None if the log does not say.
    :raises TableError: if it cannot be read.
    """
    return _row_count(active_files(open_table(uri, version=version), table_location(uri)))


def _row_count(files: Sequence[ActiveFile]) -> int | None:
    known = [file.rows for file in files if file.rows is not None]
    return sum(known) if len(known) == len(files) else None


def first_rows(
    uri: str, *, version: int | None = None, rows: int, columns: Sequence[str] | None = None
) -> tuple[str, int, pa.RecordBatch]:
    """Read the first rows of a table.

    :param uri: path or URI.
    :param version: version; None: the newest.
    :param rows: rows at most.
    :param columns: columns to read, in this order; None: all.
    :return: what was found.
    :raises TableError: if it cannot be read, or has none.
    """
    table = open_table(uri, version=version)
    ref = TableRef(uri=table_location(uri), version=table.version())
    files = _first(active_files(table, ref.uri), rows)
    found = read_head(table, ref, files, rows=rows, columns=columns).combine_chunks().to_batches()
    if not found:
        raise TableError("the table must have rows", got=str(ref), remedy="name another table or version")
    return ref.uri, ref.version, found[0]


_MOST_ROWS = 100
"""Rows with one key that are read at most."""


class FoundRows(NamedTuple):
    """Rows of a table that have a key."""

    uri: str
    version: int
    rows: list[dict[str, Any]]
    is_cut: bool
    """Whether there are more."""


def rows_with(uri: str, *, column: str, key: str, version: int | None = None) -> FoundRows:
    """Read the rows of a table that have a key, the first 100 of them.

    :param uri: path or URI.
    :param column: column with the key.
    :param key: the key, as text.
    :param version: version; None: the newest.
    :return: the table's place, its version, and the rows.
    :raises TableError: if it cannot be read, or has no such column or row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = open_table(uri, version=version)
    ref = TableRef(uri=table_location(uri), version=table.version())
    check_columns([field.name for field in table.schema().fields], [column], place=ref.uri)
    found: list[dict[str, Any]] = []
    with read_batches(table, ref, active_files(table, ref.uri)) as batches:
        if pa.types.is_nested(batches.schema.field(column).type):
            raise TableError("a key is one value", got=f"column {column}", remedy="name another column")
        for batch in batches:
            same = pc.equal(pc.cast(batch.column(column), pa.string()), key)
            found += batch.filter(same).slice(0, _MOST_ROWS + 1 - len(found)).to_pylist()
            if len(found) > _MOST_ROWS:
                break
    if not found:
        raise TableError(f"the table must have a row with this key ({ref}, column {column})", got=key)
    return FoundRows(ref.uri, ref.version, found[:_MOST_ROWS], is_cut=len(found) > _MOST_ROWS)


def _classes(column: pa.ChunkedArray) -> tuple[ClassCount, ...]:
    counts: dict[str | None, int] = {}
    for value in column.to_pylist():
        for label in value if isinstance(value, list) else [value]:
            shown = None if label is None else str(label)
            counts[shown] = counts.get(shown, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return tuple(ClassCount(value, rows) for value, rows in ordered[:MOST_CLASSES])


def shown_value(value: Any) -> Any:
    """Return a value as a page can show it.

    :param value: as Arrow gives it.
    :return: text, a number, a truth value or None; other values as text, cut where they are long.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if isinstance(value, str | dict | list | tuple):
        return text if len(text) <= _CELL_CHARACTERS else f"{text[:_CELL_CHARACTERS]}…"
    return str(value)
