"""Explanations at the ends of the numbers, of the calendar and of texts."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from modelmill.rules.engine import Engine
from modelmill.rules.rule_set import RuleSet

DENSE = 2**53


def explained(when: str, value: Any, kind: pa.DataType) -> dict[str, Any]:
    rule_set = RuleSet.model_validate(
        {
            "rule_set": "extreme",
            "key": "id",
            "signals": {"x": {"kind": "column"}},
            "rules": [{"name": "r", "when": when, "then": "remove", "reason": "{x}"}],
            "default": "allow",
        }
    )
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([value], kind)], names=["id", "x"])
    (found,) = Engine(rule_set, batch.schema).decide(batch, explain=True).to_pylist()
    row: dict[str, Any] = found
    return row


def change(when: str, value: Any, kind: pa.DataType) -> Any:
    """Return the new value of the nearest change."""
    (found,) = explained(when, value, kind)["explanation"]["changes"]
    return next(
        (found[name] for name in ("integer", "number", "text", "time") if found[name] is not None), None
    )


@pytest.mark.parametrize(
    ("when", "value", "new"),
    [
        ("x % 100 < 70", 1712345678901234567, 171234567890123456),  # computed with: any that is found
        ("x > 1e19", 5, None),
        ("x = 9007199254740993", DENSE, DENSE + 1),  # as integers
        ("x > 9007199254740992.0", DENSE, DENSE + 1),
        ("coalesce(x, 0.5) > 9007199254740992.0", DENSE, DENSE + 2),  # the next integer is the same double
        ("x < 9007199254740992.0", DENSE, DENSE - 1),
        ("x IN (9223372036854775807)", 2**63 - 2, 2**63 - 1),
        ("x >= 0", -(2**63), 0),
        ("x <> 0", 0, -1),
    ],
)
def test_whole_numbers_beyond_doubles_are_exact(when: str, value: int, new: int | None) -> None:
    decision = explained(when, value, pa.int64())
    if new is None:
        assert decision["explanation"]["changes"] == []  # no integer is that large
    elif "%" not in when:
        assert change(when, value, pa.int64()) in (new, -new)


@pytest.mark.parametrize(
    ("when", "value", "new"),
    [
        ("x > 1", math.inf, 1.0),
        ("x < 1", -math.inf, 1.0),
        ("x > 1.7976931348623157e308", 0.0, math.inf),
        ("x > 0", 0.0, 5e-324),
        ("x = 0", -0.0, 5e-324),
        ("x >= 5e-324", 5e-324, 0.0),
        ("x NOT IN (1, 2)", 0.0, 1.0),  # from 0 too the nearest one
        ("x < -3 OR x > 2", 0.0, math.nextafter(2, 3)),
        ("nullif(x, 3) >= 2", 3.0, math.nextafter(3, 4)),
    ],
)
def test_the_nearest_double_is_named(when: str, value: float, new: float) -> None:
    found = change(when, value, pa.float64())
    assert abs(found - value) <= abs(new - value) or found == new
    assert found == new or abs(found) == abs(new)


def test_times_end_with_the_calendar() -> None:
    last, first = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    kind = pa.timestamp("us", tz="UTC")
    assert change("x < TIMESTAMP '9999-12-31 23:59:59.999999'", first, kind) == last
    assert change("x > TIMESTAMP '0001-01-01 00:00:00'", last, kind) == first
    assert change("x = TIMESTAMP '0001-01-01 00:00:00'", first, kind) > first
    beyond = pa.scalar(2**62).cast(pa.timestamp("us")).cast(kind)
    rule_set = RuleSet.model_validate(
        {
            "rule_set": "late",
            "key": "id",
            "signals": {"x": {"kind": "column"}},
            "rules": [{"name": "r", "when": "x > DATE '2026-01-01'", "then": "late", "reason": "{x}"}],
            "default": "allow",
        }
    )
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1]), pa.array([beyond.value], pa.int64()).cast(kind)], names=["id", "x"]
    )
    decided = Engine(rule_set, batch.schema).decide(batch, explain=True)
    assert decided.column("decision").to_pylist() == ["late"]


def test_numbers_keep_every_digit() -> None:
    decision = explained("x > 1250000.25", 1250000.5, pa.float64())
    (found,) = decision["explanation"]["changes"]
    assert (found["old"], found["new"], found["number"]) == ("1250000.5", "1250000.25", 1250000.25)
    assert decision["reason"] == "1250000.5"


def explanations(when: str, columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the explanation of each row of several columns, one of which may be unknown."""
    batch = pa.RecordBatch.from_pydict({"id": range(len(next(iter(columns.values())))), **columns})
    rule_set = RuleSet.model_validate(
        {
            "rule_set": "extreme",
            "key": "id",
            "signals": {name: {"kind": "column"} for name in columns},
            "rules": [{"name": "r", "when": when, "then": "above"}],
            "default": "none",
            "on_unknown": "review",
        }
    )
    found: list[dict[str, Any]] = (
        Engine(rule_set, batch.schema).decide(batch, explain=True).column("explanation").to_pylist()
    )
    return found


def test_rows_with_an_unknown_value_are_alike_only_with_equal_other_values() -> None:
    y = pa.array([None, None], pa.float64())
    found = explanations("nullif(y, c) > c", {"y": y, "c": [1e19, -1e31]})
    changed = [(one["other_decision"], [change["number"] for change in one["changes"]]) for one in found]
    assert changed == [("none", [0.0]), ("above", [0.0])]


def test_integers_that_are_one_double_are_not_like_smaller_ones() -> None:
    m = [2**60, 2**53 - 1, 1_000_000]
    found = explanations("n >= nullif(m, 1.5e308)", {"n": [7, 7, 7], "m": m})
    for value, one in zip(m, found, strict=True):
        ((name, new),) = ((change["signal"], change["integer"]) for change in one["changes"])
        changed = {"n": 7, "m": value} | {name: new}
        assert float(changed["n"]) >= float(changed["m"]), changed
