"""Expressions: what they say, what is refused and how, and that hostile ones are harmless."""

from __future__ import annotations

import decimal
import operator
import os
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelmill.errors import ExpressionError
from modelmill.rules.language.expressions import compile_expressions

GOLDEN = Path(__file__).with_name("problems.golden")

BATCH = pa.RecordBatch.from_arrays(
    [
        pa.array(["Goal!", None, "bank\n50% x", ""]),
        pa.array([1, None, 3, -7]),
        pa.array([1.5, float("nan"), -0.0, float("inf")]),
        pa.array([True, None, False, True]),
        pa.array([date(2026, 1, 31), None, date(2025, 1, 1), date(2026, 2, 1)]),
        pa.array([datetime(2026, 1, 31, 12), None, datetime(2025, 1, 1), datetime(2027, 1, 1)]),
        pa.array([Decimal("1.50"), None, Decimal("2.00"), Decimal("-1.00")]),
        pa.array(["x", None, "y", "x"]).dictionary_encode(),
        pa.array([b"1", b"2", b"3", b"4"]),
        pa.array([[1], [2], [3], [4]]),
        pa.nulls(4),
    ],
    names=["text", "n", "x", "flag", "day", "at", "price", "group", "raw", "list", "Odd name"],
)


def value(text: str, batch: pa.RecordBatch = BATCH) -> list[Any]:
    program = compile_expressions({"e": text}, batch.schema)
    found: list[Any] = program.evaluate(batch)["e"].to_pylist()
    return found


def problems(text: str, **options: Any) -> str:
    with pytest.raises(ExpressionError) as caught:
        compile_expressions({"rule": text}, BATCH.schema, **options)
    return caught.value.report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text = 'Goal!'", [True, None, False, False]),
        ("n > 1 OR x > 1", [True, None, True, True]),
        ("x IS NULL", [False, True, False, False]),  # NaN is no value
        ("raw IS NULL OR (list) IS NOT NULL", [True, True, True, True]),  # nobody looks into them
        ("x IN (0, 1.5)", [True, None, True, False]),
        ("x - x", [0, None, 0, None]),  # infinity minus infinity
        ("n / 2", [0.5, None, 1.5, -3.5]),
        ("n / 0", [None] * 4),
        ("n % 4", [1, None, 3, -3]),
        ("7 % n", [0, None, 1, 0]),
        ("n IN (1, NULL)", [True, None, None, None]),
        ("n NOT IN (1, NULL)", [False, None, None, None]),
        ("n IN (3, x)", [False, None, True, False]),
        ("n BETWEEN 1 AND 2", [True, None, False, False]),
        ("text LIKE 'bank%'", [False, None, True, False]),
        ("text LIKE '%50\\% _'", [False, None, True, False]),
        ("text NOT ILIKE 'GOAL_'", [False, None, True, True]),
        ("text RLIKE '^b.*$'", [False, None, False, False]),
        ("regexp_like(text, '(?s)^b.*$')", [False, None, True, False]),
        ("regexp_count(text, '[ao]')", [2, None, 1, 0]),
        ("contains(lower(text), 'goal')", [True, None, False, False]),
        ("starts_with(text, 'G') OR ends_with(text, 'x')", [True, None, True, False]),
        ("length('é' || text)", [6, None, 11, 1]),
        ("trim('  a ') = 'a'", [True] * 4),
        ("upper(text) = 'GOAL!'", [True, None, False, False]),
        ("CASE WHEN n > 1 THEN 'big' WHEN flag THEN text END", ["Goal!", None, "big", ""]),
        ("CASE n WHEN 1 THEN x WHEN 3 THEN 4 ELSE -1 END", [1.5, -1, 4, -1]),
        ("coalesce(n, x, 0)", [1, 0, 3, -7]),
        ("nullif(n, 3)", [1, None, None, -7]),
        ("abs(n) + floor(x) + ceil(x)", [4, None, 3, float("inf")]),
        ("round(n * 1.25, 1)", [1.3, None, 3.8, -8.8]),
        ("round(2.5) = 3 AND round(-2.5) = -3", [True] * 4),
        ("flag IS TRUE", [True, False, False, True]),
        ("flag IS NOT FALSE", [True, True, False, True]),
        ("n IS DISTINCT FROM 1", [False, True, True, True]),
        ("n <=> NULL", [False, True, False, False]),
        ("day >= DATE '2026-01-31'", [True, None, False, True]),
        ("at > day", [True, None, False, True]),
        ("at = TIMESTAMP '2026-01-31 12:00:00'", [True, None, False, False]),
        ("price = 1.5", [True, None, False, False]),
        ("group = 'x'", [True, None, False, True]),
        ('"Odd name" IS NULL', [True] * 4),
        ('"Odd name" = 1', [None] * 4),
        ("FLAG", [True, None, False, True]),  # names are looked up without case where that is clear
        ("NULL", [None] * 4),
        ("NULL AND FALSE", [False] * 4),
        ("NOT NULL", [None] * 4),
        ("1 IN (2, 3) OR TRUE", [True] * 4),
        ("n = 1 -- a comment", [True, None, False, False]),
    ],
)
def test_an_expression_says_what_sql_says(text: str, expected: list[Any]) -> None:
    assert value(text) == expected


