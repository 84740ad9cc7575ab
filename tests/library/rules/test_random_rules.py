"""A few of the random cases of ``benchmarks/random_rules.py``."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def checks(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("random_rules")


def test_decisions_are_duckdbs_and_do_not_depend_on_the_stages(checks: ModuleType) -> None:
    found = checks.check_decisions(20261125, rule_sets=250, rows=20)
    assert found["rows"] == 5000
    assert (found["duckdb"], found["staged"], found["not_needed"]) == (0, 0, 0)
    assert found["signals_saved"] > 0.1 * found["signals"]  # the stages did leave signals out


def test_explanations_are_those_of_every_assignment(checks: ModuleType) -> None:
    found = checks.check_explanations(20261125, rule_sets=40, rows=10)
    assert found.pop("cases") == 400
    assert found.pop("skipped") < 40
    assert not any(found.values()), found
