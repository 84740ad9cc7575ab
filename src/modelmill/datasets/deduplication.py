"""What becomes of rows that share something: a key, a content, nearly a text.

One function over closed sets of rows, which the Spark job calls on parts of a table and an incremental build
on the sets that a change touches. What becomes of a row depends on its own set alone, not on the order or on
partitions.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.near_copies import Compare, NearPairs, twins
from modelmill.datasets.prepared_columns import (
    CONTENT,
    HASH,
    IDENTITY,
    ORDER,
    ROW,
    SHIPPED,
    TEST,
    VALIDATION,
    Preparation,
    label_column,
)
from modelmill.errors import shorten

if TYPE_CHECKING:
    import pyarrow as pa

CLUSTER, SET, STATE, REASON, COPY = "_mm_cluster", "_mm_set", "_mm_state", "_mm_why", "_mm_copy"
CONFLICTS, MERGED, TWIN, SIMILARITY = "_mm_conflicts", "_mm_merged", "_mm_twin", "_mm_similarity"

KEPT, QUARANTINED = "kept", "quarantined"
DUPLICATE, NEAR_DUPLICATE = "duplicate", "near-duplicate"
LEAK, NEAR_LEAK = "leak", "near-leak"

KEY_NOT_UNIQUE, CONFLICT = "key is not unique", "conflicting labels"
NO_TRAIN_ROWS = "class has no train rows"

UNKNOWN, MEDIAN = "unknown:", "median:"
"""What copies that disagree make of a label of the row that is kept, in front of its name; in a JSON list."""

_VALUES_SHOWN = 3

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def final_column(index: int) -> str:
    """Return the name of a label's column among the decisions."""
    return f"_mm_final_{index}"