def test_whole_numbers_are_compared_exactly() -> None:
    batch = pa.RecordBatch.from_pydict({"n": [2**53, 2**53 + 1, 2**63 - 1]})
    assert value("n = 9007199254740993", batch) == [False, True, False]
    assert value("n = 9223372036854775807", batch) == [False, False, True]
    assert value("n > 1e300", batch) == [False] * 3


WHOLE = [-(2**63), -(2**63) + 1, -1, 0, 1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
WRITTEN = ["-9223372036854775808", "-9223372036854775809", "9223372036854775807", "9223372036854775808"]
WRITTEN += ["9007199254740993", "9007199254740993.0", "0.5", "-0.0", "1e19", "-1e300", "18446744073709551616"]
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "IS NOT DISTINCT FROM": operator.eq,
    "IS DISTINCT FROM": operator.ne,
}


@pytest.mark.parametrize("literal", WRITTEN)
def test_whole_numbers_and_written_ones_are_compared_as_python_does(literal: str) -> None:
    batch = pa.RecordBatch.from_pydict({"n": [*WHOLE, None]})
    number = int(literal) if literal.lstrip("-").isdigit() else float(literal)
    for sign, compare in COMPARISONS.items():
        null = None if "DISTINCT" not in sign else sign == "IS DISTINCT FROM"
        assert value(f"n {sign} {literal}", batch) == [*(compare(one, number) for one in WHOLE), null]
        assert value(f"{literal} {sign} n", batch) == [*(compare(number, one) for one in WHOLE), null]
    found = [one == number or one == 1 for one in WHOLE]
    assert value(f"n IN ({literal}, 1, 1.5)", batch) == [*found, None]
    assert value(f"n NOT IN ({literal}, 1, NULL)", batch) == [
        *(False if one else None for one in found),
        None,
    ]
    assert value(f"CASE n WHEN {literal} THEN 1 WHEN 1 THEN 1 ELSE 0 END = 1", batch) == [*found, False]


def test_zero_has_no_sign() -> None:
    batch = pa.RecordBatch.from_pydict({"x": [0.0, -0.0, 1.0]})
    for text in ("x IN (-0.0)", "x IN (0)", "x = -0.0", "nullif(x, -0.0) IS NULL", "x IN (-0.0, 2.5)"):
        assert value(text, batch) == [True, True, False], text


NUMBERS = [
    0.0,
    5e-324,
    1e-310,
    0.5,
    -0.5,
    2.5,
    2.675,
    0.1 + 0.2,
    45.0,
    2.0**53 + 2,
    1e22,
    1.7976931348623157e308,
]


