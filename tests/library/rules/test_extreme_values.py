"""A few of the random rule sets of ``benchmarks/extreme_rules.py``."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def test_values_at_the_ends_of_their_range_are_decided_as_python_does(
    benchmark_module: Callable[[str], ModuleType],
) -> None:
    found = benchmark_module("extreme_rules").check(7, rule_sets=60, rows=12)
    assert found == {"rows": 720, "wrong": 0, "raised": 0}
