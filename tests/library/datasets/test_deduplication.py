"""Fates depend on a row's closed set alone: not on order, not on what else is in the table."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.datasets.connected_components import connected
from modelmill.datasets.deduplication import (
    CLUSTER,
    CONFLICTS,
    MERGED,
    REASON,
    SET,
    SIMILARITY,
    STATE,
    TWIN,
    decide,
    decisions_schema,
)
from modelmill.datasets.near_copies import NearPairs, twins
from modelmill.datasets.options import BuildOptions
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
    Preparation,
)

LABELS = ("_mm_label_0", "_mm_label_1", "_mm_label_2")
SOURCE = pa.schema(
    [(name, pa.string()) for name in ("id", "text", "topic")]
    + [("tags", pa.list_(pa.string())), ("score", pa.float64())]
)
SCHEMA = pa.schema(
    [(name, pa.int64()) for name in (ROW, HASH, ORDER, *CONTENT, *IDENTITY)]
    + [(SHIPPED, pa.int8()), (CLUSTER, pa.int64()), (SET, pa.int64())]
    + [(LABELS[0], pa.string()), (LABELS[1], pa.list_(pa.string())), (LABELS[2], pa.float64())]
)
Row = dict[str, Any]


def row(
    key: int,
    content: int,
    *,
    split: int | None = None,
    topic: str | None = "x",
    tags: Any = None,
    score: float | None = None,
    near: int = 0,
) -> Row:
    """A row of which the content says, up to ``near``, what it is nearly the same as."""
    found = {ORDER: key, CONTENT[0]: content, CONTENT[1]: -content, IDENTITY[0]: key, IDENTITY[1]: ~key}
    found |= {SHIPPED: split, CLUSTER: content - near, LABELS[0]: topic, LABELS[1]: tags}
    return found | {LABELS[2]: score, HASH: hash((key, content, split, topic, str(tags), score)) >> 8}


def near_pairs(rows: list[Row]) -> NearPairs:
    """All pairs of contents of one cluster."""
    contents = sorted({(one[CLUSTER], one[CONTENT[0]]) for one in rows})
    pairs = [
        (one, other, 0.6 + 0.01 * (other - one))
        for (cluster, one), (again, other) in itertools.combinations(contents, 2)
        if cluster == again
    ]
    first, second, similarity = np.array(pairs, float).reshape(-1, 3).T
    return NearPairs(
        first.astype(np.int64), second.astype(np.int64), similarity, np.zeros(len(pairs), bool), 0.55
    )


def decided(rows: list[Row], *, unique_key: bool = True, **options: Any) -> list[dict[str, Any]]:
    """Decide on rows with their closed sets; return the decisions, by place."""
    rows = [dict(one) for one in rows]
    cluster, key = (np.array([one[name] for one in rows], np.int64) for name in (CLUSTER, IDENTITY[0]))
    # Nodes of the graph: clusters, and keys behind them.
    nodes, sets = connected(cluster, key + 10**6) if unique_key else (cluster, cluster)
    names = dict(zip(nodes.tolist(), sets.tolist(), strict=True))
    for place, one in enumerate(rows):
        one |= {ROW: place, SET: names[one[CLUSTER]]}
    made = BuildOptions(
        text="text", labels=("topic", "tags", "score"), key="id" if unique_key else None, **options
    )
    plan = Preparation(made, SOURCE)
    found = decide(pa.Table.from_pylist(rows, schema=SCHEMA), plan, near_pairs(rows))
    assert found.schema == decisions_schema(plan.label_types)
    return sorted(found.to_pylist(), key=lambda one: one[ROW])


def settle(rows: list[Row], *, unique_key: bool = True) -> dict[int, tuple[Any, ...]]:
    """Decide on rows; return by place: state, reason, copy, labels."""
    found: dict[int, tuple[Any, ...]] = {
        place: ("kept", None, 0, *(one[name] for name in LABELS)) for place, one in enumerate(rows)
    }
    for one in decided(rows, unique_key=unique_key):
        # Nobody reads the labels of a row that is not kept.
        labels = [one[f"_mm_final_{place}"] for place in range(3)] if one[STATE] == "kept" else [None] * 3
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
    for one in decided(rows, unique_key=unique_key):
        dropped = one[STATE] not in ("kept", "quarantined")
        assert dropped == (one[TWIN] is not None) == (one[SIMILARITY] is not None)
        if dropped:
            assert fates[one[TWIN]][0] == "kept", "only a kept row stands for others"
            same = rows[one[ROW]][CONTENT[0]] == rows[one[TWIN]][CONTENT[0]]
            assert one[SIMILARITY] == 1 if same else 0.55 <= one[SIMILARITY] < 1
            assert rows[one[ROW]][CLUSTER] == rows[one[TWIN]][CLUSTER]
    keys = [(one[IDENTITY[0]], one["copy"]) for one in kept]
    assert len(set(keys)) == len(keys)
    if not unique_key:
        assert len(tests) == sum(one[SHIPPED] == TEST for one in rows), "a shipped test split stays whole"
    assert {fate[0] for fate in fates.values()} & {"kept", "quarantined"}, "a duplicate has an original"
    for place, fate in fates.items():
        if rows[place][LABELS[0]] is not None and fate[0] == "kept":
            assert fate[3] in (rows[place][LABELS[0]], None), "a label is completed, never changed"


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
        ([row(1, 10, tags=["a"]), row(2, 10, tags=["b"])], ["kept", "duplicate"]),
        (
            [row(1, 10, topic=None, tags=["a"]), row(2, 10, topic=None, tags=["b"])],
            ["conflicting labels"] * 2,
        ),
        ([row(1, 10), row(1, 10), row(2, 10, topic="y")], ["conflicting labels"] * 3),
        ([row(1, 11, near=1), row(2, 10), row(2, 10)], ["kept", "near-duplicate", "duplicate"]),
        ([row(1, 10, tags=["a"]), row(2, 10, tags=["a"])], ["kept", "duplicate"]),
    ],
)
def test_fates(rows: list[Row], expected: list[str]) -> None:
    assert states(rows) == expected


def test_labels_complete_each_other_outside_the_test_split() -> None:
    rows = [row(1, 10, topic=None, tags=["a"]), row(2, 10, topic="y"), row(3, 10, topic="y", tags=["a"])]
    assert settle(rows)[0] == ("kept", None, 0, "y", ["a"], None)
    tests = [row(1, 10, topic=None, split=TEST), row(2, 10, topic="y", split=TEST)]
    assert settle(tests)[0] == ("kept", None, 0, None, None, None)


def test_copies_in_a_shipped_test_split_are_numbered_where_the_key_is_the_content() -> None:
    rows = [row(7, 10, split=TEST, topic=topic) for topic in "xyz"]
    rows = [{**one, ORDER: order} for one, order in zip(rows, (3, 1, 2), strict=True)]
    assert [fate[2] for fate in settle(rows, unique_key=False).values()] == [2, 0, 1]


def test_a_conflict_in_one_label_leaves_the_others() -> None:
    rows = [row(1, 10, tags=["a"]), row(2, 10, topic="y"), row(3, 10, tags=["a"])]
    assert settle(rows)[0] == ("kept", None, 0, None, ["a"], None)
    for one in decided(rows):
        assert one[CONFLICTS] == "topic is 'x' and 'y'"
        assert one[MERGED] == '["unknown:topic"]'


def test_a_conflict_names_every_label_and_its_values() -> None:
    rows = [row(n, 10, topic=topic, tags=[topic]) for n, topic in enumerate("xyzw")]
    for one in decided(rows):
        assert (one[STATE], one[REASON]) == ("quarantined", "conflicting labels")
        assert one[CONFLICTS] == (
            "topic is 'w' and 'x' and 'y' and 1 more; tags is ['w'] and ['x'] and ['y'] and 1 more"
        )


@pytest.mark.parametrize(
    ("scores", "tolerance", "expected"),
    [
        ([0.35, 0.40], None, 0.375),
        ([0.35, 0.40], 0.05, 0.375),
        ([0.35, 0.40], 0.04, None),
        ([0.35, 35.0, 0.36], None, 0.36),
        ([1e308, 1.5e308], None, 1.25e308),
        ([0.5, None, 0.5], 0, 0.5),
        ([0.0, -0.0], 0, 0.0),
    ],
)
def test_copies_with_different_numbers_get_their_median(
    scores: list[float | None], tolerance: float | None, expected: float | None
) -> None:
    rows = [row(n, 10, topic=None, score=score) for n, score in enumerate(scores)]
    first = decided(rows, number_tolerance=tolerance)[0]
    if expected is None:
        assert (first[STATE], first[REASON]) == ("quarantined", "conflicting labels")
        assert first[CONFLICTS] == "score is 0.35 and 0.4"
    else:
        assert (first[STATE], first["_mm_final_2"]) == ("kept", expected)
        assert first[MERGED] in ('["median:score"]', None)


EDGES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30)


@settings(max_examples=200)
@given(EDGES, st.integers(0, 4))
def test_only_what_a_kept_text_is_nearly_like_is_dropped(edges: list[tuple[int, int]], fixed: int) -> None:
    ends = sorted({(min(edge), max(edge)) for edge in edges if edge[0] != edge[1]})
    first, second = np.array(ends, np.int64).reshape(-1, 2).T
    similarity = 0.6 + 0.01 * np.arange(len(ends))
    pairs = NearPairs(first, second, similarity, np.zeros(len(ends), bool), 0.6)
    twin, alike = twins(pairs, count=12, fixed=fixed, compare=None)
    near = dict(zip(ends, similarity.tolist(), strict=True))
    kept = [text for text in range(12) if twin[text] < 0]
    assert set(range(fixed)) <= set(kept)
    for one, other in itertools.combinations(kept, 2):
        assert (one, other) not in near or other < fixed, "no kept texts are alike"
    for text in set(range(12)) - set(kept):
        assert twin[text] in kept
        found = {
            other: near[min(text, other), max(text, other)]
            for other in kept
            if (min(text, other), max(text, other)) in near
        }
        tests = {other: value for other, value in found.items() if other < fixed}
        assert alike[text] == max((tests or found).values()) == found[twin[text]]


@pytest.mark.parametrize("seed", range(5))
def test_texts_of_a_crowded_bucket_are_compared_as_far_as_needed(seed: int) -> None:
    """Points on a line, near if they are less than 10 apart; only pairs with four of them are known."""
    places = np.random.default_rng(seed).permutation(400) / 10.0
    hubs = np.random.default_rng(seed + 100).permutation(400)[:4]
    ends = [(min(hub, text), max(hub, text)) for hub in hubs.tolist() for text in range(400) if text != hub]
    first, second = np.array(sorted(set(ends)), np.int64).T
    asked = []

    def compare(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        asked.extend(zip(one.tolist(), other.tolist(), strict=True))
        return 1 / (1 + abs(places[one] - places[other]))

    similarity = compare(first, second)
    asked.clear()
    near = similarity >= 1 / 11
    pairs = NearPairs(first[near], second[near], similarity[near], np.ones(int(near.sum()), bool), 1 / 11)
    twin, alike = twins(pairs, count=400, fixed=0, compare=compare)
    assert len(set(asked)) == len(asked) < 400 * 399 / 8
    kept = np.flatnonzero(twin < 0)
    linked = set(first[near].tolist()) | set(second[near].tolist())
    apart = np.diff(np.sort(places[[text for text in kept.tolist() if text in linked]]))
    assert (apart >= 10).all()
    dropped = np.flatnonzero(twin >= 0)
    assert (alike[dropped] == 1 / (1 + abs(places[dropped] - places[twin[dropped]]))).all()
