"""Put the labels that people gave into a table: what the night after the labelling reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.labels.queue import Label, newest_labels, settled_labels
from modelmill.labels.queue_rows import key_texts
from modelmill.labels.queue_store import SOURCE
from modelmill.tables.commits import commit_files, committed_version
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns, read_arrow, scan_arrow
from modelmill.tables.staged_files import stage_rows
from modelmill.tables.storage import table_location

if TYPE_CHECKING:
    import pyarrow as pa

_FILE_ROWS = 65_536


@dataclass(frozen=True)
class AppliedLabels:
    """What was written."""

    table: TableRef
    rows: int
    labelled: int
    """Rows that have a label of a person now."""
    settled: int
    """Keys on which most people say the same."""
    contested: int
    """Keys on which as many people say one thing as another: they are as before."""


@dataclass(frozen=True)
class PersonLabelColumns:
    """Columns of the table that labels are put into."""

    key: str
    """The keys."""
    label: str
    """Is written: a person's label where there is one, else as it was, or null."""
    source: str | None = None
    """Says ``person`` in the rows with a person's label, else what it said before. None: not written."""


@dataclass(frozen=True)
class PersonLabels:
    """The labels of a table of labels, one for each key."""

    labels: Mapping[str, Label]
    type: pa.DataType
    contested: int


def read_person_labels(ref: TableRef) -> PersonLabels:
    """Read a table of labels.

    :param ref: the table.
    :return: for each key the label that most people gave.
    :raises TableError: if it cannot be read, or is another table.
    """
    table = read_arrow(ref, columns=["key", "label", "who", "when"])
    _check_labels(table, ref)
    given = newest_labels(table.to_pylist())
    settled = settled_labels(given)
    return PersonLabels(settled, table.schema.field("label").type, len(given) - len(settled))


def _check_labels(table: pa.Table, ref: TableRef) -> None:
    """Refuse another table than one of labels: whose a label is, or which is newer, would be guessed."""
    import pyarrow as pa

    kinds = {field.name: field.type for field in table.schema}
    label = kinds["label"].value_type if pa.types.is_list(kinds["label"]) else kinds["label"]
    wrong = [name for name in ("key", "who") if not pa.types.is_string(kinds[name])]
    wrong += [] if pa.types.is_timestamp(kinds["when"]) else ["when"]
    is_label = pa.types.is_string(label) or pa.types.is_floating(label) or pa.types.is_integer(label)
    wrong += [] if is_label else ["label"]
    if wrong:
        raise TableError(
            f"labels have texts as key and who, a time as when, and texts or a number as label ({ref})",
            got=", ".join(f"{name}: {kinds[name]}" for name in wrong),
            remedy="name the table of labels that the labelling page shows",
        )
    empty = [name for name in ("key", "who", "when") if table.column(name).null_count]
    if empty:
        raise TableError(
            f"each label says which row it is of, whose it is and when it was given ({ref})",
            got=f"null in {', '.join(empty)}",
            remedy="restore the table from a copy, or name that which the labelling page shows",
        )


def apply_labels(
    source: TableRef, labels: TableRef, *, columns: PersonLabelColumns, to: str, transaction: str
) -> AppliedLabels:
    """Write a table with the labels of people in it, batch by batch.

    :param source: the table; every row of it is written, in its order.
    :param labels: a table of labels, see :mod:`modelmill.labels.queue_store`.
    :param columns: where the keys are, and where the labels go.
    :param to: table to write.
    :param transaction: id under which the result is committed once.
    :return: the table, and how many rows have a person's label.
    :raises ConfigError: if the table would be written over one that is read.
    :raises TableError: if the labels are of another type than the column, or a table cannot be read.
    """
    from deltalake import Schema

    place = table_location(to)
    if place in (table_location(source.uri), table_location(labels.uri)):
        raise ConfigError("a table is not written over its source", got=to, remedy="name another table")
    people = read_person_labels(labels)
    plan = _planned(source, people, columns)
    applied, rows, files = 0, 0, []
    version = committed_version(place, transaction)
    for table, count in _applied(source, people, columns, plan):
        applied, rows = applied + count, rows + table.num_rows
        if version is None:
            files.append(stage_rows(table, place))
    if version is None:
        about = {"operation": "apply_labels", "source": str(source), "labels": str(labels)}
        version = commit_files(
            place,
            files or [stage_rows(plan.written.empty_table(), place)],
            schema=Schema.from_arrow(plan.written),
            mode="overwrite",
            transaction=transaction,
            metadata=about,
        )
    return AppliedLabels(
        table=TableRef(uri=place, version=version),
        rows=rows,
        labelled=applied,
        settled=len(people.labels),
        contested=people.contested,
    )


@dataclass(frozen=True)
class _Plan:
    """What is read and written."""

    read: tuple[str, ...]
    written: pa.Schema
    values: pa.Array
    """The labels in the order of their keys, as the column has them."""


def _planned(ref: TableRef, people: PersonLabels, columns: PersonLabelColumns) -> _Plan:
    import pyarrow as pa

    found = table_schema(ref)
    check_columns(found.names, [columns.key], place=str(ref))
    new = [name for name in (columns.label, columns.source) if name is not None]
    if len({columns.key, *new}) != len(new) + 1:
        raise ConfigError("key, label and source are different columns", got=", ".join([columns.key, *new]))
    lower = {name.lower(): name for name in found.names}
    other = [name for name in new if name not in found.names and name.lower() in lower]
    if other:
        raise ConfigError(
            f"names of columns differ by more than case ({ref})",
            got=other[0],
            remedy=f"write {lower[other[0].lower()]}, or choose another name",
        )
    kind = found.field(columns.label).type if columns.label in found.names else people.type
    try:
        values = pa.array(_plain(people.labels.values()), people.type).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(
            f"people's labels must fit the column {columns.label} of {ref}",
            got=f"{people.type} for {kind}",
            remedy="name another column under label",
        ) from error
    added = [pa.field(name, each) for name, each in zip(new, (kind, pa.string()), strict=False)]
    written = pa.schema([*(field for field in found if field.name not in new), *added])
    return _Plan(tuple(found.names), written, values)


def _plain(labels: Any) -> list[Any]:
    return [list(one) if isinstance(one, tuple) else one for one in labels]


def _applied(
    ref: TableRef, people: PersonLabels, columns: PersonLabelColumns, plan: _Plan
) -> Iterator[tuple[pa.Table, int]]:
    """Yield the rows with their labels, and how many of them have a person's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(people.labels.keys(), pa.string())
    for batch in scan_arrow(ref, columns=plan.read, batch_rows=_FILE_ROWS):
        places = pc.index_in(key_texts(batch.column(columns.key), columns.key), known)
        is_given = pc.is_valid(places)
        given = plan.values.take(places)
        new = {columns.label: pc.if_else(is_given, given, _column(batch, columns.label, given.type))}
        if columns.source is not None:
            said = _column(batch, columns.source, pa.string()).cast(pa.string())
            new[columns.source] = pc.if_else(is_given, pa.scalar(SOURCE), said)
        arrays = [new[name] if name in new else batch.column(name) for name in plan.written.names]
        yield pa.Table.from_arrays(arrays, schema=plan.written), int(pc.sum(is_given).as_py() or 0)


def _column(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, kind)
