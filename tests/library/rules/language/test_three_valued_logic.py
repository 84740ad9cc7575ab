"""Random expressions on random rows say what SQLite says of them: an independent engine, in the library.

Every column of SQLite's table is without a type, so nothing is converted. SQLite takes NaN for NULL, as we
do; it computes with whole numbers where we compute with doubles, so the operands are cast to REAL for it.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.rules.language.expressions import compile_expressions


@dataclass(frozen=True)
class Pair:
    """One expression in our language and in SQLite's."""

    ours: str
    theirs: str


def both(text: str) -> Pair:
    return Pair(text, text)


def quoted(text: str) -> Pair:
    return both("'" + text.replace("'", "''") + "'")


def joined(template: str, their_template: str | None = None) -> Callable[..., Pair]:
    def build(*parts: Pair) -> Pair:
        ours = template.format(*(part.ours for part in parts))
        theirs = (their_template or template).format(*(part.theirs for part in parts))
        return Pair(ours, theirs)

    return build


LETTERS = st.text("aB% _\\'", max_size=3)
INTEGERS = st.integers(-4, 4)
FLOATS = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0, math.inf, -math.inf, math.nan])

PATTERNS = st.lists(st.sampled_from(["a", "B", "%", "_", "\\%", "\\_", "\\\\", "''"]), max_size=4).map(
    "".join
)

number_leaves = st.one_of(
    st.sampled_from(["n", "m", "x", "y"]).map(both),
    INTEGERS.map(lambda value: both(f"({value})")),
    st.sampled_from(["0.5", "1e0", "2.5", "NULL"]).map(both),
)
text_leaves = st.one_of(st.sampled_from(["s", "t"]).map(both), LETTERS.map(quoted), st.just(both("NULL")))
boolean_leaves = st.one_of(
    st.sampled_from(["f", "g", "TRUE", "FALSE", "NULL"]).map(both),
)


def case(conditions: Any, values: Any) -> Any:
    return st.one_of(
        st.builds(joined("CASE WHEN {0} THEN {1} END"), conditions, values),
        st.builds(
            joined("CASE WHEN {0} THEN {1} WHEN {2} THEN {3} ELSE {4} END"), *[conditions, values] * 2, values
        ),
    )


def numbers(depth: int) -> Any:
    if depth == 0:
        return number_leaves
    inner, conditions = numbers(depth - 1), booleans(depth - 1)
    arithmetic = [
        st.builds(
            joined(f"({{0}} {sign} {{1}})", f"(CAST({{0}} AS REAL) {sign} CAST({{1}} AS REAL))"), inner, inner
        )
        for sign in "+-*/"
    ]
    return st.one_of(
        number_leaves,
        *arithmetic,
        st.builds(joined("(- {0})"), inner),
        st.builds(joined("abs({0})"), inner),
        st.builds(joined("coalesce({0}, {1})"), inner, inner),
        st.builds(joined("nullif({0}, {1})"), inner, inner),
        st.builds(joined("length({0})"), texts(depth - 1)),
        case(conditions, inner),
        st.builds(joined("CASE {0} WHEN {1} THEN {2} ELSE {3} END"), inner, inner, inner, inner),
    )


def texts(depth: int) -> Any:
    if depth == 0:
        return text_leaves
    inner = texts(depth - 1)
    return st.one_of(
        text_leaves,
        st.builds(joined("lower({0})"), inner),
        st.builds(joined("upper({0})"), inner),
        st.builds(joined("trim({0})"), inner),
        st.builds(joined("({0} || {1})"), inner, inner),
        st.builds(joined("coalesce({0}, {1})"), inner, inner),
        case(booleans(depth - 1), inner),
    )


