"""The smallest set of signals whose values settle the decision of a row, whatever the other signals are.

A *contrastive set* is a set of signals that can change the decision. Every sufficient set has a member of
every contrastive set, so the smallest sufficient set is a smallest hitting set of the contrastive sets, which
are found as they are needed (R. Reiter 1987; A. Ignatiev et al. 2020).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.explanation.assignments import (
    ACTUAL,
    MAX_ROWS,
    NOT_COMPUTED,
    Assignments,
    RowAssignments,
)

_MAX_SETS = 100
"""Contrastive sets that are collected."""


def smallest_sufficient_set(row: RowAssignments) -> tuple[list[str], bool]:
    """Return a sufficient set, and whether it is proved that no smaller one exists.

    :param row: the row.
    :return: signals, and the proof.
    :raises SearchExhausted: if the search takes too much work.
    """
    conflicts = _single_conflicts(row)
    for _ in range(_MAX_SETS):
        candidate = _hitting_set(conflicts, row.known)
        proved, counterexample = _refute(row, candidate)
        if counterexample is None:
            if proved:
                return [name for name in row.known if name in candidate], True
            break
        conflict = _shrunk(row, counterexample)
        if not conflict or conflict in conflicts:
            break
        conflicts.append(conflict)
    return _reduced(row), False


def _single_conflicts(row: RowAssignments) -> list[frozenset[str]]:
    """Return the signals of which another value changes the decision by itself."""
    _, places, decisions = row.singles
    names = dict.fromkeys(row.names[place] for place in places[row.differs(decisions)].tolist())
    return [frozenset({name}) for name in row.known if name in names]


def _refute(row: RowAssignments, fixed: Iterable[str]) -> tuple[bool, Assignments | None]:
    """Look for values of the other signals that change the decision.

    :param row: the row.
    :param fixed: signals that keep their values.
    :return: whether it is proved that there are none, and an assignment if there is one.
    """
    frontier = row.assignment(fixed)
    proved = True
    while len(frontier):
        decisions, demand = row.evaluate(frontier)
        differ = row.differs(decisions)
        if differ.any():
            return False, frontier[np.flatnonzero(differ)[:1]]
        frontier, _, inexact = row.branched(frontier, decisions == OPEN, demand)
        proved = proved and not len(inexact)
        if len(frontier) > MAX_ROWS:
            return False, None
    return proved, None


def _shrunk(row: RowAssignments, counterexample: Assignments) -> frozenset[str]:
    """Return a smallest part of the changed signals that still changes the decision."""
    found = counterexample[0].copy()
    for name in row.known:
        if found[row.place[name]] == NOT_COMPUTED:
            found[row.place[name]] = ACTUAL
    changed = [name for name in row.known if found[row.place[name]] != ACTUAL]
    size = (len(changed) + 1) // 2
    while size:
        for start in range(0, len(changed), size):
            trial = found.copy()
            trial[[row.place[name] for name in changed[start : start + size]]] = ACTUAL
            (decision,) = row.evaluate(trial[None, :])[0]
            if decision not in (OPEN, row.decision):
                found = trial
        changed = [name for name in changed if found[row.place[name]] != ACTUAL]
        size //= 2
    return frozenset(changed)


def _reduced(row: RowAssignments) -> list[str]:
    """Return a sufficient set from which no signal can be dropped without a proof that was not found."""
    kept = list(row.known)
    for name in row.known:
        trial = [one for one in kept if one != name]
        (decision,) = row.evaluate(row.assignment(trial))[0]
        if decision == row.decision:
            kept = trial
    return kept


def _hitting_set(sets: Sequence[frozenset[str]], names: Sequence[str]) -> frozenset[str]:
    """Return a smallest set with a member of each set; among equals the one whose names come first."""
    must = frozenset().union(*(one for one in sets if len(one) == 1))
    rest = [one for one in sets if not one & must]
    members = [name for name in names if any(name in one for one in rest)]
    for size in range(len(rest) + 1):
        for chosen in itertools.combinations(members, size):
            if all(not one.isdisjoint(chosen) for one in rest):
                return must | frozenset(chosen)
    return must | frozenset(members)
