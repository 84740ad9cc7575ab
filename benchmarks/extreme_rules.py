"""Random rule sets on values at the ends of their range, against brute force in Python.

``python -m benchmarks.extreme_rules 10000 12`` makes 10,000 rule sets, each on 12 rows: whole numbers around
2^53 and 2^63, infinities, NaN, subnormal numbers, the first and the last dates, texts that are empty, of a
megabyte or not UTF-8, and NULLs. Each expression is made twice, as SQL and as a Python function of a row. The
tests run a few of the same cases.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from modelmill.rules.engine import Engine
from modelmill.rules.rule_set import RuleSet

Row = Mapping[str, Any]

WHOLE = [0, 1, -1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1]
FLOATS = [0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 0.5, -2.5, 2.0**53, 2.0**53 + 2, 2.0**63, -(2.0**63), 1e300]
FLOATS += [1.7976931348623157e308, -1.7976931348623157e308]
TIMES = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)]
TIMES += [datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)]
DAYS = [date(1, 1, 1), date(9999, 12, 31), date(1970, 1, 1)]
TEXTS = ["", "a", "aab", "é", "😀", " a ", "A\n", "a" * 1_000_000]
BROKEN = [b"\xff", b"a\xc3", b"\xed\xa0\x80"]
"""Bytes that are not UTF-8: unknown, like NULL."""
COLUMNS: dict[str, Sequence[Any]] = {
    "n": WHOLE,
    "m": WHOLE,
    "x": [*FLOATS, math.inf, -math.inf, math.nan],
    "y": [*FLOATS, math.inf, -math.inf, math.nan],
    "t": TIMES,
    "d": DAYS,
    "s": [text.encode() for text in TEXTS] + BROKEN,
    "f": [True, False],
}
KINDS = {**dict.fromkeys("nm", "integer"), **dict.fromkeys("xy", "float"), "t": "time", "d": "time"}
KINDS |= {"s": "text", "f": "boolean"}


@dataclass(frozen=True)
class Part:
    """An expression, as SQL and as a function."""

    sql: str
    kind: str
    value: Callable[[Row], Any]
    literal: bool = False


class Generator:
    """Makes random expressions.

    :param seed: of everything.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def literal(self, kind: str) -> Part:
        if kind == "integer":
            whole = self.random.choice(WHOLE)
            return Part(f"({whole})", kind, lambda _row: whole, literal=True)
        if kind == "float":
            number = self.random.choice(FLOATS)
            return Part(f"({number!r})", kind, lambda _row: number, literal=True)
        if kind == "time":
            moment = self.random.choice(TIMES)
            return Part(f"TIMESTAMP '{moment.isoformat(' ')}'", kind, lambda _row: moment, literal=True)
        text = self.random.choice(TEXTS[:-1])
        return Part(f"'{text}'", kind, lambda _row: text, literal=True)

    def column(self, kind: str) -> Part:
        name = self.random.choice([name for name, other in KINDS.items() if other == kind])
        return Part(name, kind, lambda row: row[name])

    def part(self, kind: str, depth: int) -> Part:
        """Return an expression of a kind."""
        if depth <= 0 or self.random.random() < 0.4:
            return self.column(kind) if self.random.random() < 0.8 else self.literal(kind)
        one, other = self.part(kind, depth - 1), self.part(kind, depth - 1)
        condition = self.condition(depth - 1)
        choices = [
            Part(
                f"CASE WHEN {condition.sql} THEN {one.sql} ELSE {other.sql} END",
                kind,
                lambda row: one.value(row) if condition.value(row) is True else other.value(row),
            ),
            Part(
                f"coalesce({one.sql}, {other.sql})",
                kind,
                lambda row: other.value(row) if one.value(row) is None else one.value(row),
            ),
            Part(
                f"nullif({one.sql}, {other.sql})",
                kind,
                lambda row: None if _equal(one.value(row), other.value(row)) else one.value(row),
            ),
        ]
        if kind == "float":
            left, right = (self.part(self.random.choice(["integer", "float"]), depth - 1) for _ in "ab")
            sign = self.random.choice("+-*/%")
            name, digits = self.random.choice(["abs", "floor", "ceil", "round"]), self.random.randint(-15, 15)
            called = f"round({left.sql}, {digits})" if name == "round" else f"{name}({left.sql})"
            choices += [
                Part(f"({left.sql} {sign} {right.sql})", kind, lambda row: _computed(sign, left, right, row)),
                Part(called, kind, lambda row: _called(name, digits, left.value(row))),
            ]
        if kind == "integer":
            text = self.part("text", depth - 1)
            choices.append(Part(f"length({text.sql})", kind, lambda row: _of(len, text.value(row))))
            choices.append(
                Part(
                    f"regexp_count({text.sql}, '^a')",
                    kind,
                    lambda row: _of(lambda one: int(one.startswith("a")), text.value(row)),
                )
            )
        if kind == "text":
            choices.append(Part(f"lower({one.sql})", kind, lambda row: _of(str.lower, one.value(row))))
        return self.random.choice(choices)

    def condition(self, depth: int) -> Part:
        """Return a condition."""
        kind = self.random.choice(["integer", "integer", "float", "float", "time", "text"])
        if depth > 0 and self.random.random() < 0.5:
            one, other = self.condition(depth - 1), self.condition(depth - 1)
            return self.random.choice(
                [
                    Part(f"({one.sql} AND {other.sql})", "boolean", lambda row: _and(one, other, row)),
                    Part(f"({one.sql} OR {other.sql})", "boolean", lambda row: _or(one, other, row)),
                    Part(f"(NOT {one.sql})", "boolean", lambda row: _of(lambda b: not b, one.value(row))),
                    Part(f"(({one.sql}) IS TRUE)", "boolean", lambda row: one.value(row) is True),
                    Part("f", "boolean", lambda row: row["f"]),
                ]
            )
        value = self.part(kind, depth)
        if self.random.random() < 0.2:
            return Part(f"(({value.sql}) IS NULL)", "boolean", lambda row: value.value(row) is None)
        second = {"integer": "float", "float": "integer"}.get(kind, kind)
        other = self.part(second if self.random.random() < 0.3 else kind, 0)
        if self.random.random() < 0.3:
            members = [self.literal(other.kind) for _ in range(3)]
            listed = ", ".join(member.sql for member in members)
            return Part(f"({value.sql} IN ({listed}))", "boolean", lambda row: _in(value, members, row))
        sign = self.random.choice(list(_COMPARE))
        return Part(
            f"({value.sql} {sign} {other.sql})", "boolean", lambda row: _compared(sign, value, other, row)
        )


