"""The smallest set of signals whose values settle the decision of a row, whatever the other signals are.

A *contrastive set* is a set of signals that can change the decision. Every sufficient set has a member of
every contrastive set, so the smallest sufficient set is a smallest hitting set of the contrastive sets, which
are found as they are needed (R. Reiter 1987; A. Ignatiev et al. 2020). All rows are searched side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelmill.rules.explanation.alternatives import TrialRows
from modelmill.rules.explanation.frontiers import Frontier, SearchBudget, branched
from modelmill.rules.explanation.single_changes import SingleChanges
from modelmill.rules.explanation.trials import NOT_COMPUTED, OPEN, Codes, Decisions, Places
from modelmill.signals.groups import Mask

_MAX_SETS = 100
"""Contrastive sets that are collected for a row."""
_MAX_TRIES = 64
"""Numbers of signals that are dropped at once, tried side by side."""
_MAX_COMBINATIONS = 20_000
"""Sets of signals that are looked at for one hitting set."""

Examples = dict[int, npt.NDArray[np.int32]]
"""A trial with another decision, by row."""


def smallest_sufficient_sets(
    rows: TrialRows, decisions: Decisions, singles: SingleChanges
) -> tuple[npt.NDArray[np.bool_], Mask]:
    """Return a sufficient set for each row, and whether it is proved that no smaller one exists.

    :param rows: the rows.
    :param decisions: their decisions.
    :param singles: the decisions with one change.
    :return: masks, ``(rows, signals)`` and ``(rows,)``.
    """
    must = np.zeros(rows.codes.shape, np.bool_)
    flips = (singles.decisions != OPEN) & (singles.decisions != decisions[singles.rows])
    must[singles.rows[flips], singles.places[flips]] = True
    return _Search(rows, decisions, must).run()


class _Search:
    def __init__(self, rows: TrialRows, decisions: Decisions, must: npt.NDArray[np.bool_]) -> None:
        self.rows = rows
        self.decisions = decisions
        self.must = must
        """Signals of which another value changes the decision by itself."""
        self.budget = SearchBudget(rows)
        self.conflicts: dict[int, list[frozenset[int]]] = {}

    def run(self) -> tuple[npt.NDArray[np.bool_], Mask]:
        found, proved = self.must.copy(), np.zeros(len(self.rows), np.bool_)
        active: Places = np.arange(len(self.rows))
        for _ in range(_MAX_SETS):
            if len(active) == 0:
                break
            shown, examples = self._refuted(found, active)
            proved[active[shown]] = True
            following = []
            for row, conflict in self._shrunk(examples).items():
                known = self.conflicts.setdefault(row, [])
                if conflict and conflict not in known:
                    known.append(conflict)
                    candidate = _hitting_set(known)
                    if candidate is not None:
                        found[row] = self.must[row]
                        found[row, candidate] = True
                        following.append(row)
            active = np.array(sorted(following), np.int64)
        rest = np.flatnonzero(~proved)
        if len(rest):
            found[rest] = self._reduced(rest)
        return found, proved

    def _refuted(self, candidates: npt.NDArray[np.bool_], active: Places) -> tuple[Mask, Examples]:
        """Look for values of the signals outside the candidates that change the decisions.

        :param candidates: masks of signals that keep their values.
        :param active: numbers of rows.
        :return: for which of them it is proved that there are none; an example for some of the others.
        """
        rows = self.rows
        proved, over = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        examples: Examples = {}
        codes = np.where(candidates[active], rows.codes[active], np.int32(NOT_COMPUTED))
        waiting = Frontier(codes, active).parts(rows.table.block)
        while waiting:
            frontier = waiting.pop()
            spent = self.budget.spend(frontier)
            proved[spent] = False
            over[spent] = True
            frontier = frontier.kept(~over[frontier.owners])
            if len(frontier) == 0:
                continue
            decisions, demand = rows.table.evaluate(frontier.codes, rows.loose, demand=True)
            differ = np.flatnonzero((decisions != OPEN) & (decisions != self.decisions[frontier.owners]))
            owners, first = np.unique(frontier.owners[differ], return_index=True)
            examples |= dict(zip(owners.tolist(), frontier.codes[differ[first]], strict=True))
            proved[owners] = False
            over[owners] = True
            left = (decisions == OPEN) & ~over[frontier.owners]
            if left.any():
                following, _, inexact = branched(rows, frontier, left, demand)
                proved[frontier.owners[inexact]] = False
                waiting += following.parts(rows.table.block)
        return proved[active], examples

    def _shrunk(self, examples: Examples) -> dict[int, frozenset[int]]:
        """Return for each example changed signals that change the decision, as few as single tries show."""
        rows = self.rows
        owners = np.array(sorted(examples), np.int64)
        if len(owners) == 0:
            return {}
        codes = np.stack([examples[row] for row in owners.tolist()])
        actual, known = rows.codes[owners], rows.known[owners]
        codes = np.where(known & (codes == NOT_COMPUTED), actual, codes)
        changed = [np.flatnonzero(one).tolist() for one in known & (codes != actual)]
        for number in range(max(map(len, changed))):
            at = np.array([row for row, one in enumerate(changed) if number < len(one)], np.int64)
            places = np.array([changed[row][number] for row in at.tolist()], np.int64)
            trial = codes[at]
            trial[np.arange(len(at)), places] = actual[at, places]
            decisions, _ = rows.table.evaluate(trial, rows.loose)
            still = (decisions != OPEN) & (decisions != self.decisions[owners[at]])
            codes[at[still]] = trial[still]
        return {
            row: frozenset(np.flatnonzero(one).tolist())
            for row, one in zip(owners.tolist(), known & (codes != actual), strict=True)
        }

    def _reduced(self, wanted: Places) -> npt.NDArray[np.bool_]:
        """Return sufficient sets from which no signal can be dropped without a proof that was not found.

        The signals are dropped in their order. As many as possible go at once: what cannot be dropped from a
        set cannot be dropped from a smaller one.
        """
        rows = self.rows
        kept: npt.NDArray[np.bool_] = rows.known[wanted].copy()
        order = [np.flatnonzero(one) for one in kept]
        at = [0] * len(wanted)
        while active := [row for row, one in enumerate(order) if at[row] < len(one)]:
            owners, counts, trials = [], [], []
            for row in active:
                left = len(order[row]) - at[row]
                for count in np.unique(np.linspace(1, left, min(left, _MAX_TRIES)).astype(int)).tolist():
                    trial = kept[row].copy()
                    trial[order[row][at[row] : at[row] + count]] = False
                    owners.append(row)
                    counts.append(count)
                    trials.append(trial)
            of = wanted[owners]
            codes = np.where(np.array(trials), rows.codes[of], np.int32(NOT_COMPUTED))
            most = dict.fromkeys(active, 0)
            for place in np.flatnonzero(self._decided(codes) == self.decisions[of]).tolist():
                most[owners[place]] = max(most[owners[place]], counts[place])
            for row, count in most.items():
                kept[row, order[row][at[row] : at[row] + count]] = False
                at[row] += max(count, 1)
        return kept

    def _decided(self, codes: Codes) -> Decisions:
        block = self.rows.table.block
        parts = [
            self.rows.table.evaluate(codes[start : start + block], self.rows.loose)[0]
            for start in range(0, len(codes), block)
        ]
        found: Decisions = np.concatenate(parts)
        return found


def _hitting_set(sets: Sequence[frozenset[int]]) -> list[int] | None:
    """Return a smallest set with a member of each set, the first of equals; None if it takes too long."""
    members = sorted(frozenset().union(*sets))
    tried = 0
    for size in range(1, len(sets) + 1):
        for chosen in itertools.combinations(members, size):
            if all(not one.isdisjoint(chosen) for one in sets):
                return list(chosen)
            tried += 1
            if tried > _MAX_COMBINATIONS:
                return None
    return None
