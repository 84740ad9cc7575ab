"""A few of the random rule sets of ``benchmarks/extreme_rules.py``."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pyarrow as pa

from modelmill.rules.engine import Engine
from modelmill.rules.rule_set import RuleSet


def test_values_at_the_ends_of_their_range_are_decided_as_python_does(
    benchmark_module: Callable[[str], ModuleType],
) -> None:
    found = benchmark_module("extreme_rules").check(7, rule_sets=60, rows=12)
    assert found == {"rows": 720, "wrong": 0, "raised": 0}


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
