"""What a row is by itself: its labels, its content, its split, its reason, its hashes."""

from __future__ import annotations

import datetime
import hashlib
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.datasets.options import BuildOptions
from modelmill.datasets.preparation import prepare
from modelmill.datasets.prepared_columns import (
    BUCKETS,
    CARVED,
    GROUP,
    HASH,
    KEY,
    ORDER,
    REASON,
    ROW,
    SHIPPED,
    Preparation,
)
from modelmill.tables.row_hash import row_strings, sha256_rows

NAN, INF = float("nan"), float("inf")
DAY = datetime.date(2026, 2, 28)


def prepared(columns: dict[str, Any], **config: Any) -> dict[str, list[Any]]:
    """Prepare columns; a text and a label are added where there are none."""
    columns = {
        name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()
    }
    count = len(next(iter(columns.values())))
    config = {"text": "text", "labels": ["topic"], "near_duplicates": None, **config}
    columns.setdefault("text", pa.array([f"text {n}" for n in range(count)]))
    columns.setdefault("topic", pa.array(["x"] * count))
    batch = pa.record_batch(columns)
    plan = Preparation(BuildOptions.model_validate(config), batch.schema)
    found = prepare(batch, plan)
    assert found.schema.names == [*batch.schema.names, *plan.added.names]
    assert found.select(plan.added.names).schema == plan.added
    return found.to_pydict()


def label(values: Any, kind: str | None = None, *, add: bool = True) -> tuple[list[Any], list[Any]]:
    """Return the labels that a column gives, and the reasons, beside another label that is always there."""
    config: dict[str, Any] = {"labels": ["topic", "it"] if add else ["it"]}
    if kind is not None:
        config["label_kinds"] = {"it": kind}
    found = prepared({"it": values}, **config)
    return found["_mm_label_1" if add else "_mm_label_0"], found[REASON]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array(["a", " ", "", None, " b ", "c\u3000d\u00a0"]), ["a", None, None, None, "b", "c\u3000d"]),
        (pa.array([1, -2, None]), ["1", "-2", None]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([DAY, None]), ["2026-02-28", None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    ],
)
def test_a_class_is_a_text(values: pa.Array, labels: list[Any]) -> None:
    found, reasons = label(values)
    assert found == labels
    assert set(reasons) == {None}
    alone = label(values, add=False)[1]
    assert alone == [None if name is not None else "no label" for name in labels]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([["b", "a", "b"], [], None, [None, "", "c"]], [["a", "b"], [], None, ["c"]]),
        ([[2, 1, 10], [None]], [["1", "10", "2"], []]),
        ([[True, False]], [["false", "true"]]),
        ([[1.0, 0.5]], [["0.5", "1"]]),
        ([["a", " ", "\u3000", " a", "b c "]], [["a", "b c"]]),
        ([[DAY]], [["2026-02-28"]]),
    ],
)
def test_classes_are_a_sorted_set_of_texts_spelt_as_a_class_is(values: Any, labels: list[Any]) -> None:
    assert label(pa.array(values)) == (labels, [None] * len(labels))
    assert label(pa.array(values, pa.large_list(pa.array(values[0]).type))) == (labels, [None] * len(labels))
    assert label(pa.array(values).slice(0, 1))[0] == labels[:1]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array([1.5, -0.0, None, 1e300]), [1.5, 0.0, None, 1e300]),
        (pa.array([Decimal("1.50"), None, Decimal("-0.01")]), [1.5, None, -0.01]),
        (pa.array([1.5, None], pa.float32()), [1.5, None]),
    ],
)
def test_floats_and_decimals_are_numbers_by_themselves(values: pa.Array, labels: list[Any]) -> None:
    assert label(values) == (labels, [None] * len(labels))


def test_what_is_no_finite_number_is_refused() -> None:
    texts = ["1", " -2.5e3 ", "+7", ".5", "", None, "one", "NaN", "inf", "1e999", "1,5", "0x10", "1_0", "٣"]
    numbers = [1.0, -2500.0, 7.0, 0.5, None, None, *[None] * 8]
    bad = "label it is not a finite number"
    assert label(pa.array(texts), "number") == (numbers, [None] * 6 + [bad] * 8)
    assert label(pa.array([NAN, INF, -INF, 1.0])) == ([None, None, None, 1.0], [bad, bad, bad, None])
    assert label(pa.array([3, None]), "number") == ([3.0, None], [None, None])
    big = 2**60 + 1
    assert label(pa.array([big]), "number") == ([float(big)], [None])


