"""The rows of a dataset, made of prepared rows and the decisions on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.deduplication import (
    CONFLICT,
    CONFLICTS,
    COPY,
    KEPT,
    QUARANTINED,
    SIMILARITY,
    STATE,
    TWIN,
    final_column,
)
from modelmill.datasets.deduplication import REASON as WHY
from modelmill.datasets.prepared_columns import (
    CARVED,
    GROUP,
    KEY,
    REASON,
    ROW,
    SHIPPED,
    TRAIN,
    Preparation,
    label_column,
)

if TYPE_CHECKING:
    import pyarrow as pa

Originals = tuple[npt.NDArray[np.int64], Any]
"""Ids of rows, sorted, and their keys as an Arrow array."""

KEY_COLUMN = "example_key"
SPLIT_COLUMN = "split"
REASON_COLUMN = "quarantine_reason"
KIND_COLUMN, ORIGINAL_COLUMN = "duplicate_kind", "duplicate_of"
SIMILARITY_COLUMN, CONFLICTS_COLUMN = "similarity", "conflicting_labels"
SPLITS = ("train", "validation", "test")
"""Names of the splits, in the order of their numbers."""


def dataset_schema(plan: Preparation) -> pa.Schema:
    """Return the columns of a dataset.

    :param plan: how its rows are prepared.
    :return: key, contents, labels, split, and the columns that are carried along.
    """
    import pyarrow as pa

    options = plan.options
    fields = [pa.field(KEY_COLUMN, pa.string())]
    if options.text is not None:
        fields.append(pa.field(options.text, pa.string()))
    if options.image is not None:
        fields.append(pa.field(options.image, plan.schema.field(options.image).type))
    labels = zip(options.labels, plan.label_types, strict=True)
    fields += [pa.field(name, type_) for name, type_ in labels]
    fields.append(pa.field(SPLIT_COLUMN, pa.string()))
    fields += [pa.field(name, plan.schema.field(name).type) for name in options.carried]
    return pa.schema(fields)


@dataclass(frozen=True)
class SplitRule:
    """What the split of a row depends on beside the row itself."""

    own_validation: bool = False
    """Whether the shipped split has validation rows, so that none are carved out of train."""
    to_train: frozenset[int] = frozenset()
    """Groups that stay in train, since a class would have no train rows without them."""


def assemble(rows: pa.RecordBatch, plan: Preparation, rule: SplitRule) -> pa.RecordBatch:
    """Return the rows of the dataset among prepared rows.

    :param rows: prepared rows with the decisions on them; nulls if there is none on a row.
    :param plan: how they were prepared.
    :param rule: how they are split.
    :return: the rows that are kept, with the columns of :func:`dataset_schema`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    state = pc.coalesce(rows.column(STATE), pc.if_else(pc.is_null(rows.column(REASON)), KEPT, QUARANTINED))
    rows = rows.filter(pc.equal(state, KEPT))
    decided = pc.is_valid(rows.column(STATE))
    copy = rows.column(COPY)
    numbered = pc.binary_join_element_wise(rows.column(KEY), pc.add(copy, 1).cast(pa.string()), "-")
    columns = {KEY_COLUMN: pc.if_else(pc.greater(pc.fill_null(copy, 0), 0), numbered, rows.column(KEY))}
    for index, name in enumerate(plan.options.labels):
        columns[name] = pc.if_else(
            decided, rows.column(final_column(index)), rows.column(label_column(index))
        )
    columns[SPLIT_COLUMN] = _split(rows, plan, rule)
    schema = dataset_schema(plan)
    arrays = [columns.get(field.name) for field in schema]
    arrays = [
        (rows.column(field.name) if array is None else array).cast(field.type)
        for field, array in zip(schema, arrays, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _split(rows: pa.RecordBatch, plan: Preparation, rule: SplitRule) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    shipped, carved = rows.column(SHIPPED), rows.column(CARVED)
    if plan.options.split.column is None:
        number = carved
    elif rule.own_validation:
        number = shipped
    else:
        stays = pc.is_in(rows.column(GROUP), value_set=pa.array(sorted(rule.to_train), pa.int64()))
        number = pc.if_else(pc.and_(pc.equal(shipped, TRAIN), pc.invert(stays)), carved, shipped)
    return pa.array(SPLITS).take(number)


def left_out_schema(plan: Preparation, *, of: str) -> pa.Schema:
    """Return the columns of the rows of a source that are not in its dataset, with what became of them.

    :param plan: how rows are prepared.
    :param of: ``quarantine`` or ``duplicates``.
    :return: the source's columns, and those of that table.
    """
    import pyarrow as pa

    strings = (KIND_COLUMN, ORIGINAL_COLUMN, CONFLICTS_COLUMN)
    own = [(name, pa.string()) for name in strings] + [(SIMILARITY_COLUMN, pa.float64())]
    if of == "quarantine":
        own = [(REASON_COLUMN, pa.string())]
    names = {name for name, _ in own}
    return pa.schema([*(field for field in plan.schema if field.name not in names), *own])


def quarantine_reasons(rows: pa.RecordBatch) -> pa.Array:
    """Return the reason for which each row is quarantined.

    :param rows: prepared rows with the decisions on them.
    :return: strings; null for a row that is not quarantined.
    """
    import pyarrow.compute as pc

    why, conflicts = rows.column(WHY), rows.column(CONFLICTS)
    named = pc.binary_join_element_wise(why, conflicts, ": ")
    why = pc.if_else(pc.fill_null(pc.equal(why, CONFLICT), False), pc.coalesce(named, why), why)
    return pc.coalesce(rows.column(REASON), why)


def quarantined_rows(rows: pa.RecordBatch, plan: Preparation) -> pa.RecordBatch:
    """Return the quarantined rows among prepared rows with the decisions on them, each with its reason."""
    import pyarrow.compute as pc

    reason = quarantine_reasons(rows)
    return _selected(rows, {REASON_COLUMN: reason}, left_out_schema(plan, of="quarantine")).filter(
        pc.is_valid(reason)
    )


def duplicate_rows(rows: pa.RecordBatch, plan: Preparation, keys: Originals) -> pa.RecordBatch:
    """Return the rows that another one stands for, with its key.

    :param rows: prepared rows with the decisions on them.
    :param plan: how they were prepared.
    :param keys: of the rows that stand for others.
    :return: the duplicates among them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = rows.filter(pc.is_valid(rows.column(TWIN)))
    places = np.searchsorted(keys[0], np.asarray(rows.column(TWIN), np.int64))
    own = {
        KIND_COLUMN: rows.column(STATE),
        ORIGINAL_COLUMN: keys[1].take(pa.array(places)),
        SIMILARITY_COLUMN: rows.column(SIMILARITY),
        CONFLICTS_COLUMN: rows.column(CONFLICTS),
    }
    return _selected(rows, own, left_out_schema(plan, of="duplicates"))


def original_keys(rows: Iterable[pa.RecordBatch]) -> Originals:
    """Return the keys of rows, to look them up for duplicates.

    :param rows: prepared rows, with their ids and keys.
    :return: ids, sorted, and the key of each.
    """
    import pyarrow as pa

    schema = pa.schema([(ROW, pa.int64()), (KEY, pa.string())])
    table = pa.Table.from_batches([batch.select(schema.names).cast(schema) for batch in rows], schema)
    table = table.sort_by(ROW).combine_chunks()
    return np.asarray(table.column(ROW), np.int64), table.column(KEY).combine_chunks()


def _selected(rows: pa.RecordBatch, own: dict[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    # The source's columns keep the types that the engine gives them.
    arrays = [
        own[name].cast(schema.field(name).type) if name in own else rows.column(name) for name in schema.names
    ]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)
