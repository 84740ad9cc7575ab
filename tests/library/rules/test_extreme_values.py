"""A few of the random rule sets of ``benchmarks/extreme.py``."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import ModuleType

import pyarrow as pa

from modelmill.rules.engine import Engine
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.values import stored


def test_decisions_and_explanations_are_those_of_brute_force(
    benchmark_module: Callable[[str], ModuleType],
) -> None:
    found = dict(benchmark_module("extreme").check(20261128, [0], rule_sets=60))
    assert (found.pop("rule_sets"), found.pop("rows")) == (60, 240)
    assert not any(found.values()), found


def test_a_written_whole_number_is_compared_exactly_on_either_side() -> None:
    found = decided("(-9.223372036854776e+18) IS DISTINCT FROM (-9223372036854775807)")
    assert found == decided("(-9223372036854775807) IS DISTINCT FROM (-9.223372036854776e+18)") == ["y"]
    assert decided("9223372036854775808 NOT IN (9223372036854775807, 7)") == ["y"]


def test_a_decimal_is_the_nearest_double() -> None:
    texts = ["-0.1", "0.3", "9007199254740993", "1e31", None]
    decimals = pa.array([None if one is None else Decimal(one) for one in texts], pa.decimal128(38, 6))
    found = stored(decimals, "float").to_pylist()
    assert found == [None if one is None else float(one) for one in texts]


def decided(condition: str) -> list[str]:
    content = {
        "rule_set": "literals",
        "key": "id",
        "signals": {"n": {"kind": "column"}},
        "rules": [{"name": "a", "when": f"{condition} AND n = 1", "then": "y"}],
        "default": "x",
    }
    batch = pa.RecordBatch.from_pydict({"id": [1], "n": [1]})
    return Engine(RuleSet.model_validate(content), batch.schema).decide(batch).column("decision").to_pylist()


def test_rules_that_read_no_signals_are_explained() -> None:
    content = {
        "rule_set": "constant",
        "key": "id",
        "signals": {"n": {"kind": "column"}},
        "rules": [{"name": "a", "when": "'a' IS NULL", "then": "y"}],
        "default": "x",
    }
    batch = pa.RecordBatch.from_pydict({"id": [1, 2], "n": [1, None]})
    found = Engine(RuleSet.model_validate(content), batch.schema).decide(batch, explain=True)
    assert found.column("decision").to_pylist() == ["x", "x"]
    assert [one["signals"] for one in found.column("explanation").to_pylist()] == [[], []]