def decisions_schema(label_types: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns of decisions.

    :param label_types: types of the labels, in the dataset's order.
    :return: the row; its set; its state; the reason if it is quarantined; its number among the kept copies of
        one content (0 for the first); the values on which copies disagree; what that made of which label; the
        row that stands for a dropped one, and their similarity; the labels, completed by those of copies.
    """
    import pyarrow as pa

    fields = [pa.field(ROW, pa.int64()), pa.field(SET, pa.int64()), pa.field(STATE, pa.string())]
    fields += [pa.field(REASON, pa.string()), pa.field(COPY, pa.int32()), pa.field(CONFLICTS, pa.string())]
    fields += [pa.field(MERGED, pa.string())]
    fields += [pa.field(TWIN, pa.int64()), pa.field(SIMILARITY, pa.float64())]
    fields += [pa.field(final_column(index), type_) for index, type_ in enumerate(label_types)]
    return pa.schema(fields)


def decide(
    rows: pa.Table,
    plan: Preparation,
    pairs: NearPairs,
    compare: Compare | None = None,
    *,
    refused: Ints | None = None,
) -> pa.Table:
    """Decide what becomes of each row of closed sets.

    In this order: rows that share a key and differ are quarantined, equal ones are duplicates of the first.
    Of equal contents all but the first are duplicates and complete its labels; a label on which they disagree
    is unknown, and if no label is left, all are quarantined. A row whose text is nearly that of a row that
    stays is dropped. Rows of a shipped test split all stay, and a row outside it that has the content of one,
    or nearly so, leaks. Copies of a row that is quarantined later go with it.

    "First" is validation before train, then by the number at the end of the key, then by the hash of the row.

    :param rows: usable rows, each with all rows that share its key, its content or its cluster. Columns
        ``_mm_row``, ``_mm_hash``, ``_mm_order``, ``_mm_content…``, ``_mm_key…``, ``_mm_shipped``, ``_mm_set``
        and labels.
    :param plan: how they were prepared.
    :param pairs: texts that are nearly the same, by ``_mm_content``.
    :param compare: gives the similarity of texts, by ``_mm_content``; None: no pair is from a crowded bucket.
    :param refused: contents of classes without train rows.
    :return: see :func:`decisions_schema`; rows that are kept and alone in their set are left out.
    """
    import pyarrow as pa

    unique_key = plan.options.key is not None
    found = _Decisions(rows, plan)
    if unique_key:
        found.settle_keys()
    found.settle_contents()
    copy = np.zeros(rows.num_rows, np.int32)
    if not unique_key:
        # Equal contents of a shipped test split stay, so their keys, which are hashes of it, are numbered.
        stay = np.flatnonzero((found.state == KEPT) & found.is_test)
        copy[stay] = _ranks(found.content[stay], found.first[stay])
    if refused is not None:
        found.refuse(refused)
    found.settle_near_copies(pairs, compare)
    twin, similarity = found.originals()
    row, listed = rows.column(ROW).combine_chunks(), found.rows_to_list()
    twin, similarity = twin[listed], similarity[listed]
    arrays = [
        row.take(pa.array(listed)),
        pa.array(found.column[SET][listed]),
        *(pa.array(column[listed], pa.string()) for column in (found.state, found.reason)),
        pa.array(copy[listed]),
        *(pa.array(column[listed], pa.string()) for column in (found.conflicts, found.merged)),
        row.take(pa.array(twin, mask=twin < 0)),
        pa.array(similarity, mask=twin < 0),
        *(final.take(pa.array(listed)) for final in found.finals),
    ]
    schema = decisions_schema(plan.label_types)
    return pa.Table.from_arrays(arrays, names=schema.names).cast(schema)


class _Decisions:
    """What is decided of rows: first by key, then by content, then by near copies."""

    def __init__(self, rows: pa.Table, plan: Preparation) -> None:
        self.column = {name: _int(rows, name) for name in (HASH, ORDER, *CONTENT, *IDENTITY, SET, SHIPPED)}
        shipped = self.column[SHIPPED]
        self.is_test = shipped == TEST
        self.content = _codes(self.column[CONTENT[0]], self.column[CONTENT[1]])
        self.plan = plan
        self.finals = [
            rows.column(label_column(place)).combine_chunks() for place in range(len(plan.options.labels))
        ]
        self.labels = [_label_codes(column) for column in self.finals]
        self.order = np.lexsort((self.column[HASH], self.column[ORDER], shipped != VALIDATION))
        """Rows in the order in which they come first."""
        self.first = np.empty(rows.num_rows, np.int64)
        """Position of each row in it."""
        self.first[self.order] = np.arange(rows.num_rows)
        self.state = np.full(rows.num_rows, KEPT, object)
        self.reason, self.conflicts, self.merged = np.full((3, rows.num_rows), None, object)
        self.stands = np.arange(rows.num_rows)
        """Which row stands for each: itself, or another one, for which a third one may stand."""
        self.similarity = np.ones(rows.num_rows)

    def settle_keys(self) -> None:
        """Settle rows with one key."""
        key = _codes(*(self.column[name] for name in IDENTITY))
        same = _codes(self.content, self.column[SHIPPED], *self.labels)
        differs = _largest(key, same) != _smallest(key, same)
        self.state[differs] = QUARANTINED
        self.reason[differs] = KEY_NOT_UNIQUE
        first = _smallest(key, self.first)
        later = ~differs & (self.first > first)
        self.state[later] = DUPLICATE
        self.stands[later] = self.order[first[later]]

    def settle_contents(self) -> None:
        """Settle rows with one content."""
        left = np.flatnonzero(self.state == KEPT)
        content, is_test, first = self.content[left], self.is_test[left], self.first[left]
        side = _dense(content * 2 + is_test)
        known = is_test.copy()
        for index in range(len(self.labels)):
            self._settle_label(index, left, side)
            known |= np.asarray(self.finals[index].is_valid())[left]
        leaks = ~is_test & (_largest(content, is_test.astype(np.int64)) == 1)
        quarantined = ~leaks & ~known
        earliest = _smallest(side, first)
        later = ~is_test & ~leaks & known & (first > earliest)
        for where, name in ((leaks, LEAK), (quarantined, QUARANTINED), (later, DUPLICATE)):
            self.state[left[where]] = name
        self.reason[left[quarantined]] = CONFLICT
        self.stands[left[later]] = self.order[earliest[later]]
        shipped = _smallest(content, np.where(is_test, first, len(self.order)))
        self.stands[left[leaks]] = self.order[shipped[leaks]]

    def _settle_label(self, index: int, left: Ints, side: Ints) -> None:
        """Complete a label of rows by those of their copies; a test row keeps its own."""
        import pyarrow as pa

        known, outside = self.labels[index][left], ~self.is_test[left]
        giver = np.full(len(left), -1)
        np.maximum.at(giver, side, np.where(known >= 0, np.arange(len(left)), -1))
        lacks = outside & (known < 0) & (giver[side] >= 0)
        source = np.arange(len(self.content))
        source[left[lacks]] = left[giver[side][lacks]]
        largest = _largest(side, known)
        smallest = _smallest(side, np.where(known < 0, np.iinfo(np.int64).max, known))
        disagree = np.flatnonzero(outside & (largest >= 0) & (largest != smallest))
        values = []
        for places in _groups(side[disagree], self.first[left[disagree]]):
            rows = left[disagree[places]]
            values += [self._agreed(index, rows)] * len(rows)
            source[rows] = len(self.content) + len(values) - 1
        label = self.finals[index]
        self.finals[index] = pa.concat_arrays([label, pa.array(values, label.type)]).take(pa.array(source))

    def _agreed(self, index: int, rows: Ints) -> Any:
        """Return the label of copies that disagree on it, None for unknown; and note that."""
        name = self.plan.options.labels[index]
        values = [value for value in self.finals[index].take(rows).to_pylist() if value is not None]
        median = None
        if self.plan.kinds[index] == "number" and _is_near(values, self.plan.options.number_tolerance):
            median = float(statistics.median(map(Fraction, values)))  # exact: no sum is too large
        else:
            note = f"{name} is {_listed(values)}"
            for row in rows:
                self.conflicts[row] = (
                    note if self.conflicts[row] is None else f"{self.conflicts[row]}; {note}"
                )
        done = [*json.loads(self.merged[rows[0]] or "[]"), (UNKNOWN if median is None else MEDIAN) + name]
        self.merged[rows] = json.dumps(done)
        return median

    def refuse(self, contents: Ints) -> None:
        """Quarantine rows of classes that have no train rows."""
        which = (self.state == KEPT) & np.isin(self.column[CONTENT[0]], contents)
        self.state[which] = QUARANTINED
        self.reason[which] = NO_TRAIN_ROWS

    def settle_near_copies(self, pairs: NearPairs, compare: Compare | None) -> None:
        """Settle rows whose texts are nearly the same: test rows come first, and stay."""
        left = np.flatnonzero(self.state == KEPT)
        left = left[np.lexsort((self.first[left], ~self.is_test[left]))]
        texts, places = np.unique(self.column[CONTENT[0]][left], return_index=True)
        pairs = pairs.renamed(texts, places)
        if not len(pairs):
            return
        content = self.column[CONTENT[0]][left]
        tests = int(self.is_test[left].sum())
        twin, similarity = twins(
            pairs,
            count=len(left),
            fixed=tests,
            compare=None if compare is None else lambda one, other: compare(content[one], content[other]),
        )
        dropped = np.flatnonzero(twin >= 0)
        self.state[left[dropped]] = np.where(twin[dropped] < tests, NEAR_LEAK, NEAR_DUPLICATE)
        self.stands[left[dropped]] = left[twin[dropped]]
        self.similarity[left[dropped]] = similarity[dropped]

    def originals(self) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Return the kept row that stands for each dropped one, -1 for others, and their similarity.

        Copies of a quarantined row are quarantined with it.
        """
        target, similarity = self.stands, self.similarity
        while not np.array_equal(further := self.stands[target], target):
            similarity = np.minimum(similarity, self.similarity[target])
            target = further
        dropped = (self.state != KEPT) & (self.state != QUARANTINED)
        refused = np.flatnonzero(dropped & (self.state[target] == QUARANTINED))
        for column in (self.state, self.reason, self.conflicts):
            column[refused] = column[target[refused]]
        dropped[refused] = False
        return np.where(dropped, target, -1), similarity

    def rows_to_list(self) -> Ints:
        """Return the places of rows that are not kept, or stand in a set with others."""
        sets = self.column[SET]
        alone = _largest(sets, self.first) == _smallest(sets, self.first)
        return np.flatnonzero(~alone | (self.state != KEPT))


def _is_near(values: Sequence[float], tolerance: float | None) -> bool:
    """Return whether numbers differ by no more than a tolerance, rounding errors aside."""
    spread = max(values) - min(values)
    return tolerance is None or spread <= tolerance or math.isclose(spread, tolerance, rel_tol=1e-9)


def _listed(values: Sequence[Any]) -> str:
    """Return different values in words."""
    shown = sorted({shorten(value, limit=40) for value in values})
    more = len(shown) - _VALUES_SHOWN
    return " and ".join(shown[:_VALUES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _groups(groups: Ints, values: Ints) -> Iterator[Ints]:
    """Yield the places of each group, by value."""
    order = np.lexsort((values, groups))
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    if len(order):
        yield from np.split(order, edges)


def _int(rows: pa.Table, name: str) -> Ints:
    import pyarrow.compute as pc

    values = rows.column(name)
    return np.asarray(pc.fill_null(values, -1).to_numpy(), np.int64)


def _label_codes(column: pa.Array) -> Ints:
    """Return a number for each label, -1 where there is none."""
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        column = pa.array([None if v is None else json.dumps(v) for v in column.to_pylist()], pa.string())
    encoded = column.dictionary_encode()
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
