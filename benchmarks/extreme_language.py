"""Random conditions over extreme values, each as SQL and as a Python function of a row.

Every operator and every function of the language is drawn, on the values of :mod:`benchmarks.extreme_values`.
"""

from __future__ import annotations

import math
import operator
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from benchmarks.extreme_values import COLUMNS, TEXTS, VALUES, Row, written


@dataclass(frozen=True)
class Part:
    """An expression, as SQL and as a function of the values of the signals."""

    sql: str
    kind: str
    value: Callable[[Row], Any]
    literal: bool = False


class Generator:
    """Makes random expressions.

    :param seed: of everything.
    :param simple: whether values are only compared, passed on and tested for NULL, and never computed with.
    """

    def __init__(self, seed: str, *, simple: bool) -> None:
        self.random = random.Random(seed)
        self.simple = simple
        self.names: dict[str, list[Part]] = {}

    def choose(self, most: int) -> list[str]:
        """Draw the columns that the next expressions read, at most so many."""
        names = self.random.sample(list(COLUMNS), self.random.randint(1, most))
        self.names = {}
        for name in names:
            self.name(Part(name, COLUMNS[name].kind, operator.itemgetter(name)))
        return names

    def name(self, part: Part) -> None:
        """Let the next expressions read a signal."""
        self.names.setdefault(part.kind, []).append(part)

    def rows(self, count: int) -> pa.RecordBatch:
        """Return rows of values of every column, and a key."""
        arrays = [pa.array(range(count))]
        for column in COLUMNS.values():
            some = [self.random.choice(column.values) for _ in range(count)]
            drawn = [None if self.random.random() < 0.15 else one for one in some]
            if column.kind == "text":
                arrays.append(pa.array(drawn, pa.binary()).view(pa.string()))
            else:
                arrays.append(pa.array(drawn, column.arrow))
        return pa.RecordBatch.from_arrays(arrays, names=["id", *COLUMNS])

    def literal(self, kind: str) -> Part:
        """Return a constant, or NULL."""
        if self.random.random() < 0.05:
            return Part("NULL", "null", lambda _row: None, literal=True)
        value = self.random.choice(VALUES[kind])
        return Part(written(value), kind, lambda _row: value, literal=True)

    def leaf(self, kind: str) -> Part:
        """Return a signal, or a constant."""
        if kind in self.names and self.random.random() < 0.85:
            return self.random.choice(self.names[kind])
        return self.literal(kind)

    def part(self, kind: str, depth: int) -> Part:
        """Return an expression of a kind."""
        if depth <= 0 or self.random.random() < 0.4:
            return self.leaf(kind)
        return self.random.choice(_PASSING if self.simple else _PASSING + _COMPUTING[kind])(
            self, kind, depth - 1
        )

    def number(self, depth: int) -> Part:
        """Return a whole number or a double."""
        return self.part(self.random.choice(["integer", "float"]), depth)

    def beside(self, kind: str, depth: int) -> Part:
        """Return what an expression of a kind may be compared with."""
        return (
            self.number(depth) if kind in _NUMBERS and self.random.random() < 0.4 else self.part(kind, depth)
        )

    def condition(self, depth: int) -> Part:
        """Return a condition."""
        kinds = [kind for kind in self.names if kind in VALUES] or ["integer"]
        if self.random.random() < 0.05 and not self.names.keys() <= VALUES.keys():
            one = self.random.choice(self.names[next(kind for kind in self.names if kind not in VALUES)])
            return Part(f"({one.sql} IS NULL)", "boolean", lambda row: one.value(row) is None)
        if "boolean" in self.names and self.random.random() < 0.1:
            return self.random.choice(self.names["boolean"])
        if depth > 0 and self.random.random() < 0.5:
            return self.random.choice(_LOGICAL)(self, depth - 1)
        kind = self.random.choice(kinds)
        makers = [*_COMPARING, *(_MATCHING if kind == "text" and not self.simple else ())]
        return self.random.choice(makers)(self, kind, depth - 1)


_NUMBERS = {"integer", "float"}


def _of(function: Callable[..., Any], *values: Any) -> Any:
    """Call a function, unless a value is NULL."""
    return None if any(value is None for value in values) else function(*values)


def _typed(values: Sequence[Part]) -> tuple[str, Callable[[Any], Any]]:
    """Return the kind that values have in common, and what makes one of it."""
    kinds = {one.kind for one in values} - {"null"}
    if kinds == _NUMBERS or kinds == {"float"}:
        return "float", lambda value: _of(float, value)
    return (kinds.pop() if kinds else "null"), lambda value: value


