"""Which values settle a decision, and what would have to change for another one.

A *sufficient set* is a set of signals whose values lead to the decision whatever the others are; a
*contrastive set* can change it. Every sufficient set has a member of every contrastive set, so the smallest
sufficient one is a smallest hitting set of the contrastive ones, which are found as they are needed (Reiter
1987; Ignatiev et al. 2020). The nearest counterfactual is a contrastive set with the fewest members.

Everything is asked of the engine's own partial evaluation, on many assignments at once. A signal takes one
value of each of its regions (:mod:`.domains`); where all domains are exact, the answers are.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.evaluation.possible_values import Uncertain
from modelmill.rules.evaluation.staged_evaluation import RuleProgram
from modelmill.rules.explanation.domains import Domain, domains_of
from modelmill.signals.values import STORED

_MOST_ROWS = 4096
"""Assignments that are looked at together; beyond that nothing is proved."""
_MOST_WORK = 100_000
"""Steps that are evaluated for each half of an explanation, on 512 assignments each: about a second."""
_MOST_SETS = 100
"""Contrastive sets that are collected."""
_MOST_CHANGES = 4
_MOST_KNOWN = 50_000
"""Explanations that are kept for rows whose signals are in the same regions."""
_MOST_STUCK = 64
"""Assignments whose decision is looked for under any value of the signals that were never computed."""

Assignments = npt.NDArray[np.int32]
"""A row for each assignment, a column for each signal: the number of its value; -1: not computed."""
_NOT_COMPUTED = -1
_ACTUAL = 0
"""Number of the value that a signal has."""


class _Exhausted(Exception):  # noqa: N818 (never leaves this module)
    """The search has done as much as it may."""


@dataclass(frozen=True)
class Change:
    """One signal of a counterfactual."""

    signal: str
    old: Any
    """None: unknown, or never computed."""
    new: Any
    region: str
    """The new value's region, such as ``above 0.9``."""


@dataclass(frozen=True)
class Findings:
    """Why a row has its decision."""

    sufficient: tuple[str, ...]
    minimal: bool
    """Whether it is proved that no smaller set is sufficient."""
    changes: tuple[Change, ...]
    """The fewest changes that lead to another decision; empty if none was found."""
    decision: str | None
    """That other decision."""


class Search:
    """Explains rows of one rule set.

    :param program: the rules.
    """

    def __init__(self, program: RuleProgram) -> None:
        self.program = program
        self.domains: dict[str, Domain] = domains_of(program.analysis, program.compiled.kinds)
        self._known: dict[Any, _Found] = {}
        compiled = program.compiled
        count = compiled.no_rule + 1 + (0 if program.truth_only else compiled.no_rule)
        names = [compiled.decision(outcome) for outcome in range(count)]
        self.decisions = list(dict.fromkeys(names))
        self.decision_of = np.array([self.decisions.index(name) for name in names])

    def explain(self, values: Mapping[str, Any]) -> Findings:
        """Explain one row.

        :param values: the signals that are known, None for NULL; those that were never needed are left out.
            They settle the row.
        :return: the smallest sufficient set, and the nearest counterfactual.
        """
        values = {name: values[name] for name in self.domains if name in values}
        key = tuple((name, self.domains[name].region(value)) for name, value in values.items())
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            # Within its region a value changes nothing but how far away the others are.
            self._known[key] = _Row(self, values).found()
        return self._nearest(self._known[key], values)

    def _nearest(self, found: _Found, values: Mapping[str, Any]) -> Findings:
        options = [
            ([self._change(name, new, values) for name, new in changes], decision)
            for changes, decision in found.options
        ]
        changes, decision = min(options, key=lambda option: _distance(option[0]), default=([], None))
        named = None if decision is None else self.decisions[decision]
        return Findings(found.sufficient, found.minimal, tuple(changes), named)

    def _change(self, name: str, new: Any, values: Mapping[str, Any]) -> Change:
        """Bring a change that was found for a row of the same regions to the values of this one."""
        old, domain = values.get(name), self.domains[name]
        wanted = domain.region(new)
        nearest = next((one for one in domain.values(old) if domain.region(one) == wanted), new)
        return Change(name, old, nearest, domain.described(nearest))


@dataclass(frozen=True)
class _Found:
    """What holds for every row whose signals are in the same regions."""

    sufficient: tuple[str, ...]
    minimal: bool
    options: tuple[tuple[tuple[tuple[str, Any], ...], int], ...]
    """Every way to another decision by the fewest changes: signals with new values, and the decision."""


