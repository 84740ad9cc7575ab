"""What becomes of rows that share something: a key, a content, nearly a text.

One function over closed sets of rows, which the Spark job calls on parts of a table and an incremental build
on the sets that a change touches. What becomes of a row depends on its own set alone, not on the order or on
partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.datasets.prepared_columns import CONTENT, HASH, IDENTITY, ORDER, ROW, SHIPPED, TEST, VALIDATION

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
    """Return the name of a label's column among the decisions."""
    return f"_mm_final_{index}"


def decisions_schema(label_types: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns of decisions.

    :param label_types: types of the labels, in the dataset's order.
    :return: the row, its set, its state, the reason if it is quarantined, its number among the kept copies of
        one content (0 for the first), and its labels, completed by those of its copies.
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
    :return: see :func:`decisions_schema`; rows that are kept and alone in their set are left out.
    """
    import pyarrow as pa

    found = _Decisions(rows, labels)
    if unique_key:
        found.settle_keys()
    sources = found.settle_contents()
    copy = np.zeros(rows.num_rows, np.int32)
    if not unique_key:
        # Equal contents of a shipped test split stay, so their keys, which are hashes of it, are numbered.
        stay = np.flatnonzero((found.state == KEPT) & found.is_test)
        copy[stay] = _ranks(found.content[stay], found.first[stay])
    found.settle_clusters()
    schema = decisions_schema([rows.schema.field(name).type for name in labels])
    finals = [
        rows.column(name).combine_chunks().take(pa.array(source))
        for name, source in zip(labels, sources, strict=True)
    ]
    arrays = [
        rows.column(ROW).combine_chunks(),
        pa.array(found.column[SET]),
        pa.array(found.state, pa.string()),
        pa.array(found.reason, pa.string()),
        pa.array(copy),
    ]
    table = pa.Table.from_arrays([*arrays, *finals], names=schema.names)
    return table.take(pa.array(found.rows_to_list())).cast(schema)


class _Decisions:
    """What is decided of rows: first by key, then by content, then by cluster."""

    def __init__(self, rows: pa.Table, labels: Sequence[str]) -> None:
        names = (HASH, ORDER, *CONTENT, *IDENTITY, CLUSTER, SET, SHIPPED)
        self.column = {name: _int(rows, name) for name in names}
        shipped = self.column[SHIPPED]
        self.is_test = shipped == TEST
        self.content = _codes(self.column[CONTENT[0]], self.column[CONTENT[1]])
        self.labels = [_label_codes(rows.column(name)) for name in labels]
        self.first = np.empty(rows.num_rows, np.int64)
        """Position of each row in the order in which rows come first."""
        order = np.lexsort((self.column[HASH], self.column[ORDER], shipped != VALIDATION))
        self.first[order] = np.arange(rows.num_rows)
        self.state = np.full(rows.num_rows, KEPT, object)
        self.reason = np.full(rows.num_rows, None, object)

    def settle_keys(self) -> None:
        """Settle rows with one key."""
        key = _codes(*(self.column[name] for name in IDENTITY))
        same = _codes(self.content, self.column[SHIPPED], *self.labels)
        differs = _largest(key, same) != _smallest(key, same)
        self.state[differs] = QUARANTINED
        self.reason[differs] = KEY_NOT_UNIQUE
        self.state[~differs & (self.first > _smallest(key, self.first))] = DUPLICATE

    def settle_contents(self) -> list[Ints]:
        """Settle rows with one content; return the row from which each row takes each label."""
        sources = [np.arange(len(self.content)) for _ in self.labels]
        left = np.flatnonzero(self.state == KEPT)
        content, is_test, first = self.content[left], self.is_test[left], self.first[left]
        side = content * 2 + is_test
        conflict = np.zeros(len(left), bool)
        for source, label in zip(sources, self.labels, strict=True):
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
            self.state[left[where]] = name
        self.reason[left[quarantined]] = CONFLICT
        return sources

    def settle_clusters(self) -> None:
        """Settle rows whose texts are nearly the same."""
        left = np.flatnonzero(self.state == KEPT)
        cluster, is_test, first = self.column[CLUSTER][left], self.is_test[left], self.first[left]
        leaks = ~is_test & (_largest(cluster, is_test.astype(np.int64)) == 1)
        later = ~is_test & ~leaks & (first > _smallest(cluster, first))
        self.state[left[leaks]] = NEAR_LEAK
        self.state[left[later]] = NEAR_DUPLICATE

    def rows_to_list(self) -> Ints:
        """Return the places of rows that are not kept, or stand in a set with others."""
        sets = self.column[SET]
        alone = _largest(sets, self.first) == _smallest(sets, self.first)
        return np.flatnonzero(~alone | (self.state != KEPT))


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
