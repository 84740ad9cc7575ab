"""What becomes of rows that share something: a key, a content, nearly a text.

One function over closed sets of rows, used by the Spark job on parts of a table and by incremental builds on
what a change touches: a row's fate depends on its own set alone, not on order, partitions or other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.preparation import CONTENT, HASH, IDENTITY, ORDER, ROW, SHIPPED, TEST, VALIDATION

if TYPE_CHECKING:
    import pyarrow as pa

CLUSTER, SET, STATE, REASON, COPY = "_mm_cluster", "_mm_set", "_mm_state", "_mm_why", "_mm_copy"

KEPT, QUARANTINED = "kept", "quarantined"
DUPLICATE, NEAR_DUPLICATE = "duplicate", "near-duplicate"
LEAK, NEAR_LEAK = "leak", "near-leak"

KEY_NOT_UNIQUE, CONFLICT = "key is not unique", "conflicting labels"

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def final_column(index: int) -> str:
    """Return the name of a label's column among the decisions.

    :param index: place among the labels.
    :return: the name.
    """
    return f"_mm_final_{index}"


def decisions_schema(label_types: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns of decisions.

    :param label_types: types of the labels, in the dataset's order.
    :return: the row, its set, its state, the reason if it is quarantined, the number among the copies of one
        content that are kept (0 for the first), and its labels, completed by those of its copies.
    """
    import pyarrow as pa

    fields = [pa.field(ROW, pa.int64()), pa.field(SET, pa.int64()), pa.field(STATE, pa.string())]
    fields += [pa.field(REASON, pa.string()), pa.field(COPY, pa.int32())]
    fields += [pa.field(final_column(index), type_) for index, type_ in enumerate(label_types)]
    return pa.schema(fields)


def decide(rows: pa.Table, labels: Sequence[str], *, unique_key: bool) -> pa.Table:
    """Decide what becomes of each row of closed sets.

    In this order: rows that share a key and differ are quarantined, equal ones are duplicates of the first.
    Equal contents with labels that conflict are quarantined, else all but the first are duplicates and
    complete its labels. Of a cluster of near-duplicates the first stays. Rows of a shipped test split all
    stay, and a row outside it that has the content of one, or nearly so, leaks.

    "First" is validation before train, then by the number at the end of the key, then by the hash of the row.

    :param rows: usable rows, each with all rows that share its key, its content or its cluster. Columns
        ``_mm_row``, ``_mm_hash``, ``_mm_order``, ``_mm_content…``, ``_mm_key…``, ``_mm_shipped``,
        ``_mm_cluster``, ``_mm_set`` and labels.
    :param labels: the label columns.
    :param unique_key: whether rows have a key of their own, which must be unique.
    :return: see :func:`decisions_schema`; only rows of sets that have several.
    """
    import pyarrow as pa

    count = rows.num_rows
    column = {name: _int(rows, name) for name in (HASH, ORDER, *CONTENT, *IDENTITY, CLUSTER, SET, SHIPPED)}
    is_test = column[SHIPPED] == TEST
    content = _codes(column[CONTENT[0]], column[CONTENT[1]])
    label_codes = [_label_codes(rows.column(name)) for name in labels]
    # Position in the order in which rows come first.
    first = np.empty(count, np.int64)
    first[np.lexsort((column[HASH], column[ORDER], column[SHIPPED] != VALIDATION))] = np.arange(count)

    state = np.full(count, KEPT, object)
    reason = np.full(count, None, object)
    if unique_key:
        _by_key(
            _codes(*(column[name] for name in IDENTITY)),
            content,
            column[SHIPPED],
            label_codes,
            first,
            state,
            reason,
        )
    source = _by_content(content, is_test, label_codes, first, state, reason)
    copy = np.zeros(count, np.int32)
    if not unique_key:
        # Equal contents of a shipped test split stay, so their keys, which are hashes of it, are numbered.
        stay = np.flatnonzero((state == KEPT) & is_test)
        copy[stay] = _ranks(content[stay], first[stay])
    _by_cluster(column[CLUSTER], is_test, first, state)

    finals: list[Any] = []
    for name, origin in zip(labels, source, strict=True):
        finals.append(rows.column(name).combine_chunks().take(pa.array(origin)))
    sets = column[SET]
    told = np.flatnonzero((_largest(sets, first) != _smallest(sets, first)) | (state != KEPT))
    arrays = [
        rows.column(ROW).combine_chunks(),
        pa.array(sets),
        pa.array(state, pa.string()),
        pa.array(reason, pa.string()),
        pa.array(copy),
    ]
    schema = decisions_schema([rows.schema.field(name).type for name in labels])
    table = pa.Table.from_arrays([*arrays, *finals], names=schema.names)
    return table.take(pa.array(told)).cast(schema)