class _Row:
    """The search for one row."""

    def __init__(self, search: Search, values: Mapping[str, Any]) -> None:
        self.search = search
        self.names = list(search.domains)
        self.place = {name: place for place, name in enumerate(self.names)}
        self.known = [name for name in self.names if name in values]
        self.values = values
        self.choices = {name: self._choices(name) for name in self.names}
        self.arrays = {
            name: pa.array(found, STORED[search.domains[name].kind]) for name, found in self.choices.items()
        }
        self.sets = {
            name: np.append(possible.sets_of(array), np.uint8(possible.ANYTHING))  # -1: not computed
            for name, array in self.arrays.items()
            if search.domains[name].kind == "boolean"
        }
        self.work = -len(search.program.analysis.live)  # the first one is free
        (self.decision,) = self.evaluate(self.assignment(self.known))[0]

    def _choices(self, name: str) -> list[Any]:
        domain = self.search.domains[name]
        company = [self.values.get(other) for other in domain.company]
        found = domain.values(self.values.get(name), company)
        # The value of a signal that was never computed is not known: number 0 stands for nothing.
        return found if name in self.values else [None, *(one for one in found if one is not None), None]

    def found(self) -> _Found:
        try:
            sufficient, minimal = self.sufficient_set()
        except _Exhausted:
            sufficient, minimal = self.known, False
        self.work = 0
        options: dict[Any, None] = {}
        with contextlib.suppress(_Exhausted):
            options = dict.fromkeys(self.counterfactuals())
        return _Found(tuple(sufficient), minimal, tuple(options))

    def assignment(self, fixed: Iterable[str]) -> Assignments:
        """Return the assignment where some signals have their values, and nothing else is known."""
        found = np.full((1, len(self.names)), _NOT_COMPUTED, np.int32)
        found[0, [self.place[name] for name in fixed]] = _ACTUAL
        return found

    def evaluate(self, rows: Assignments) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Return the decision of each assignment (``OPEN`` where it is not settled), and what is demanded."""
        program = self.search.program
        self.work += len(program.analysis.live) * (1 + len(rows) // 512)
        if self.work > _MOST_WORK:
            raise _Exhausted
        partial = program.begin(len(rows))
        states: dict[str, Any] = {}
        for name, place in self.place.items():
            index = rows[:, place]
            if (index == _NOT_COMPUTED).all():
                continue
            if name in self.sets:
                states[name] = self.sets[name][index]
            else:
                unknown = index == _NOT_COMPUTED
                states[name] = Uncertain(self.arrays[name].take(pa.array(index, mask=unknown)), unknown)
        partial.set(states)
        outcomes, asked = program.outcomes(partial)
        decisions = np.where(outcomes == OPEN, OPEN, self.search.decision_of[outcomes])
        return decisions, partial.demand(asked) if asked else {}

    # The smallest sufficient set

    def sufficient_set(self) -> tuple[list[str], bool]:
        conflicts = self._single_conflicts()
        for _ in range(_MOST_SETS):
            candidate = _hitting_set(conflicts, self.known)
            proved, counterexample = self._refute(candidate)
            if counterexample is None:
                if proved:
                    return [name for name in self.known if name in candidate], True
                break
            conflict = self._shrunk(counterexample)
            if not conflict or conflict in conflicts:
                break
            conflicts.append(conflict)
        return self._reduced(), False

    @functools.cached_property
    def _singles(self) -> tuple[Assignments, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every assignment where one signal has another value: with the signal's place, and the decision."""
        places = np.array([self.place[name] for name in self.names for _ in self.choices[name][1:]], np.int64)
        if not 0 < len(places) <= 8 * _MOST_ROWS:
            return np.empty((0, len(self.names)), np.int32), places[:0], places[:0]
        rows = np.repeat(self.assignment(self.known), len(places), axis=0)
        numbers = [np.arange(1, len(self.choices[name])) for name in self.names]
        rows[np.arange(len(rows)), places] = np.concatenate(numbers)
        return rows, places, self.evaluate(rows)[0]

    def _single_conflicts(self) -> list[frozenset[str]]:
        """Return the signals one of whose other values changes the decision by itself."""
        _, places, decisions = self._singles
        differ = (decisions != OPEN) & (decisions != self.decision)
        names = dict.fromkeys(self.names[place] for place in places[differ].tolist())
        return [frozenset({name}) for name in self.known if name in names]

    def _refute(self, fixed: Iterable[str]) -> tuple[bool, Assignments | None]:
        """Look for values of the other signals that change the decision.

        :param fixed: signals that keep their values.
        :return: whether it is proved that there are none, and an assignment if there is one.
        """
        frontier = self.assignment(fixed)
        proved = True
        while len(frontier):
            decisions, demand = self.evaluate(frontier)
            differ = (decisions != OPEN) & (decisions != self.decision)
            if differ.any():
                return False, frontier[np.flatnonzero(differ)[:1]]
            left = decisions == OPEN
            frontier, _, inexact = self._branched(frontier, left, demand)
            proved = proved and not len(inexact)
            if len(frontier) > _MOST_ROWS:
                return False, None
        return proved, None

    def _branched(
        self, rows: Assignments, left: npt.NDArray[np.bool_], demand: Mapping[str, Any]
    ) -> tuple[Assignments, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Give one more signal each of its values in every row that is left.

        :param rows: the assignments.
        :param left: which ones.
        :param demand: which signals each of them needs.
        :return: new assignments, which row each comes from, and the rows whose signal's domain is not exact.
        """
        parts, origins, inexact = [rows[:0]], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        waiting = left.copy()
        for name in self._by_domain(demand):
            here = np.flatnonzero(waiting & demand[name])
            if len(here) == 0:
                continue
            waiting[here] = False
            if not self.search.domains[name].exact:
                inexact.append(here)
            first = 0 if name in self.values else 1
            count = len(self.choices[name]) - first
            part = np.repeat(rows[here], count, axis=0)
            part[:, self.place[name]] = np.tile(np.arange(first, first + count), len(here))
            parts.append(part)
            origins.append(np.repeat(here, count))
        return np.concatenate(parts), np.concatenate(origins), np.concatenate(inexact)

    def _by_domain(self, demand: Mapping[str, Any]) -> list[str]:
        """Return what is demanded, that with an exact domain and few values first."""
        return sorted(demand, key=lambda name: (not self.search.domains[name].exact, len(self.choices[name])))

    def _shrunk(self, counterexample: Assignments) -> frozenset[str]:
        """Return a smallest part of the changed signals that still changes the decision."""
        row = counterexample[0].copy()
        for name in self.known:
            if row[self.place[name]] == _NOT_COMPUTED:
                row[self.place[name]] = _ACTUAL
        changed = [name for name in self.known if row[self.place[name]] != _ACTUAL]
        size = (len(changed) + 1) // 2
        while size:
            for start in range(0, len(changed), size):
                block = changed[start : start + size]
                trial = row.copy()
                trial[[self.place[name] for name in block]] = _ACTUAL
                (decision,) = self.evaluate(trial[None, :])[0]
                if decision not in (OPEN, self.decision):
                    row = trial
            changed = [name for name in changed if row[self.place[name]] != _ACTUAL]
            size //= 2
        return frozenset(changed)

    def _reduced(self) -> list[str]:
        """Return a sufficient set from which none can be left out without a proof that was not found."""
        kept = list(self.known)
        for name in self.known:
            trial = [one for one in kept if one != name]
            (decision,) = self.evaluate(self.assignment(trial))[0]
            if decision == self.decision:
                kept = trial
        return kept

    # The nearest counterfactual

    def counterfactuals(self) -> Iterator[tuple[tuple[tuple[str, Any], ...], int]]:
        rows, _, decisions = self._singles
        singles = self._others(rows, decisions)
        if singles:
            yield from singles
            return
        level = np.full((1, len(self.names)), _NOT_COMPUTED, np.int32)
        left_out = np.zeros((1, len(self.names)), np.bool_)
        for _ in range(_MOST_CHANGES + 1):
            solutions, level, left_out = self._level(level, left_out)
            if len(solutions):
                yield from self._others(solutions, self.evaluate(solutions)[0])
                return
            if len(level) == 0 or len(level) > _MOST_ROWS:
                return

    def _others(
        self, rows: Assignments, decisions: npt.NDArray[np.int64]
    ) -> list[tuple[tuple[tuple[str, Any], ...], int]]:
        """Return the changes and the decision of each assignment that leads to another decision."""
        settled = decisions.copy()
        stuck = np.flatnonzero(decisions == OPEN)[:_MOST_STUCK]
        settled[stuck] = self._other_anyway(rows[stuck])
        differ = np.flatnonzero((settled != OPEN) & (settled != self.decision))
        return [(self._changes(rows[place]), int(settled[place])) for place in differ]

    def _level(self, rows: Assignments, left_out: Any) -> tuple[Assignments, Assignments, Any]:
        """Follow assignments without another change.

        :param rows: the assignments.
        :param left_out: signals that stay not computed in each of them.
        :return: those that lead to another decision, and those that have one more change.
        """
        solutions, more, more_out = [], [rows[:0]], [left_out[:0]]
        budget = 8 * _MOST_ROWS
        while len(rows) and budget > 0:
            budget -= len(rows)
            decisions, demand = self.evaluate(rows)
            differ = (decisions != OPEN) & (decisions != self.decision)
            solutions += [rows[differ]] if differ.any() else []
            waiting = decisions == OPEN
            following, following_out = [rows[:0]], [left_out[:0]]
            for name in self._by_domain(demand):
                place = self.place[name]
                here = np.flatnonzero(waiting & demand[name] & ~left_out[:, place])
                if len(here) == 0:
                    continue
                waiting[here] = False
                part, part_out = rows[here].copy(), left_out[here].copy()
                if name in self.values:
                    part[:, place] = _ACTUAL
                else:
                    part_out[:, place] = True  # it stays unknown what it is
                following.append(part)
                following_out.append(part_out)
                count = len(self.choices[name]) - 1
                changed = np.repeat(rows[here], count, axis=0)
                changed[:, place] = np.tile(np.arange(1, count + 1), len(here))
                more.append(changed)
                more_out.append(np.repeat(left_out[here], count, axis=0))
            stuck = np.flatnonzero(waiting)[:_MOST_STUCK]
            sure = stuck[self._other_anyway(rows[stuck]) != OPEN]
            solutions += [rows[sure]] if len(sure) else []
            rows, left_out = np.concatenate(following), np.concatenate(following_out)
        found = np.concatenate(solutions) if solutions else rows[:0]
        return found, np.concatenate(more), np.concatenate(more_out)

    def _other_anyway(self, rows: Assignments) -> npt.NDArray[np.int64]:
        """Return for each assignment the one other decision that follows whatever the signals are that were
        never computed; ``OPEN`` where none is known to.
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
            frontier, origins, inexact = self._branched(frontier, left, demand)
            failed[owners[inexact]] = True
            owners = owners[origins]
            failed |= np.bincount(owners, minlength=len(rows)) > _MOST_ROWS
            kept = ~failed[owners]
            frontier, owners = frontier[kept], owners[kept]
        return np.where(failed, OPEN, found)

    def _changes(self, row: Any) -> tuple[tuple[str, Any], ...]:
        numbers = [(name, row[self.place[name]]) for name in self.names]
        return tuple((name, self.choices[name][number]) for name, number in numbers if number > _ACTUAL)


def _distance(changes: Sequence[Change]) -> tuple[int, float]:
    """Return how many values become unknown, and how far the others go: 1 each, less for near numbers."""
    total = 0.0
    for change in changes:
        total += _apart(change.old, change.new)
    return sum(change.new is None for change in changes), total


def _apart(old: Any, new: Any) -> float:
    """Return how far two values are from each other, from 0 to 1; of one kind without an order: 1."""
    if isinstance(old, datetime) and isinstance(new, datetime):
        days = abs((new - old).total_seconds()) / 86_400
        return days / (days + 1)
    numbers = isinstance(old, int | float) and isinstance(new, int | float) and not isinstance(old, bool)
    if not numbers or not (math.isfinite(old) and math.isfinite(new)):
        return 1.0
    return abs(new - old) / (abs(new) + abs(old)) if new != old else 0.0


def _hitting_set(sets: Sequence[frozenset[str]], names: Sequence[str]) -> frozenset[str]:
    """Return a smallest set with a member of each set; of equals the one whose names come first."""
    must = frozenset().union(*(one for one in sets if len(one) == 1))
    rest = [one for one in sets if not one & must]
    members = [name for name in names if any(name in one for one in rest)]
    for size in range(len(rest) + 1):
        for chosen in itertools.combinations(members, size):
            if all(not one.isdisjoint(chosen) for one in rest):
                return must | frozenset(chosen)
    return must | frozenset(members)