# Values that are passed on.


def _case_when(make: Generator, kind: str, depth: int) -> Part:
    condition, one, other = make.condition(depth), make.part(kind, depth), make.beside(kind, depth)
    found, same = _typed([one, other])
    return Part(
        f"CASE WHEN {condition.sql} THEN {one.sql} ELSE {other.sql} END",
        found,
        lambda row: same((one if condition.value(row) is True else other).value(row)),
    )


def _case_of(make: Generator, kind: str, depth: int) -> Part:
    asked = make.random.choice([kind for kind in make.names if kind in VALUES] or ["integer"])
    subject, first, second = make.part(asked, depth), make.beside(asked, 0), make.part(asked, 0)
    one, other = make.part(kind, depth), make.part(kind, depth)
    found, same = _typed([one, other])

    def value(row: Row) -> Any:
        if compared("=", subject, first, row) is True:
            return same(one.value(row))
        return same(other.value(row)) if compared("=", subject, second, row) is True else None

    sql = f"CASE {subject.sql} WHEN {first.sql} THEN {one.sql} WHEN {second.sql} THEN {other.sql} END"
    return Part(sql, found, value)


def _coalesce(make: Generator, kind: str, depth: int) -> Part:
    parts = [make.part(kind, depth), make.beside(kind, depth), make.part(kind, 0)][
        : make.random.randint(1, 3)
    ]
    found, same = _typed(parts)
    sql = f"coalesce({', '.join(one.sql for one in parts)})"
    return Part(
        sql, found, lambda row: same(next((v for one in parts if (v := one.value(row)) is not None), None))
    )


def _nullif(make: Generator, kind: str, depth: int) -> Part:
    one, other = make.part(kind, depth), make.beside(kind, depth)
    found, same = _typed([one, other])

    def value(row: Row) -> Any:
        first, second = same(one.value(row)), same(other.value(row))
        return None if _of(lambda a, b: a == b, first, second) else first

    return Part(f"nullif({one.sql}, {other.sql})", found, value)


_PASSING = [_case_when, _case_of, _coalesce, _nullif]

# Values that are computed.


def _arithmetic(make: Generator, _kind: str, depth: int) -> Part:
    one, other, sign = make.number(depth), make.number(depth), make.random.choice("+-*/%")
    return Part(
        f"({one.sql} {sign} {other.sql})",
        "float",
        lambda row: _of(lambda a, b: _computed(sign, float(a), float(b)), one.value(row), other.value(row)),
    )


def _computed(sign: str, left: float, right: float) -> float | None:
    if sign in "/%" and right == 0:
        return None
    if sign == "%":
        return None if math.isinf(left) else math.fmod(left, right)
    found = left / right if sign == "/" else {"+": left + right, "-": left - right, "*": left * right}[sign]
    return None if math.isnan(found) else found


def _rounded(make: Generator, _kind: str, depth: int) -> Part:
    one, name = make.number(depth), make.random.choice(["-", "abs", "floor", "ceil", "round", "round"])
    digits = make.random.choice([0, 0, 1, 2, -1, -2, 15, -15])
    if name == "-" and one.literal:
        return one
    sql = f"round({one.sql}, {digits})" if name == "round" and digits else f"{name}({one.sql})"
    return Part(
        sql, "float", lambda row: _of(lambda value: _called(name, digits, float(value)), one.value(row))
    )


def _called(name: str, digits: int, number: float) -> float:
    if name in ("abs", "-"):
        return abs(number) if name == "abs" else -number
    if math.isinf(number):
        return number
    if name != "round":
        return float({"floor": math.floor, "ceil": math.ceil}[name](number))
    power = 10 ** abs(digits)
    scaled = number * power if digits >= 0 else number / power
    if abs(scaled) >= 2**52:
        return number
    rest = scaled - math.trunc(scaled) if digits >= 0 else math.fmod(number, power)
    if rest == 0:
        return number
    whole = math.trunc(scaled) if digits >= 0 else round((number - rest) / power)
    whole += int(math.copysign(1, number)) if abs(rest) >= (0.5 if digits >= 0 else power / 2) else 0
    return whole / power if digits >= 0 else float(whole * power)