def test_a_row_needs_one_label_of_several() -> None:
    found = prepared(
        {"topic": ["x", None, None], "stars": [None, 1.0, None], "tags": [None, None, []]},
        labels=["topic", "stars", "tags"],
    )
    assert found[REASON] == [None, None, None]
    found = prepared(
        {"topic": ["x", None], "stars": [None, None]},
        labels=["topic", "stars"],
        label_kinds={"stars": "number"},
    )
    assert found[REASON] == [None, "no label"]


DOT = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
"""A picture of one pixel."""


@pytest.mark.parametrize(
    ("images", "reasons"),
    [
        (pa.array([DOT, b"", None]), [None, "image is empty", "image is empty"]),
        (pa.array([DOT, b"\x00", DOT[:30]]), [None, *["image cannot be decoded"] * 2]),
        (pa.array(["a.png", " ", None]), [None, "image is empty", "image is empty"]),
        (pa.array([DOT, b"", None], pa.large_binary()), [None, "image is empty", "image is empty"]),
    ],
)
def test_an_example_may_be_an_image(images: pa.Array, reasons: list[Any]) -> None:
    found = prepared({"picture": images}, text=None, image="picture", near_duplicates=0.6)
    assert found[REASON] == reasons
    assert found[BUCKETS] == [b"", b"", b""]
    first = images[0].as_py()
    content = first if isinstance(first, bytes) else first.encode()
    assert found[KEY][0] == hashlib.sha256(content).hexdigest()


def test_text_and_image_are_one_example_of_which_one_may_be_missing() -> None:
    found = prepared(
        {"text": ["a", "a", "", None, "ab", "a"], "picture": [b"b", b"c", b"b", None, b"", b"b"]},
        image="picture",
    )
    assert found[REASON] == [None, None, None, "text and image are empty", None, None]
    keys = found[KEY]
    assert keys[0] == keys[5]
    assert len(set(keys[:5])) == 5, "what stands in the text is not what stands in the image"


def test_the_first_reason_of_several_is_given() -> None:
    found = prepared(
        {
            "text": [" "] * 2 + ["a"] * 5,
            "topic": [None] * 5 + ["x"] * 2,
            "id": ["k", None, None, "k", "k", "k", "k"],
            "part": ["train", "x", "x", None, "train", "holdout", "Test "],
            "age": [200] * 7,
        },
        key="id",
        split={"column": "part"},
        contract={"age": {"max": 100}},
    )
    assert found[REASON] == [
        "text is empty",
        "text is empty",
        "key is null",
        "no label",
        "no label",
        "split is unknown",
        "age: at most 100",
    ]


def test_names_of_splits() -> None:
    names = ["train", "Training", " TEST\u3000", "dev", "val", "valid", "validation", "", None, "tests"]
    found = prepared({"part": names}, split={"column": "part"})
    assert found[SHIPPED] == [0, 0, 2, 1, 1, 1, 1, None, None, None]
    assert found[REASON] == [None] * 7 + ["split is null"] * 2 + ["split is unknown"]


def test_copies_are_ordered_by_the_number_at_the_end_of_the_key() -> None:
    keys = ["r7", "r-12", "7r", "", "x٣", "r" + "9" * 18, "r" + "1" * 19, "a0\n", "0"]
    last = np.iinfo(np.int64).max
    found = prepared({"id": keys}, key="id")[ORDER]
    assert found == [7, 12, last, last, last, 10**18 - 1, int("1" * 18), last, 0]
    assert prepared({"id": pa.array([5, -3, None])}, key="id")[ORDER] == [5, 3, last]


def test_a_share_depends_on_the_group_alone() -> None:
    teams = [f"t{n % 700}" for n in range(7000)]
    found = prepared(
        {"team": teams, "text": [f"text {n}" for n in range(7000)]},
        split={"group": "team", "validation": 0.1, "test": 0.2},
    )
    by_team: dict[str, set[int]] = {}
    for team, split in zip(teams, found[CARVED], strict=True):
        by_team.setdefault(team, set()).add(split)
    assert all(len(splits) == 1 for splits in by_team.values())
    shares = np.bincount([min(splits) for splits in by_team.values()], minlength=3) / 700
    assert shares == pytest.approx([0.72, 0.08, 0.2], abs=0.05)
    assert len(set(found[GROUP])) == 700


