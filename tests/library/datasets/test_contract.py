"""Terms of a contract: what breaks them, with which reason, and which terms do not fit a column."""

from __future__ import annotations

import datetime
import warnings
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from modelmill.datasets.contract import broken_contract, check_types
from modelmill.datasets.options import ColumnContract
from modelmill.errors import TableError

NAN, INF = float("nan"), float("inf")
NULL = "c: null is refused"
NOT_ALLOWED = "c: not among the allowed values"
DAY = datetime.date(2026, 2, 28)
TIME = datetime.datetime(2026, 2, 28, 12, tzinfo=datetime.UTC)


def reasons(values: Any, **terms: Any) -> list[str | None]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    contract = {"c": ColumnContract.model_validate(terms)}
    check_types(pa.schema([("c", column.type)]), contract, place="raw@3")
    found: list[str | None] = broken_contract({"c": column}, contract).to_pylist()
    return found


@pytest.mark.parametrize(
    "values",
    [
        ["", None],
        [0, None],
        [NAN, None],
        [False, None],
        [b"", None],
        [DAY, None],
        [TIME, None],
        [Decimal(0), None],
        [[], None],
        [{"a": None}, None],
        pa.array(["a", None]).dictionary_encode(),
        pa.array([datetime.datetime(2026, 1, 1), None], pa.timestamp("us")),
    ],
    ids=str,
)
def test_null_is_refused_where_it_is_and_nothing_else(values: Any) -> None:
    assert reasons(values, required=True) == [None, NULL]
    assert reasons(values) == [None, None]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0, 1, 5, 6, None], ["at least 0.5", None, None, "at most 5.5", None]),
        ([0.4, 0.5, 5.5, 5.6, None], ["at least 0.5", None, None, "at most 5.5", None]),
        ([NAN, INF, -INF], ["at least 0.5", "at most 5.5", "at least 0.5"]),
        (
            [Decimal("0.49"), Decimal("0.50"), Decimal("5.51"), None],
            ["at least 0.5", None, "at most 5.5", None],
        ),
        ([2**53 + 1, -(2**63), 2**63 - 1], ["at most 5.5", "at least 0.5", "at most 5.5"]),
    ],
)
def test_limits(values: list[Any], found: list[str | None]) -> None:
    assert reasons(values, min=0.5, max=5.5) == [None if term is None else f"c: {term}" for term in found]


def test_limits_are_exact_for_whole_numbers_and_shown_as_they_are() -> None:
    big = 2**53
    assert reasons([big, big + 1, big + 2], max=big) == [None, f"c: at most {big}", f"c: at most {big}"]
    assert reasons([-(2**63), 2**63 - 1], min=-1e30, max=1e30) == [None, None]
    assert reasons([1_234_567, 1_234_568], max=1_234_567) == [None, "c: at most 1234567"]
    assert reasons([0.1, 0.1000001], max=0.1) == [None, "c: at most 0.1"]
    assert reasons(pa.array([1, 127], pa.int8()), max=300, min=2) == ["c: at least 2", None]


@pytest.mark.parametrize(
    ("values", "allowed", "ok"),
    [
        (["a", "A", "", None], ["a", "1"], [1, 0, 0, 1]),
        (["1", "1.0", "true"], [1, True], [1, 0, 1]),
        ([1, 2, 3, None], [1, "2", 3.0], [1, 1, 1, 1]),
        ([1.0, 2.0, 0.1, NAN, None], [1, 2.0, "0.1"], [1, 1, 1, 0, 1]),
        ([Decimal("1.50"), Decimal("2.00"), Decimal("3.01")], [1.5, 2], [1, 1, 0]),
        ([True, False, None], [True], [1, 0, 1]),
        ([DAY, DAY + datetime.timedelta(1)], ["2026-02-28"], [1, 0]),
        ([TIME, TIME + datetime.timedelta(1)], ["2026-02-28T12:00:00Z"], [1, 0]),
        ([b"a", b"\xff"], ["a"], [1, 0]),
    ],
    ids=str,
)
def test_allowed_values_are_compared_as_values_of_the_column(
    values: list[Any], allowed: list[Any], ok: list[int]
) -> None:
    assert reasons(values, allowed=allowed) == [None if fine else NOT_ALLOWED for fine in ok]