def _between_times(make: Generator, _kind: str, depth: int) -> Part:
    one, other = make.part("time", depth), make.part("time", depth)
    unit, seconds = make.random.choice([("days", 86_400), ("seconds", 1)])
    return Part(
        f"{unit}_between({one.sql}, {other.sql})",
        "float",
        lambda row: _of(
            lambda a, b: float((b - a) // timedelta(microseconds=1)) / 1e6 / seconds,
            one.value(row),
            other.value(row),
        ),
    )


def _length(make: Generator, _kind: str, depth: int) -> Part:
    text = make.part("text", depth)
    return Part(f"length({text.sql})", "integer", lambda row: _of(len, text.value(row)))


_PATTERNS = {
    "a": "a",
    "^a": "^a",
    "a$": r"a\Z",
    "": "",
    "a+": "a+",
    "[^a]": "[^a]",
    "(?i)A": "(?i)a",
    ".": ".",
}
_PATTERNS |= {"(?s).": "(?s).", r"\ba": r"\ba", "é|b": "é|b", "[ab]{2}": "[ab]{2}", r"\$": r"\$"}
"""Regular expressions of RE2, and the same ones of Python."""


def _regexp_count(make: Generator, _kind: str, depth: int) -> Part:
    text, pattern = make.part("text", depth), make.random.choice(list(_PATTERNS))
    theirs = re.compile(_PATTERNS[pattern], re.ASCII)
    sql = f"regexp_count({text.sql}, '{pattern}')"
    return Part(sql, "integer", lambda row: _of(lambda value: len(theirs.findall(value)), text.value(row)))


_PARTS: dict[str, Callable[[datetime], int]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "day": lambda moment: moment.day,
    "hour": lambda moment: moment.hour,
    "weekday": datetime.isoweekday,
}


def _part_of_time(make: Generator, _kind: str, depth: int) -> Part:
    moment, name = make.part("time", depth), make.random.choice(list(_PARTS))
    return Part(f"{name}({moment.sql})", "integer", lambda row: _of(_PARTS[name], moment.value(row)))


_TEXTS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "trim": lambda text: text.strip(" "),
}


def _changed_text(make: Generator, _kind: str, depth: int) -> Part:
    text, name = make.part("text", depth), make.random.choice(list(_TEXTS))
    return Part(f"{name}({text.sql})", "text", lambda row: _of(_TEXTS[name], text.value(row)))


def _joined(make: Generator, _kind: str, depth: int) -> Part:
    one, other = make.part("text", depth), make.part("text", 0)
    return Part(
        f"({one.sql} || {other.sql})",
        "text",
        lambda row: _of(lambda a, b: a + b, one.value(row), other.value(row)),
    )


_COMPUTING: dict[str, list[Callable[[Generator, str, int], Part]]] = {
    "boolean": [],
    "integer": [_length, _regexp_count, _part_of_time],
    "float": [_arithmetic, _rounded, _between_times],
    "text": [_changed_text, _joined],
    "time": [],
}

# Conditions made of conditions.


def _and(make: Generator, depth: int) -> Part:
    one, other = make.condition(depth), make.condition(depth)

    def value(row: Row) -> bool | None:
        found = {one.value(row), other.value(row)}
        return False if False in found else None if None in found else True

    return Part(f"({one.sql} AND {other.sql})", "boolean", value)


def _or(make: Generator, depth: int) -> Part:
    one, other = make.condition(depth), make.condition(depth)

    def value(row: Row) -> bool | None:
        found = {one.value(row), other.value(row)}
        return True if True in found else None if None in found else False

    return Part(f"({one.sql} OR {other.sql})", "boolean", value)


def _not(make: Generator, depth: int) -> Part:
    one = make.condition(depth)
    return Part(f"(NOT {one.sql})", "boolean", lambda row: _of(lambda value: not value, one.value(row)))


def _is(make: Generator, depth: int) -> Part:
    one, wanted, negated = make.condition(depth), make.random.choice([True, False, None]), _negated(make)
    sql = f"({one.sql} IS {negated}{'NULL' if wanted is None else str(wanted).upper()})"
    return Part(sql, "boolean", lambda row: (one.value(row) is wanted) != bool(negated))


def _passed_condition(make: Generator, depth: int) -> Part:
    return make.random.choice(_PASSING)(make, "boolean", depth)


_LOGICAL = [_and, _or, _not, _is, _passed_condition]

# Conditions that compare.

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<>": lambda one, other: one != other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def compared(sign: str, one: Part, other: Part, row: Row) -> bool | None:
    """Compare as the language does: whole numbers exactly with each other and with written ones."""
    left, right = one.value(row), other.value(row)
    if left is None or right is None:
        return None
    if "float" in (one.kind, other.kind):
        double = one if one.kind == "float" else other
        if not ("integer" in (one.kind, other.kind) and double.literal):
            left, right = float(left), float(right)
    return _COMPARE[sign](left, right)


def _negated(make: Generator) -> str:
    return str(make.random.choice(["", "NOT "]))