ROWS: dict[str, list[Any]] = {
    "text": ["one", "", None, "東京"],
    "topic": ["x", "y", None, "z"],
    "when": [datetime.datetime(2026, 2, 28, 23, 59, 59, 7, tzinfo=datetime.UTC), None, None, None],
    "blob": [b"", b"\xff", None, b"a"],
    "tags": [["b", "a"], [], None, [None]],
    "about": [{"n": 1, "t": "a"}, None, {"n": None, "t": None}, {"n": 2, "t": ""}],
    "small": [1, None, -1, 127],
}
PLAIN: dict[str, pa.DataType] = {
    "text": pa.string(),
    "topic": pa.string(),
    "when": pa.timestamp("us", "UTC"),
    "blob": pa.binary(),
    "tags": pa.list_(pa.string()),
    "about": pa.struct([("n", pa.int64()), ("t", pa.string())]),
    "small": pa.int64(),
}
VARIANTS: list[dict[str, pa.DataType]] = [
    {"text": pa.large_string(), "topic": pa.large_string(), "blob": pa.large_binary()},
    {"text": pa.string_view(), "topic": pa.string_view(), "blob": pa.binary_view()},
    {"topic": pa.dictionary(pa.int32(), pa.string())},
    {"when": pa.timestamp("us", "America/New_York")},
    {"when": pa.timestamp("us", "+05:30")},
    {"when": pa.timestamp("ns", "UTC")},
    {"tags": pa.large_list(pa.string()), "small": pa.int8()},
    {"tags": pa.list_(pa.large_string()), "about": pa.struct([("n", pa.int64()), ("t", pa.large_string())])},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_row_is_the_same_whatever_arrow_types_an_engine_hands_over(variant: dict[str, pa.DataType]) -> None:
    plan = Preparation(
        BuildOptions.model_validate(
            {"text": "text", "labels": ["topic", "tags"], "keep": ["when", "blob", "about"]}
        ),
        pa.schema(PLAIN),
    )
    plain = pa.record_batch({name: pa.array(values, PLAIN[name]) for name, values in ROWS.items()})
    other = pa.record_batch(
        {
            name: pa.array(values, PLAIN[name]).cast(variant.get(name, PLAIN[name]))
            for name, values in ROWS.items()
        }
    )
    names = [name for name in plan.added.names if name != ROW]
    expected = prepare(plain, plan).select(names)
    assert prepare(other, plan).select(names) == expected
    parts = [prepare(other.slice(place, 1), plan).select(names) for place in range(4)]
    assert pa.Table.from_batches(parts) == pa.Table.from_batches([expected])
    assert len(set(expected[HASH].to_pylist())) == 4


def test_row_ids_differ_and_hashes_do_not() -> None:
    columns = {"text": ["same"] * 40_000}
    one, other = prepared(columns), prepared(columns)
    assert len({*one[ROW], *other[ROW]}) == 80_000
    assert set(one[HASH]) == set(other[HASH])
    assert len(set(one[HASH])) == 1


VALUES = st.none() | st.text(st.sampled_from("ab0123\x00\x1f"), max_size=4)


@settings(max_examples=300)
@given(st.lists(st.tuples(VALUES, VALUES, st.none() | st.binary(max_size=2)), min_size=2, max_size=12))
def test_only_equal_rows_have_equal_strings(rows: list[tuple[Any, Any, Any]]) -> None:
    first, second, third = zip(*rows, strict=True)
    strings = row_strings(
        [pa.array(first, pa.string()), pa.array(second, pa.string()), pa.array(third, pa.binary())]
    )
    assert strings.null_count == 0
    assert len(set(strings.to_pylist())) == len(set(rows))


@given(st.lists(st.none() | st.binary(max_size=5), max_size=8), st.integers(0, 3))
def test_sha256_of_rows(values: list[bytes | None], start: int) -> None:
    column = pa.array(values, pa.binary()).slice(start)
    expected = [hashlib.sha256(b"p" + (value or b"")).digest() for value in values[start:]]
    assert [row.tobytes() for row in sha256_rows(column, prefix=b"p")] == expected
