"""Assignments of values to signals around one row, many of which are evaluated at once.

Each signal takes one value of each of its regions (:mod:`.domains`). If all domains are exact, what holds for
all assignments holds for all values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.evaluation.possible_values import Uncertain
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.explanation.domains import Domain, domains_of
from modelmill.signals.groups import Mask
from modelmill.signals.values import STORED

MAX_ROWS = 4096
"""Assignments that are evaluated together; beyond that nothing is proved."""
MAX_WORK = 100_000
"""Steps that each search may evaluate, each on 512 assignments: about a second."""
_MAX_STUCK = 64
"""Assignments for which a decision is sought that holds whatever the signals are that were not computed."""

Assignments = npt.NDArray[np.int32]
"""A row for each assignment, a column for each signal: the number of its value, or one of these two."""
NOT_COMPUTED = -1
ACTUAL = 0
"""Number of the value that the signal has on the row that is explained."""

Decisions = npt.NDArray[np.int64]
"""Number of the decision of each assignment; ``OPEN`` if it is not settled."""
Changes = tuple[tuple[str, Any], ...]
"""Signals with new values."""


class SearchExhausted(Exception):  # noqa: N818 (never leaves this package)
    """The search has done as much work as it may."""


class DecisionSpace:
    """The decisions of a rule set, and the domains of its signals.

    :param program: the rules.
    """

    def __init__(self, program: RuleProgram) -> None:
        self.program = program
        self.domains: dict[str, Domain] = domains_of(program.analysis, program.compiled.kinds)
        compiled = program.compiled
        count = compiled.no_rule + 1 + (0 if program.truth_only else compiled.no_rule)
        names = [compiled.decision(outcome) for outcome in range(count)]
        self.decisions = list(dict.fromkeys(names))
        self.decision_of = np.array([self.decisions.index(name) for name in names])
        """Number of the decision of each outcome."""


class RowAssignments:
    """Assignments around one row.

    :param space: of the rule set.
    :param values: values of the signals that are known on the row, None for NULL. They settle it.
    """

    def __init__(self, space: DecisionSpace, values: Mapping[str, Any]) -> None:
        self.space = space
        self.names = list(space.domains)
        self.place = {name: place for place, name in enumerate(self.names)}
        self.known = [name for name in self.names if name in values]
        self.values = values
        self.choices = {name: self._choices(name) for name in self.names}
        """The values that each signal takes, the actual one first."""
        self._arrays = {
            name: pa.array(found, STORED[space.domains[name].kind]) for name, found in self.choices.items()
        }
        self._sets = {
            name: np.append(possible.sets_of(array), np.uint8(possible.ANYTHING))  # the last: NOT_COMPUTED
            for name, array in self._arrays.items()
            if space.domains[name].kind == "boolean"
        }
        self._work = -len(space.program.analysis.live)  # the first evaluation is free
        (self.decision,) = self.evaluate(self.assignment(self.known))[0]

    def _choices(self, name: str) -> list[Any]:
        domain = self.space.domains[name]
        company = [self.values.get(other) for other in domain.company]
        found = domain.values(self.values.get(name), company)
        # A signal that was never computed has no actual value: number 0 only takes its place.
        return found if name in self.values else [None, *(one for one in found if one is not None), None]

    def restart_budget(self) -> None:
        """Allow as much work again as at the start."""
        self._work = 0

    def assignment(self, fixed: Iterable[str]) -> Assignments:
        """Return the one assignment in which some signals have their actual values, and no other is known."""
        found = np.full((1, len(self.names)), NOT_COMPUTED, np.int32)
        found[0, [self.place[name] for name in fixed]] = ACTUAL
        return found

    def evaluate(self, rows: Assignments) -> tuple[Decisions, dict[str, Mask]]:
        """Evaluate assignments.

        :param rows: the assignments.
        :return: the decision of each, and for each signal where it is still demanded.
        :raises SearchExhausted: if that would be too much work.
        """
        program = self.space.program
        self._work += len(program.analysis.live) * (1 + len(rows) // 512)
        if self._work > MAX_WORK:
            raise SearchExhausted
        partial = program.begin(len(rows))
        states: dict[str, Any] = {}
        for name, place in self.place.items():
            index = rows[:, place]
            if (index == NOT_COMPUTED).all():
                continue
            if name in self._sets:
                states[name] = self._sets[name][index]
            else:
                unknown = index == NOT_COMPUTED
                states[name] = Uncertain(self._arrays[name].take(pa.array(index, mask=unknown)), unknown)
        partial.set(states)
        outcomes, asked = program.outcomes(partial)
        decisions = np.where(outcomes == OPEN, OPEN, self.space.decision_of[outcomes])
        return decisions, partial.demand(asked) if asked else {}

    def differs(self, decisions: Decisions) -> Mask:
        """Return which decisions are settled, and others than that of the row."""
        found: Mask = (decisions != OPEN) & (decisions != self.decision)
        return found

    @functools.cached_property
    def singles(self) -> tuple[Assignments, npt.NDArray[np.int64], Decisions]:
        """All assignments with another value of one signal: the assignments, its places, the decisions."""
        places = np.array([self.place[name] for name in self.names for _ in self.choices[name][1:]], np.int64)
        if not 0 < len(places) <= 8 * MAX_ROWS:
            return np.empty((0, len(self.names)), np.int32), places[:0], places[:0]
        rows = np.repeat(self.assignment(self.known), len(places), axis=0)
        numbers = [np.arange(1, len(self.choices[name])) for name in self.names]
        rows[np.arange(len(rows)), places] = np.concatenate(numbers)
        return rows, places, self.evaluate(rows)[0]

    def branched(
        self, rows: Assignments, left: Mask, demand: Mapping[str, Mask]
    ) -> tuple[Assignments, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Give one more signal each of its values in every assignment that is left.

        :param rows: the assignments.
        :param left: which of them to branch.
        :param demand: where each signal is demanded.
        :return: new assignments; the number of the assignment that each comes from; and the numbers of those
            whose signal has a domain that is not exact.
        """
        parts, origins, inexact = [rows[:0]], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        waiting = left.copy()
        for name in self.by_domain(demand):
            here = np.flatnonzero(waiting & demand[name])
            if len(here) == 0:
                continue
            waiting[here] = False
            if not self.space.domains[name].exact:
                inexact.append(here)
            first = 0 if name in self.values else 1
            count = len(self.choices[name]) - first
            part = np.repeat(rows[here], count, axis=0)
            part[:, self.place[name]] = np.tile(np.arange(first, first + count), len(here))
            parts.append(part)
            origins.append(np.repeat(here, count))
        return np.concatenate(parts), np.concatenate(origins), np.concatenate(inexact)

    def by_domain(self, demand: Mapping[str, Mask]) -> list[str]:
        """Return the demanded signals: those with exact domains first, then those with few values."""
        return sorted(demand, key=lambda name: (not self.space.domains[name].exact, len(self.choices[name])))

    def others(self, rows: Assignments, decisions: Decisions) -> list[tuple[Changes, int]]:
        """Return the changes and the decision of each assignment that is sure to lead to another decision."""
        settled = decisions.copy()
        stuck = np.flatnonzero(decisions == OPEN)[:_MAX_STUCK]
        settled[stuck] = self._other_anyway(rows[stuck])
        differ = np.flatnonzero(self.differs(settled))
        return [(self._changes(rows[place]), int(settled[place])) for place in differ]

    def sure(self, rows: Assignments, open_rows: Mask) -> Assignments:
        """Return the open assignments that lead to one other decision whatever their missing signals are."""
        stuck = np.flatnonzero(open_rows)[:_MAX_STUCK]
        found: Assignments = rows[stuck[self._other_anyway(rows[stuck]) != OPEN]]
        return found

    def _other_anyway(self, rows: Assignments) -> Decisions:
        """Return the one other decision that follows whatever the signals are that were never computed.

        :param rows: assignments.
        :return: a decision for each; ``OPEN`` if there is none, or it is not proved.
        """
        found = np.full(len(rows), OPEN, np.int64)
        failed = np.zeros(len(rows), np.bool_)
        frontier, owners = rows, np.arange(len(rows))
        while len(frontier):
            decisions, demand = self.evaluate(frontier)
            done = decisions != OPEN
            for owner, decision in set(zip(owners[done].tolist(), decisions[done].tolist(), strict=True)):
                failed[owner] |= decision == self.decision or found[owner] not in (OPEN, decision)
                found[owner] = decision
            left = ~done & ~failed[owners]
            frontier, origins, inexact = self.branched(frontier, left, demand)
            failed[owners[inexact]] = True
            owners = owners[origins]
            failed |= np.bincount(owners, minlength=len(rows)) > MAX_ROWS
            kept = ~failed[owners]
            frontier, owners = frontier[kept], owners[kept]
        return np.where(failed, OPEN, found)

    def _changes(self, row: Any) -> Changes:
        numbers = [(name, row[self.place[name]]) for name in self.names]
        return tuple((name, self.choices[name][number]) for name, number in numbers if number > ACTUAL)