@pytest.mark.parametrize("digits", [-15, -11, -2, -1, 0, 1, 2, 10, 12, 15])
def test_round_is_exact_and_never_raises(digits: int) -> None:
    numbers = [*NUMBERS, *(-one for one in NUMBERS)]
    batch = pa.RecordBatch.from_pydict({"x": [*numbers, float("inf"), None]})
    with decimal.localcontext(decimal.Context(prec=700, rounding=decimal.ROUND_HALF_UP)):
        # 2.675 is a little less; times a hundred, as doubles, it is 267.5
        scaled = [Decimal(one) if one not in (2.675, -2.675) else Decimal(str(one)) for one in numbers]
        wanted = [float(one.scaleb(digits).quantize(Decimal(1)).scaleb(-digits)) for one in scaled]
    assert value(f"round(x, {digits})", batch) == [*wanted, float("inf"), None]
    assert value(f"round(5e-324, {digits}) = 0", batch) == [True] * len(batch)


def test_times_beyond_microseconds_are_the_first_or_the_last() -> None:
    for column in (
        pa.array([2**31 - 1, -(2**31), -719162, 2932896], pa.date32()),
        pa.array([2**62, -(2**62), -62135596800, 253402214400], pa.timestamp("s")),
    ):
        batch = pa.RecordBatch.from_arrays([column], names=["at"])
        assert value("at < DATE '2020-01-01'", batch) == [False, True, True, False]
        assert value("at = DATE '0001-01-01'", batch) == [False, False, True, False]
        assert value("at >= DATE '9999-12-31'", batch) == [True, False, False, True]


def test_parts_of_times_and_the_time_between_them() -> None:
    moments = [
        datetime(1, 1, 1),
        datetime(1969, 12, 31, 23, 59),
        datetime(2024, 2, 29, 7),
        datetime(9999, 12, 31),
    ]
    batch = pa.RecordBatch.from_arrays([pa.array([*moments, None], pa.timestamp("us"))], names=["at"])
    for part in ("year", "month", "day", "hour"):
        assert value(f"{part}(at)", batch) == [*(getattr(one, part) for one in moments), None]
    assert value("weekday(at)", batch) == [*(one.isoweekday() for one in moments), None]
    seconds = [(one - datetime(2024, 3, 1)).total_seconds() for one in moments]
    assert value("seconds_between(DATE '2024-03-01', at)", batch) == [*seconds, None]
    assert value("days_between(at, at)", batch) == [0.0] * 4 + [None]
    assert value("days_between(DATE '2024-02-29', DATE '2024-03-01') = 1 AND year(at) > 0", batch)[0] is True
    far = pa.RecordBatch.from_arrays([pa.array([2**62, -(2**62)], pa.timestamp("s"))], names=["at"])
    assert value("year(at) > 290000", far) == [True, False]
    assert value("days_between(DATE '2024-01-01', at) > 1e8", far) == [True, False]
    assert "year takes a time; got text" in problems("year(text) = 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1e", "1:5: rule: a number is written as 12, 1.5 or 2e6; got '1e'"),
        ("text LIKE 'a\\'", "1:1: rule: the pattern of LIKE must not end in an escape; got 'a\\\\'"),
        ("text = '\ud83d'", "1:9: rule: a text is made of whole characters; got '\\ud83d', half a surrogate"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, message: str) -> None:
    assert message in problems(text)


def test_counts_see_what_stands_before_a_match() -> None:
    batch = pa.RecordBatch.from_pydict({"t": ["aab", "hello world", "", "é", None]})
    assert value("regexp_count(t, '^a')", batch) == [1, 0, 0, 0, None]
    assert value(r"regexp_count(t, '\b\w')", batch) == [1, 2, 0, 0, None]
    assert value("regexp_count(t, '')", batch) == [4, 12, 1, 2, None]
    assert value("regexp_count('aab', '^a')", batch) == [1] * 5


def test_moments_are_compared_across_time_zones() -> None:
    zoned = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="Asia/Tokyo"))
    batch = pa.RecordBatch.from_arrays([zoned], names=["at"])
    assert value("at = TIMESTAMP '2026-01-01 00:00:00'", batch) == [True]
    assert value("at = TIMESTAMP '2026-01-01T09:00:00+09:00'", batch) == [True]