def _not_if(negated: str, value: bool | None) -> bool | None:
    return not value if negated and value is not None else value


def _comparison(make: Generator, kind: str, depth: int) -> Part:
    one, other = make.part(kind, depth), make.beside(kind, depth)
    sign = make.random.choice(list(_COMPARE) if kind != "boolean" else ["=", "<>"])
    return Part(f"({one.sql} {sign} {other.sql})", "boolean", lambda row: compared(sign, one, other, row))


def _in(make: Generator, kind: str, depth: int) -> Part:
    one, negated = make.part(kind, depth), _negated(make)
    other = make.random.choice(sorted(_NUMBERS)) if kind in _NUMBERS else kind
    members = [make.literal(make.random.choice([kind, other])) for _ in range(make.random.randint(1, 4))]
    if make.random.random() < 0.2:
        members[0] = make.leaf(kind)

    def value(row: Row) -> bool | None:
        found = {compared("=", one, member, row) for member in members}
        return _not_if(negated, True if True in found else None if None in found else False)

    listed = ", ".join(member.sql for member in members)
    return Part(f"({one.sql} {negated}IN ({listed}))", "boolean", value)


def _between(make: Generator, kind: str, depth: int) -> Part:
    if kind == "boolean":
        return _comparison(make, kind, depth)
    one, low, high, negated = (
        make.part(kind, depth),
        make.beside(kind, 0),
        make.beside(kind, depth),
        _negated(make),
    )

    def value(row: Row) -> bool | None:
        found = {compared(">=", one, low, row), compared("<=", one, high, row)}
        return _not_if(negated, False if False in found else None if None in found else True)

    return Part(f"({one.sql} {negated}BETWEEN {low.sql} AND {high.sql})", "boolean", value)


def _null(make: Generator, kind: str, depth: int) -> Part:
    one, negated = make.part(kind, depth), _negated(make)
    return Part(
        f"({one.sql} IS {negated}NULL)", "boolean", lambda row: (one.value(row) is None) != bool(negated)
    )


def _distinct(make: Generator, kind: str, depth: int) -> Part:
    one, other = make.part(kind, depth), make.beside(kind, depth)
    sign = make.random.choice(["IS DISTINCT FROM", "IS NOT DISTINCT FROM", "<=>"])

    def value(row: Row) -> bool:
        left, right = one.value(row), other.value(row)
        same = left is None and right is None if None in (left, right) else compared("=", one, other, row)
        return bool(same) != (sign == "IS DISTINCT FROM")

    return Part(f"({one.sql} {sign} {other.sql})", "boolean", value)


_COMPARING = [_comparison, _comparison, _in, _between, _null, _distinct]


def _like(make: Generator, kind: str, depth: int) -> Part:
    one, negated = make.part(kind, depth), _negated(make)
    how, pattern = make.random.choice(["LIKE", "ILIKE"]), make.random.choice(_LIKES)
    theirs = re.compile(_as_regex(pattern), re.DOTALL | (re.IGNORECASE if how == "ILIKE" else 0))
    return Part(
        f"({one.sql} {negated}{how} '{pattern}')",
        "boolean",
        lambda row: _not_if(negated, _of(lambda text: theirs.fullmatch(text) is not None, one.value(row))),
    )


_LIKES = ["a%", "%b", "_", "%", "", "A%", "%a%", "a_", "a\\%\\_", "__", "%\\%%", "é", " %"]


def _as_regex(pattern: str) -> str:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join({"%": ".*", "_": "."}.get(one) or re.escape(one.removeprefix("\\")) for one in parts)


def _searched(make: Generator, kind: str, depth: int) -> Part:
    one, pattern, negated = make.part(kind, depth), make.random.choice(list(_PATTERNS)), _negated(make)
    theirs = re.compile(_PATTERNS[pattern], re.ASCII)
    if make.random.random() < 0.5:
        sql = f"({one.sql} {negated}RLIKE '{pattern}')"
    else:
        sql, negated = f"regexp_like({one.sql}, '{pattern}')", ""
    return Part(
        sql,
        "boolean",
        lambda row: _not_if(negated, _of(lambda text: theirs.search(text) is not None, one.value(row))),
    )


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}


def _tested(make: Generator, kind: str, depth: int) -> Part:
    one, name, part = make.part(kind, depth), make.random.choice(list(_TESTS)), make.random.choice(TEXTS)
    return Part(
        f"{name}({one.sql}, '{part}')",
        "boolean",
        lambda row: _of(lambda text: _TESTS[name](text, part), one.value(row)),
    )


_MATCHING = [_like, _searched, _tested]
