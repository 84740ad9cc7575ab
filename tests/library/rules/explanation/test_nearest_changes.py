"""The nearest change: ways that cannot be the nearest are dropped, and words do not depend on hashes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from modelmill.rules.engine import Engine
from modelmill.rules.explanation import search
from modelmill.rules.explanation.counterfactuals import Ways
from modelmill.rules.explanation.nearest_changes import without_farther
from modelmill.rules.explanation.trials import DecisionTable
from modelmill.rules.rule_set import RuleSet

KINDS = {
    "a": pa.bool_(),
    "b": pa.bool_(),
    "t": pa.string(),
    "n": pa.int64(),
    "m": pa.int64(),
    "x": pa.float64(),
}
VALUES: dict[str, list[Any]] = {
    "a": [True, False],
    "t": ["x", "y", "z"],
    "n": [-2, 0, 1, 5],
    "x": [-1.5, 0.0, 0.5, 2.0],
}
CONDITIONS = {
    "a": ["a", "b", "a IS NULL", "NOT b"],
    "t": ["t = 'x'", "t IN ('x', 'y')", "t IS NOT NULL", "t > 'y'"],
    "n": ["n > 0", "n BETWEEN -1 AND 3", "m = 1", "n IS NULL", "n < m"],
    "x": ["x > 0.25", "x <= -1", "x = 2", "x + 1 > 1.5"],
}


def rule_set(make: random.Random) -> RuleSet:
    def condition(depth: int) -> str:
        if depth == 0 or make.random() < 0.2:
            return make.choice(CONDITIONS[make.choice("atnx")])
        return f"({condition(depth - 1)} {make.choice(['AND', 'OR'])} {condition(depth - 1)})"

    rules = [{"name": f"r{at}", "when": condition(3), "then": make.choice("pqr")} for at in range(3)]
    signals = {name: {"kind": "column"} for name in KINDS}
    on_unknown = make.choice([None, "review"])
    content = {"signals": signals, "rules": rules, "default": "none", "on_unknown": on_unknown}
    return RuleSet.model_validate({"rule_set": "random", "key": "id", **content})


def rows(make: random.Random, count: int) -> pa.RecordBatch:
    columns = {"id": pa.array(range(count))}
    for name, kind in KINDS.items():
        values = VALUES[{"b": "a", "m": "n"}.get(name, name)]
        columns[name] = pa.array([make.choice([*values, None]) for _ in range(count)], kind)
    return pa.RecordBatch.from_pydict(columns)


def test_ways_that_are_dropped_were_never_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    make = random.Random(0)
    cases = [(rule_set(make), rows(make, 60)) for _ in range(40)]
    counts = [0, 0]

    def counted(table: DecisionTable, ways: Sequence[Ways]) -> list[Ways]:
        found = without_farther(table, ways)
        counts[0] += sum(len(one.lines) for one in ways)
        counts[1] += sum(len(one.lines) for one in found)
        return found

    monkeypatch.setattr(search, "without_farther", counted)
    found = [Engine(one, batch.schema).decide(batch, explain=True) for one, batch in cases]
    assert counts[1] < 0.95 * counts[0]
    monkeypatch.setattr(search, "without_farther", lambda _, ways: list(ways))
    for (one, batch), expected in zip(cases, found, strict=True):
        assert Engine(one, batch.schema).decide(batch, explain=True) == expected


def test_the_words_for_a_region_are_those_of_the_constants_in_their_order() -> None:
    """Two of them are above every integer: which is named must not depend on hashes."""
    cases = [f"n <= CASE WHEN n = {at} THEN n ELSE {end} END" for at, end in ((5, "2e19"), (7, "1e19"))]
    when = " OR ".join([*cases, "n IN (3, 9, 1)"])
    content = {
        "signals": {"n": {"kind": "column"}},
        "rules": [{"name": "r", "when": when, "then": "p"}],
        "default": "none",
    }
    schema = pa.schema({"id": pa.int64(), "n": pa.int64()})
    engine = Engine(RuleSet.model_validate({"rule_set": "words", "key": "id", **content}), schema)
    constants = [one.value for one in engine._explainer._search.domains["n"].constants]
    assert constants == [1, 3, 5, 7, 9, 1e19, 2e19]
    batch = pa.RecordBatch.from_pydict({"id": [0], "n": [8]})
    (row,) = engine.decide(batch, explain=True).to_pylist()
    assert row["explanation"]["signals"][0]["region"] == "below 1e+19"