def test_expressions_of_one_program_share_their_parts() -> None:
    texts = {"a": "lower(text) = 'x' OR n > 1", "b": "lower(text) = 'y' AND n > 1"}
    program = compile_expressions(texts, BATCH.schema, kind="boolean")
    assert program.columns == ("text", "n")
    assert program.results["a"].columns == ("n", "text")
    alone = sum(len(compile_expressions({name: text}, BATCH.schema).steps) for name, text in texts.items())
    assert len(program.steps) == alone - 5  # two columns, the constant 1, lower(text), n > 1
    assert {name: column.to_pylist() for name, column in program.evaluate(BATCH).items()} == {
        "a": [False, None, True, False],
        "b": [False, None, False, False],
    }


def test_an_empty_batch_gives_no_values() -> None:
    empty = BATCH.slice(0, 0)
    for text in ("text = 'x'", "n % 2 = 1", "NULL", "1", "CASE WHEN flag THEN n END"):
        assert value(text, empty) == []


def test_what_is_wrong_is_said_with_its_place() -> None:
    cases = [case.split("-----\n")[0].removesuffix("\n") for case in GOLDEN.read_text().split("=====\n")[:-1]]
    assert len(cases) > 50
    shown = "".join(f"{text}\n-----\n{problems(text, kind='boolean')}\n=====\n" for text in cases)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text()


def test_all_problems_of_all_expressions_are_listed_at_once() -> None:
    texts = {"one": "nn = 1 AND txt = 'x'", "two": "lowr(text) =", "three": "n > 0", "four": "n"}
    with pytest.raises(ExpressionError) as caught:
        compile_expressions(texts, BATCH.schema, kind="boolean", what="labelling functions")
    error = caught.value
    assert [(problem.path, problem.line, problem.column) for problem in error.problems] == [
        ("one", 1, 1),
        ("one", 1, 12),
        ("two", 1, 12),
        ("four", 1, 1),
    ]
    assert str(error).startswith("labelling functions: 4 problems: 1:1: one: a column must exist; got 'nn'")
    assert "\n" not in str(error)
    assert not error.retryable


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "flag" + ")" * 5000,
        "NOT " * 5000 + "flag",
        "- " * 5000 + "1 = 1",
        "CASE WHEN flag THEN " * 5000 + "1",
        "lower(" * 5000 + "text" + ")" * 5000,
        "n IN (" * 5000,
        "flag AND " * 200_000 + "flag",
    ],
)
def test_hostile_nesting_and_length_are_refused_soon(text: str) -> None:
    assert "split it" in problems(text)


def test_a_huge_flat_expression_takes_linear_work() -> None:
    def calls(count: int) -> int:
        text = " OR ".join(f"text = 'word {number}'" for number in range(count)) + " OR n = 3"
        made = 0

        def count_call(_frame: object, event: str, _argument: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count_call)
        try:
            assert value(text)[2] is True
        finally:
            sys.setprofile(before)
        return made

    calls(10)
    assert calls(2000) < 2.2 * calls(1000)


def test_a_list_of_ten_thousand_phrases_is_one_step() -> None:
    phrases = ", ".join(f"'word {number}'" for number in range(10_000))
    program = compile_expressions({"e": f"text IN ({phrases}, 'Goal!')"}, BATCH.schema)
    assert program.evaluate(BATCH)["e"].to_pylist() == [True, None, False, False]
    assert len(program.columns) == 1


@pytest.mark.timeout(60)  # an engine that backtracks would never end
@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|aa)+$", "(a|a?)+b", "(.*a){12}$"])
def test_a_pattern_runs_in_linear_time(pattern: str) -> None:
    batch = pa.RecordBatch.from_pydict({"text": ["a" * 1_000_000 + "!"]})
    value(f"regexp_like(text, '{pattern}')", batch)
