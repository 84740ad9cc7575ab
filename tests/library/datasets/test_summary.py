"""Summaries add up, can be taken apart again, and do not depend on order, batches or string types."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modelmill.datasets.summary import Summary, summarise

SCHEMA = pa.schema(
    [
        ("example_key", pa.string()),
        ("text", pa.string()),
        ("topic", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("stars", pa.float64()),
        ("split", pa.string()),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "example_key": st.text("ab", max_size=3),
        "text": st.none() | st.text("a東 \x00", max_size=9),
        "topic": st.none() | st.sampled_from("xyz"),
        "tags": st.none() | st.lists(st.sampled_from("abc"), max_size=3),
        "stars": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "split": st.sampled_from(["train", "validation", "test"]),
    }
)
ROWS = st.lists(ROW, max_size=12)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def summed(rows: list[dict[str, Any]] | pa.Table) -> Summary:
    whole = table(rows) if isinstance(rows, list) else rows
    if not whole.num_rows:
        return Summary()
    labels = [("topic", "class"), ("tags", "classes"), ("stars", "number")]
    return summarise(whole, text="text", labels=labels, split="split")


def same(one: Summary, other: Summary) -> bool:
    """Equal but for labels that no row has, whose mapping may be empty or left out."""
    return one + Summary() == other + Summary()


@given(ROWS, ROWS)
def test_parts_add_up_and_can_be_taken_away(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    both = summed(one) + summed(other)
    assert same(both, summed(one + other))
    assert same(both, summed(other) + summed(one))
    assert same(both - summed(other), summed(one))
    assert both - both == Summary()
    assert Summary.model_validate_json(both.model_dump_json()) == both


@given(st.data(), st.lists(ROW, min_size=1, max_size=15))
def test_order_and_batches_do_not_matter(data: st.DataObject, rows: list[dict[str, Any]]) -> None:
    whole = summed(rows)
    shuffled = table(data.draw(st.permutations(rows)))
    assert same(summed(shuffled), whole)
    size = data.draw(st.integers(1, len(rows)))
    parts = [summed(pa.Table.from_batches([batch])) for batch in shuffled.to_batches(max_chunksize=size)]
    assert same(reduce(Summary.__add__, parts), whole)
    pieces = pa.concat_tables([shuffled.slice(0, size), shuffled.slice(size)])
    assert same(summed(pieces), whole)
    columns = data.draw(st.permutations(SCHEMA.names))
    assert same(summed(shuffled.select(columns)), whole)


@given(ROW, ROW)
def test_the_hash_tells_rows_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    def content(row: dict[str, Any]) -> str:
        stars = None if row["stars"] is None else row["stars"].hex()
        return repr(sorted({**row, "stars": stars}.items()))

    assert (summed([one]).hash == summed([other]).hash) == (content(one) == content(other))
    assert summed([one, one]).hash != summed([one]).hash


def test_what_is_counted() -> None:
    rows = [
        {"example_key": "1", "text": "", "topic": "x", "tags": ["a", "b"], "stars": 0.5, "split": "train"},
        {"example_key": "2", "text": "東京", "topic": "x", "tags": [], "stars": 1.5, "split": "train"},
        {"example_key": "3", "text": None, "topic": None, "tags": None, "stars": None, "split": "train"},
        {"example_key": "4", "text": "a" * 1023, "topic": "y", "tags": ["b"], "stars": -2.0, "split": "test"},
        {"example_key": "5", "text": "a" * 1024, "topic": "x", "tags": ["b"], "stars": None, "split": "test"},
    ]
    summary = summed(rows)
    assert summary.rows == 5
    assert summary.splits == {"train": 3, "test": 2}
    assert summary.classes == {
        "topic": {"x": {"train": 2, "test": 1}, "y": {"test": 1}},
        "tags": {"a": {"train": 1}, "b": {"train": 1, "test": 2}},
    }
    assert summary.numbers == {"stars": {"train": (2, 2, Fraction(5, 2)), "test": (1, -2, 4)}}
    assert summary.lengths == {"train": {0: 2, 2: 1}, "test": {512: 1, 1024: 1}}


def test_sums_of_numbers_are_exact() -> None:
    values = [1e16, 1.0, -1e16, 5e-324, 0.1, 1e308, 1e308, -0.0]
    rows = [{"example_key": "k", "stars": value, "split": "train"} for value in values]
    count, total, _ = summed(rows).numbers["stars"]["train"]
    assert (count, total) == (8, sum(map(Fraction, values)))
    few = summed(rows) - summed([row for row in rows if row["stars"] > 1e15])
    assert few.numbers["stars"]["train"][1] == sum(Fraction(value) for value in values if value <= 1e15)
    plain = [{"example_key": "k", "stars": value, "split": "train"} for value in [0.1] * 1000]
    assert float(summed(plain).numbers["stars"]["train"][1]) == math.fsum([0.1] * 1000)


def test_string_types_do_not_matter() -> None:
    rows = table([{"example_key": "k", "text": "a", "topic": "x", "tags": ["a"], "split": "train"}] * 3)
    other = rows
    for name in ("example_key", "text", "topic"):
        place = other.schema.get_field_index(name)
        other = other.set_column(place, name, other.column(name).cast(pa.large_string()))
    assert summed(other) == summed(rows)


def test_the_hash_is_what_it_was_in_every_release() -> None:
    """It identifies a dataset in reports and in MLflow."""
    rows = [
        {"example_key": "1", "text": "one", "topic": "x", "tags": ["a"], "stars": 0.5, "split": "train"},
        {"example_key": "2", "text": None, "topic": None, "tags": None, "stars": None, "split": "test"},
    ]
    assert summed(rows).hash == "ecff2960c2587e3c9b515c5cfadd666ea1fff71d630305f8b2c37605509c9fd0"
