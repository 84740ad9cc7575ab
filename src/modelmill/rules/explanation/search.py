"""Searches why a row has its decision, and the fewest changes that lead to another one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.explanation.assignments import Changes, DecisionSpace, RowAssignments, SearchExhausted
from modelmill.rules.explanation.counterfactuals import counterfactuals
from modelmill.rules.explanation.sufficient_set import smallest_sufficient_set

_MAX_CACHED = 50_000
"""Results that are kept, for rows whose signals are in the same regions."""


@dataclass(frozen=True)
class SignalChange:
    """One signal of a counterfactual."""

    signal: str
    old: Any
    """None: unknown, or never computed."""
    new: Any
    region: str
    """Region of the new value, such as ``above 0.9``."""


@dataclass(frozen=True)
class RowExplanation:
    """Why a row has its decision."""

    sufficient: tuple[str, ...]
    """Signals whose values settle the decision, whatever the others are."""
    minimal: bool
    """Whether it is proved that no smaller set is sufficient."""
    changes: tuple[SignalChange, ...]
    """The fewest changes that lead to another decision; empty if none were found."""
    other_decision: str | None
    """That other decision."""


@dataclass(frozen=True)
class _RegionExplanation:
    """What holds for every row whose signals are in the same regions."""

    sufficient: tuple[str, ...]
    minimal: bool
    options: tuple[tuple[Changes, int], ...]
    """Every way to another decision by the fewest changes, and the number of that decision."""


class ExplanationSearch:
    """Explains rows of one rule set, and remembers what holds for rows like them.

    :param program: the rules.
    """

    def __init__(self, program: RuleProgram) -> None:
        self._space = DecisionSpace(program)
        self.domains = self._space.domains
        self._cached: dict[Any, _RegionExplanation] = {}

    def explain(self, values: Mapping[str, Any]) -> RowExplanation:
        """Explain one row.

        :param values: values of the signals that are known, None for NULL. They settle the row.
        :return: the smallest sufficient set, and the nearest counterfactual.
        """
        values = {name: values[name] for name in self.domains if name in values}
        key = tuple((name, self.domains[name].region(value)) for name, value in values.items())
        if key not in self._cached:
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key] = _explain_regions(RowAssignments(self._space, values))
        found = self._cached[key]
        # Of rows in the same regions only the distances to other regions differ.
        options = [
            ([self._change(name, new, values) for name, new in changes], decision)
            for changes, decision in found.options
        ]
        changes, decision = min(options, key=lambda option: _distance(option[0]), default=([], None))
        named = None if decision is None else self._space.decisions[decision]
        return RowExplanation(found.sufficient, found.minimal, tuple(changes), named)

    def _change(self, name: str, new: Any, values: Mapping[str, Any]) -> SignalChange:
        """Return a change that was found for another row of the same regions, for the values of this one."""
        old, domain = values.get(name), self.domains[name]
        wanted = domain.region(new)
        nearest = next((one for one in domain.values(old) if domain.region(one) == wanted), new)
        return SignalChange(name, old, nearest, domain.described(nearest))


def _explain_regions(row: RowAssignments) -> _RegionExplanation:
    try:
        sufficient, minimal = smallest_sufficient_set(row)
    except SearchExhausted:
        sufficient, minimal = row.known, False
    row.restart_budget()
    options: dict[tuple[Changes, int], None] = {}
    with contextlib.suppress(SearchExhausted):
        options = dict.fromkeys(counterfactuals(row))
    return _RegionExplanation(tuple(sufficient), minimal, tuple(options))


def _distance(changes: Sequence[SignalChange]) -> tuple[int, float]:
    """Return how many values become unknown, and the sum of the distances of the others."""
    return sum(change.new is None for change in changes), sum(
        (_apart(change.old, change.new) for change in changes), 0.0
    )


def _apart(old: Any, new: Any) -> float:
    """Return the distance of two values, from 0 to 1; 1 if their kind has no distances."""
    if isinstance(old, datetime) and isinstance(new, datetime):
        days = abs((new - old).total_seconds()) / 86_400
        return days / (days + 1)
    numbers = isinstance(old, int | float) and isinstance(new, int | float) and not isinstance(old, bool)
    if not numbers or not (math.isfinite(old) and math.isfinite(new)):
        return 1.0
    return abs(new - old) / (abs(new) + abs(old)) if new != old else 0.0