def _of(function: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else function(value)


def _equal(one: Any, other: Any) -> bool:
    return one is not None and other is not None and one == other


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<>": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def _compared(sign: str, one: Part, other: Part, row: Row) -> bool | None:
    left, right = one.value(row), other.value(row)
    if left is None or right is None:
        return None
    if one.kind != other.kind:
        written = (
            one if one.kind == "float" else other
        )  # a whole number is compared exactly with a written one
        if not written.literal:
            left, right = float(left), float(right)
    return _COMPARE[sign](left, right)


def _in(value: Part, members: Sequence[Part], row: Row) -> bool | None:
    if value.value(row) is None:
        return None
    return any(_compared("=", value, member, row) for member in members)


def _and(one: Part, other: Part, row: Row) -> bool | None:
    found = {one.value(row), other.value(row)}
    return False if False in found else None if None in found else True


def _or(one: Part, other: Part, row: Row) -> bool | None:
    found = {one.value(row), other.value(row)}
    return True if True in found else None if None in found else False


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _computed(sign: str, one: Part, other: Part, row: Row) -> float | None:
    left, right = one.value(row), other.value(row)
    if left is None or right is None:
        return None
    left, right = float(left), float(right)
    if sign in "/%" and right == 0:
        return None
    if sign == "%":
        return None if math.isinf(left) else math.fmod(left, right)
    if sign == "/":
        return _number(left / right)
    return _number({"+": left + right, "-": left - right, "*": left * right}[sign])


def _called(name: str, digits: int, value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if name == "abs" or math.isinf(number):
        return abs(number) if name == "abs" else number
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


def some_rows(generator: Generator, count: int) -> pa.RecordBatch:
    columns: list[pa.Array] = [pa.array(range(count))]
    for name, values in COLUMNS.items():
        drawn = [
            None if generator.random.random() < 0.2 else generator.random.choice(values) for _ in range(count)
        ]
        columns.append(pa.array(drawn, pa.binary()).view(pa.string()) if name == "s" else pa.array(drawn))
    types = {"d": pa.date32(), "t": pa.timestamp("us", tz="UTC"), "n": pa.int64(), "m": pa.int64()}
    types |= {"x": pa.float64(), "y": pa.float64(), "f": pa.bool_()}
    names = ["id", *COLUMNS]
    cast = [one.cast(types.get(name, one.type)) for name, one in zip(names, columns, strict=True)]
    return pa.RecordBatch.from_arrays(cast, names=names)


def known(batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    """Return the values of a row as the language has them."""
    found: dict[str, Any] = {}
    for name in COLUMNS:
        column = batch.column(name)
        try:
            value = column[row].as_py()
        except UnicodeDecodeError:
            value = None
        if isinstance(value, float) and math.isnan(value):
            value = None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        found[name] = value
    return found


def check(seed: int, *, rule_sets: int, rows: int, explain: bool = False, log: Any = print) -> dict[str, int]:
    """Check rule sets, and return how many rows were decided wrongly and how many rule sets raised."""
    generator = Generator(seed)
    found = {"rows": 0, "wrong": 0, "raised": 0}
    for _ in range(rule_sets):
        conditions = [
            generator.condition(generator.random.randint(0, 3)) for _ in range(generator.random.randint(1, 3))
        ]
        reason = " ".join(f"{{{name}}}" for name in COLUMNS if name != "s")
        content = {
            "rule_set": "extreme",
            "key": "id",
            "signals": {name: {"kind": "column"} for name in COLUMNS},
            "rules": [
                {"name": f"r{number}", "when": one.sql, "then": f"d{number}", "reason": reason}
                for number, one in enumerate(conditions)
            ],
            "default": "none",
            "on_unknown": generator.random.choice([None, "review"]),
        }
        batch = some_rows(generator, rows)
        try:
            rule_set = RuleSet.model_validate(content)
            decided = (
                Engine(rule_set, batch.schema).decide(batch, explain=explain).column("decision").to_pylist()
            )
        except Exception as error:  # none is right
            found["raised"] += 1
            log(f"{type(error).__name__}: {str(error)[:200]}: {[one.sql[:300] for one in conditions]}")
            continue
        found["rows"] += rows
        for row in range(rows):
            values = known(batch, row)
            wanted = _decision(conditions, values, content["on_unknown"])
            if wanted != decided[row]:
                found["wrong"] += 1
                shown = {name: repr(value)[:40] for name, value in values.items()}
                log(f"{wanted}, not {decided[row]}: {[one.sql[:300] for one in conditions]} {shown}")
    return found


def _decision(conditions: Sequence[Part], row: Row, on_unknown: str | None) -> str:
    for number, one in enumerate(conditions):
        value = one.value(row)
        if value is True:
            return f"d{number}"
        if value is None and on_unknown is not None:
            return on_unknown
    return "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rule_sets", type=int)
    parser.add_argument("rows", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--explain", action="store_true")
    given = parser.parse_args()
    began = time.process_time()
    found = check(given.seed, rule_sets=given.rule_sets, rows=given.rows, explain=given.explain)
    print(f"{found}; {time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
