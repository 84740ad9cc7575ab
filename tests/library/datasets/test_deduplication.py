"""Fates depend on a row's closed set alone: not on order, not on what else is in the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.datasets.connected_components import connected
from modelmill.datasets.deduplication import CLUSTER, REASON, SET, STATE, decide, decisions_schema
from modelmill.datasets.prepared_columns import (
    CONTENT,
    HASH,
    IDENTITY,
    ORDER,
    ROW,
    SHIPPED,
    TEST,
    TRAIN,
    VALIDATION,
)

LABELS = ("_mm_label_0", "_mm_label_1")
SCHEMA = pa.schema(
    [(name, pa.int64()) for name in (ROW, HASH, ORDER, *CONTENT, *IDENTITY)]
    + [(SHIPPED, pa.int8()), (CLUSTER, pa.int64()), (SET, pa.int64())]
    + [(LABELS[0], pa.string()), (LABELS[1], pa.list_(pa.string()))]
)
Row = dict[str, Any]


def row(
    key: int,
    content: int,
    *,
    split: int | None = None,
    topic: str | None = "x",
    tags: Any = None,
    near: int = 0,
) -> Row:
    """A row of which the content says, up to ``near``, what it is nearly the same as."""
    found = {ORDER: key, CONTENT[0]: content, CONTENT[1]: -content, IDENTITY[0]: key, IDENTITY[1]: ~key}
    found |= {SHIPPED: split, CLUSTER: content - near, LABELS[0]: topic, LABELS[1]: tags}
    return found | {HASH: hash((key, content, split, topic, str(tags))) >> 8}


def settle(rows: list[Row], *, unique_key: bool = True) -> dict[int, tuple[Any, ...]]:
    """Decide on rows with their closed sets; return by place: state, reason, copy, labels."""
    rows = [dict(one) for one in rows]
    cluster, key = (np.array([one[name] for one in rows], np.int64) for name in (CLUSTER, IDENTITY[0]))
    # Nodes of the graph: clusters, and keys behind them.
    nodes, sets = connected(cluster, key + 10**6) if unique_key else (cluster, cluster)
    names = dict(zip(nodes.tolist(), sets.tolist(), strict=True))
    for place, one in enumerate(rows):
        one |= {ROW: place, SET: names[one[CLUSTER]]}
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    decided = decide(table, LABELS, unique_key=unique_key)
    assert decided.schema == decisions_schema([pa.string(), pa.list_(pa.string())])
    found: dict[int, tuple[Any, ...]] = {
        place: ("kept", None, 0, one[LABELS[0]], one[LABELS[1]]) for place, one in enumerate(rows)
    }
    for one in decided.to_pylist():
        # Nobody reads the labels of a row that is not kept.
        labels = (one["_mm_final_0"], one["_mm_final_1"]) if one[STATE] == "kept" else (None, None)
        found[one[ROW]] = (one[STATE], one[REASON], one["_mm_copy"], *labels)
    return found


def states(rows: list[Row], **more: Any) -> list[str]:
    return [fate[1] or fate[0] for _, fate in sorted(settle(rows, **more).items())]


ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 6),
        st.integers(10, 16),
        split=st.sampled_from([None, TRAIN, TRAIN, VALIDATION, TEST]),
        topic=st.sampled_from(["x", "x", "y", None]),
        tags=st.sampled_from([None, [], ["a"], ["a", "b"]]),
        near=st.just(0),
    ).map(lambda one: {**one, CLUSTER: one[CONTENT[0]] // 2 * 2}),
    min_size=1,
    max_size=14,
)


def by_row(rows: list[Row], fates: dict[int, tuple[Any, ...]]) -> list[str]:
    """What became of rows, as a multiset: copies of a whole row stand for each other."""
    return sorted(repr((sorted(rows[place].items(), key=str), fate)) for place, fate in fates.items())


@settings(max_examples=200)
@given(st.data(), ROWS, st.booleans())
def test_the_order_of_rows_does_not_matter(data: st.DataObject, rows: list[Row], unique_key: bool) -> None:
    if not unique_key:  # the key is a hash of the content then
        rows = [{**one, IDENTITY[0]: one[CONTENT[0]], IDENTITY[1]: one[CONTENT[1]]} for one in rows]
    other = data.draw(st.permutations(rows))
    fates = settle(rows, unique_key=unique_key)
    assert by_row(rows, fates) == by_row(other, settle(other, unique_key=unique_key))


def moved(one: Row) -> Row:
    """The same row with other contents and another key, so that it shares nothing with those it was like."""
    more = {name: one[name] + 500 for name in (CONTENT[0], CONTENT[1], CLUSTER, IDENTITY[0], IDENTITY[1])}
    return {**one, **more}


@settings(max_examples=200)
@given(ROWS, ROWS, st.booleans())
def test_closed_sets_are_decided_on_alike_together_and_alone(
    one: list[Row], other: list[Row], mixed: bool
) -> None:
    other = [moved(row) for row in other]
    both = [*one, *other] if mixed else [*other, *one]
    alone = by_row(one, settle(one)) + by_row(other, settle(other))
    assert by_row(both, settle(both)) == sorted(alone)


@settings(max_examples=200)
@given(ROWS, st.booleans())
def test_what_always_holds(rows: list[Row], unique_key: bool) -> None:
    if not unique_key:
        rows = [{**one, IDENTITY[0]: one[CONTENT[0]], IDENTITY[1]: one[CONTENT[1]]} for one in rows]
    fates = settle(rows, unique_key=unique_key)
    kept = [rows[place] | {"copy": fate[2]} for place, fate in fates.items() if fate[0] == "kept"]
    others = [one for one in kept if one[SHIPPED] != TEST]
    tests = [one for one in kept if one[SHIPPED] == TEST]
    assert len({one[CLUSTER] for one in others}) == len(others), "one row of a cluster outside the test split"
    assert not {one[CLUSTER] for one in others} & {one[CLUSTER] for one in tests}, (
        "none beside the test split"
    )
    keys = [(one[IDENTITY[0]], one["copy"]) for one in kept]
    assert len(set(keys)) == len(keys)
    if not unique_key:
        assert len(tests) == sum(one[SHIPPED] == TEST for one in rows), "a shipped test split stays whole"
    assert {fate[0] for fate in fates.values()} & {"kept", "quarantined"}, "a duplicate has an original"
    for place, fate in fates.items():
        if rows[place][LABELS[0]] is not None and fate[0] == "kept":
            assert fate[3] == rows[place][LABELS[0]], "a label is completed, never changed"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(1, 10), row(2, 20)], ["kept", "kept"]),
        ([row(1, 10), row(1, 10)], ["kept", "duplicate"]),
        ([row(1, 10), row(1, 20)], ["key is not unique"] * 2),
        ([row(1, 10), row(1, 10, topic="y"), row(2, 10)], ["key is not unique"] * 2 + ["kept"]),
        ([row(2, 10), row(1, 10)], ["duplicate", "kept"]),
        ([row(1, 10), row(2, 10, topic="y"), row(3, 10)], ["conflicting labels"] * 3),
        ([row(1, 10), row(2, 11, topic="y", near=1)], ["kept", "near-duplicate"]),
        ([row(1, 10, split=TRAIN), row(2, 10, split=VALIDATION)], ["duplicate", "kept"]),
        ([row(1, 10, split=TRAIN), row(2, 10, split=TEST)], ["leak", "kept"]),
        ([row(1, 10, split=VALIDATION), row(2, 11, split=TEST, near=1)], ["near-leak", "kept"]),
        ([row(1, 10, split=TEST), row(2, 10, split=TEST, topic="y")], ["kept", "kept"]),
        ([row(1, 10), row(2, 10, topic="y"), row(3, 11, near=1)], ["conflicting labels"] * 2 + ["kept"]),
        ([row(1, 10, tags=["a"]), row(2, 10, tags=["b"])], ["conflicting labels"] * 2),
        ([row(1, 10, tags=["a"]), row(2, 10, tags=["a"])], ["kept", "duplicate"]),
    ],
)
def test_fates(rows: list[Row], expected: list[str]) -> None:
    assert states(rows) == expected


def test_labels_complete_each_other_outside_the_test_split() -> None:
    rows = [row(1, 10, topic=None, tags=["a"]), row(2, 10, topic="y"), row(3, 10, topic="y", tags=["a"])]
    assert settle(rows)[0] == ("kept", None, 0, "y", ["a"])
    tests = [row(1, 10, topic=None, split=TEST), row(2, 10, topic="y", split=TEST)]
    assert settle(tests)[0] == ("kept", None, 0, None, None)


def test_copies_in_a_shipped_test_split_are_numbered_where_the_key_is_the_content() -> None:
    rows = [row(7, 10, split=TEST, topic=topic) for topic in "xyz"]
    rows = [{**one, ORDER: order} for one, order in zip(rows, (3, 1, 2), strict=True)]
    assert [fate[2] for fate in settle(rows, unique_key=False).values()] == [2, 0, 1]