def booleans(depth: int) -> Any:
    if depth == 0:
        return boolean_leaves
    inner = booleans(depth - 1)
    choices = [
        boolean_leaves,
        st.builds(joined("({0} AND {1})"), inner, inner),
        st.builds(joined("({0} OR {1})"), inner, inner),
        st.builds(joined("(NOT {0})"), inner),
        st.builds(joined("({0} IS TRUE)"), inner),
        st.builds(joined("({0} IS NOT FALSE)"), inner),
        case(inner, inner),
    ]
    for operands in (numbers(depth - 1), texts(depth - 1)):
        for sign in ("=", "<>", "<", "<=", ">", ">="):
            choices.append(st.builds(joined(f"({{0}} {sign} {{1}})"), operands, operands))
        choices += [
            st.builds(joined("({0} IS NULL)"), operands),
            st.builds(joined("({0} IS NOT NULL)"), operands),
            st.builds(joined("({0} IN ({1}, {2}))"), operands, operands, operands),
            st.builds(joined("({0} NOT IN ({1}, {2}))"), operands, operands, operands),
            st.builds(joined("({0} BETWEEN {1} AND {2})"), operands, operands, operands),
            st.builds(joined("({0} NOT BETWEEN {1} AND {2})"), operands, operands, operands),
            st.builds(joined("({0} IS DISTINCT FROM {1})", "({0} IS NOT {1})"), operands, operands),
        ]
    for word in ("LIKE", "NOT LIKE"):
        like = joined(f"({{0}} {word} {{1}})", f"({{0}} {word} {{1}} ESCAPE '\\')")
        choices.append(st.builds(like, texts(depth - 1), PATTERNS.map(lambda text: both(f"'{text}'"))))
    choices.append(
        st.builds(
            joined("contains({0}, {1})", "(instr({0}, {1}) > 0)"), texts(depth - 1), LETTERS.map(quoted)
        )
    )
    return st.one_of(*choices)


ROWS = st.lists(
    st.tuples(
        *[st.none() | INTEGERS] * 2,
        *[st.none() | FLOATS] * 2,
        *[st.none() | LETTERS] * 2,
        *[st.none() | st.booleans()] * 2,
    ),
    min_size=1,
    max_size=8,
)
NAMES = ("n", "m", "x", "y", "s", "t", "f", "g")
TYPES = [
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.large_string(),
    pa.bool_(),
    pa.bool_(),
]


def sqlite_says(expression: str, rows: list[tuple[Any, ...]]) -> list[Any]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA case_sensitive_like = ON")
        database.execute(f"CREATE TABLE rows ({', '.join(NAMES)})")
        database.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * len(NAMES))})", rows)
        return [row[0] for row in database.execute(f"SELECT {expression} FROM rows ORDER BY rowid")]


def agree(pair: Pair, rows: list[tuple[Any, ...]]) -> None:
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), TYPES, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, names=NAMES)
    found = compile_expressions({"e": pair.ours}, batch.schema).evaluate(batch)["e"].to_pylist()
    assert found == sqlite_says(pair.theirs, rows), pair.ours


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.one_of(booleans(1), booleans(2), booleans(3)), ROWS)
def test_conditions_are_three_valued_as_in_sqlite(pair: Pair, rows: list[tuple[Any, ...]]) -> None:
    agree(pair, rows)


ATOMS = st.sampled_from(
    [
        *("f", "NOT f", "NOT g", "n < m", "NOT n = m", "s IS NULL", "NOT t IS NOT NULL", "f IS NOT TRUE"),
        *(
            "n BETWEEN -1 AND m",
            "NOT n NOT BETWEEN 0 AND 2",
            "s IN ('a', t)",
            "NOT s LIKE '%a%'",
            "s || t = 'aB'",
        ),
        *("x + y * 2 - n > -y / 4.0 - 1", "- x * y < x - y - 1", "n - m - 1.0 = x", "NOT NOT f"),
        *("CASE WHEN f OR g AND NOT f THEN n = 1 ELSE x > 1 END", "n IS DISTINCT FROM m"),
    ]
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(ATOMS, min_size=1, max_size=6), st.lists(st.sampled_from(["AND", "OR"]), min_size=6), ROWS)
def test_operators_bind_as_in_sqlite(atoms: list[str], words: list[str], rows: list[tuple[Any, ...]]) -> None:
    parts = [part for pair in zip(atoms, words, strict=False) for part in pair][:-1]
    text = " ".join(parts)
    agree(Pair(text, text.replace("IS DISTINCT FROM", "IS NOT")), rows)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.one_of(numbers(2), texts(2)), ROWS)
def test_values_are_those_of_sqlite(pair: Pair, rows: list[tuple[Any, ...]]) -> None:
    agree(pair, rows)