def _by_key(
    key: Ints, content: Ints, shipped: Ints, labels: Sequence[Ints], first: Ints, state: Any, reason: Any
) -> None:
    same = _codes(content, shipped, *labels)
    differs = _largest(key, same) != _smallest(key, same)
    state[differs] = QUARANTINED
    reason[differs] = KEY_NOT_UNIQUE
    state[~differs & (first > _smallest(key, first))] = DUPLICATE


def _by_content(
    content: Ints, is_test: Bools, labels: Sequence[Ints], first: Ints, state: Any, reason: Any
) -> list[Ints]:
    """Settle equal contents; return the row from which each row takes each label."""
    sources = [np.arange(len(content)) for _ in labels]
    left = np.flatnonzero(state == KEPT)
    content, is_test, first = content[left], is_test[left], first[left]
    side = content * 2 + is_test
    conflict = np.zeros(len(left), bool)
    for source, label in zip(sources, labels, strict=True):
        known = label[left]
        largest = _largest(side, known)
        smallest = _smallest(side, np.where(known < 0, np.iinfo(np.int64).max, known))
        conflict |= (largest >= 0) & (largest != smallest)
        # Labels of copies complete each other; a test row keeps its own.
        giver = np.full(len(left), -1)
        np.maximum.at(giver, _dense(side), np.where(known >= 0, np.arange(len(left)), -1))
        given = giver[_dense(side)]
        lacks = (known < 0) & (given >= 0) & ~is_test
        source[left[lacks]] = left[given[lacks]]
    leaks = ~is_test & (_largest(content, is_test.astype(np.int64)) == 1)
    quarantined = ~is_test & ~leaks & conflict
    later = ~is_test & ~leaks & ~conflict & (first > _smallest(side, first))
    for where, name in ((leaks, LEAK), (quarantined, QUARANTINED), (later, DUPLICATE)):
        state[left[where]] = name
    reason[left[quarantined]] = CONFLICT
    return sources


def _by_cluster(cluster: Ints, is_test: Bools, first: Ints, state: Any) -> None:
    left = np.flatnonzero(state == KEPT)
    cluster, is_test, first = cluster[left], is_test[left], first[left]
    leaks = ~is_test & (_largest(cluster, is_test.astype(np.int64)) == 1)
    later = ~is_test & ~leaks & (first > _smallest(cluster, first))
    state[left[leaks]] = NEAR_LEAK
    state[left[later]] = NEAR_DUPLICATE


def _int(rows: pa.Table, name: str) -> Ints:
    import pyarrow.compute as pc

    values = rows.column(name)
    return np.asarray(pc.fill_null(values, -1).to_numpy(), np.int64)


def _label_codes(column: pa.ChunkedArray) -> Ints:
    """Return a number for each label, -1 where there is none."""
    import json

    import pyarrow as pa

    if pa.types.is_nested(column.type):
        column = pa.chunked_array(
            [pa.array([None if v is None else json.dumps(v) for v in column.to_pylist()], pa.string())]
        )
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _codes(*columns: Ints) -> Ints:
    """Return equal numbers for equal rows."""
    order = np.lexsort(columns[::-1])
    fresh = np.zeros(len(order), bool)
    for values in columns:
        ordered = values[order]
        fresh[1:] |= ordered[1:] != ordered[:-1]
    codes = np.empty(len(order), np.int64)
    codes[order] = np.cumsum(fresh)
    return codes


def _dense(groups: Ints) -> Ints:
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)


def _largest(groups: Ints, values: Ints) -> Ints:
    """Return for each row the largest value of its group."""
    dense = _dense(groups)
    found = np.full(len(groups), np.iinfo(np.int64).min)
    np.maximum.at(found, dense, values)
    return found[dense]


def _smallest(groups: Ints, values: Ints) -> Ints:
    """Return for each row the smallest value of its group."""
    dense = _dense(groups)
    found = np.full(len(groups), np.iinfo(np.int64).max)
    np.minimum.at(found, dense, values)
    return found[dense]


def _ranks(groups: Ints, values: Ints) -> Ints:
    """Return for each row its place in its group, by value, from 0."""
    order = np.lexsort((values, groups))
    ordered = groups[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(order) else order
    sizes = np.diff(np.append(starts, len(order)))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return ranks