def test_patterns_match_somewhere() -> None:
    said = r"c: matches \d+$"
    assert reasons(["abc12", "12", "", None, "1\n", "1x"], pattern=r"\d+$") == [
        None,
        None,
        said,
        None,
        said,
        said,
    ]
    assert reasons(["東京", "Kyōto"], pattern=r"^\p{Han}+$") == [None, r"c: matches ^\p{Han}+$"]


def test_a_pattern_that_hangs_others_takes_no_time() -> None:
    text = "a" * 50_000 + "!"
    assert reasons([text], pattern="^(a+)+$") == ["c: matches ^(a+)+$"]


def test_lengths_are_characters_and_bytes() -> None:
    assert reasons(["é東", "é東x", None, ""], max_length=2) == [None, "c: at most 2 long", None, None]
    assert reasons([b"\xc3\xa9", b"abc", None], max_length=2) == [None, "c: at most 2 long", None]


def test_of_several_reasons_one_is_given_whatever_the_order() -> None:
    columns = {"b": pa.array(["zzzz", "aaaa", None]), "a": pa.array([None, 5, 5])}
    contract = {
        "b": ColumnContract(max_length=3, allowed=("a",), required=True),
        "a": ColumnContract(required=True, max=1),
    }
    expected = ["a: null is refused", "a: at most 1", "a: at most 1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert broken_contract(columns, contract).to_pylist() == expected
        backwards = dict(reversed(contract.items()))
        assert broken_contract(columns, backwards).to_pylist() == expected
    only_b = {"b": contract["b"]}
    assert broken_contract(columns, only_b).to_pylist() == [
        "b: at most 3 long",
        "b: at most 3 long",
        "b: null is refused",
    ]


def test_no_rows_and_no_terms_break_nothing() -> None:
    assert reasons(pa.array([], pa.string()), required=True, pattern="a", allowed=["b"]) == []
    assert broken_contract({"c": pa.array([1, None])}, {}).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("values", "terms", "said"),
    [
        (pa.array([1]), {"type": "string"}, "the column 'c' must be of type string.*got 'int64'"),
        (pa.array([1.0]), {"type": "integer"}, "must be of type integer.*got 'double'"),
        (pa.array(["1"]), {"type": "number"}, "must be of type number"),
        (pa.array([True]), {"type": "integer"}, "must be of type integer"),
        (pa.array([DAY]), {"type": "timestamp"}, "must be of type timestamp"),
        (pa.array([TIME]), {"type": "date"}, "must be of type date"),
        (pa.array(["a"]), {"type": "binary"}, "must be of type binary"),
        (pa.array([1]), {"type": "boolean"}, "must be of type boolean"),
        (pa.array(["a"]), {"min": 1}, "min and max in a contract are for columns of numbers"),
        (pa.array([DAY]), {"max": 1}, "min and max in a contract are for columns of numbers"),
        (pa.array([1]), {"pattern": "a"}, "pattern in a contract are for columns of texts"),
        (pa.array([1]), {"max_length": 1}, "max_length in a contract are for columns of texts and binary"),
        (pa.array(["a"]), {"pattern": "(?=a)"}, r"must be a regular expression of RE2.*got '\(\?=a\)'"),
        (pa.array(["a"]), {"pattern": "("}, "must be a regular expression of RE2"),
        (pa.array([1]), {"allowed": ["one"]}, "the allowed values of 'c' must be of its type, int64"),
        (pa.array([1]), {"allowed": [1.5]}, "must be of its type, int64"),
        (pa.array([DAY]), {"allowed": ["28.2.2026"]}, "must be of its type, date32"),
        (pa.array([["a"]]), {"allowed": ["a"]}, "must be of its type, list"),
    ],
    ids=str,
)
def test_terms_that_do_not_fit_a_column_are_said(values: pa.Array, terms: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said) as caught:
        reasons(values, **terms)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("string", pa.array(["a"], pa.large_string())),
        ("integer", pa.array([1], pa.int16())),
        ("number", pa.array([1])),
        ("number", pa.array([Decimal(1)])),
        ("binary", pa.array([b"a"], pa.large_binary())),
        ("timestamp", pa.array([TIME])),
    ],
)
def test_types_that_fit(type_: str, values: pa.Array) -> None:
    assert reasons(values, type=type_) == [None]


@pytest.mark.parametrize(
    "terms", [{"min": 2, "max": 1}, {"min": NAN}, {"max": INF}, {"max_length": 0}, {"most": 3}]
)
def test_terms_that_make_no_sense_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ColumnContract.model_validate(terms)
