"""The fewest changes of signals that lead to another decision: the nearest counterfactuals of rows."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelmill.rules.explanation.alternatives import TrialRows
from modelmill.rules.explanation.frontiers import MAX_TRIALS, Budget, Frontier, by_size, other_anyway
from modelmill.rules.explanation.single_changes import SingleChanges
from modelmill.rules.explanation.trials import NOT_COMPUTED, OPEN, Decisions, Places
from modelmill.signals.groups import Mask

_MAX_CHANGES = 4
_MAX_STUCK = 64
"""Trials of a row for which a decision is sought that holds whatever its missing signals are."""

Change = tuple[int, int]
"""A signal, and the code of its new value, the same for all rows like this one."""


@dataclass
class Ways:
    """Ways to another decision by the fewest changes."""

    changes: list[tuple[Change, ...]] = field(default_factory=list)
    decisions: list[int] = field(default_factory=list)

    @functools.cached_property
    def flat(self) -> npt.NDArray[np.int64]:
        """A line for each change: number of the way, signal, code, number of the set of signals, decision."""
        sets: dict[tuple[int, ...], int] = {}
        lines = [
            (number, place, code, sets.setdefault(tuple(one for one, _ in way), len(sets)), decision)
            for number, (way, decision) in enumerate(zip(self.changes, self.decisions, strict=True))
            for place, code in way
        ]
        return np.array(lines, np.int64).reshape(-1, 5)


def counterfactuals(rows: TrialRows, decisions: Decisions, singles: SingleChanges) -> list[Ways]:
    """Return every way to another decision by the fewest changes.

    :param rows: the rows.
    :param decisions: their decisions.
    :param singles: the decisions with one change.
    :return: the ways of each row; none if none was found.
    """
    found = [Ways() for _ in range(len(rows))]
    _add_singles(found, rows, decisions, singles)
    missing = np.array([row for row, ways in enumerate(found) if not ways.changes], np.int64)
    if len(missing):
        codes = np.full((len(missing), rows.table.width), NOT_COMPUTED, np.int32)
        nothing = np.zeros(codes.shape, np.bool_)
        _Levels(rows, decisions, found).search(Frontier(codes, missing), nothing)
    return found


def _add_singles(found: list[Ways], rows: TrialRows, decisions: Decisions, singles: SingleChanges) -> None:
    settled = singles.decisions.copy()
    stuck = _first_of_each(np.flatnonzero(settled == OPEN), singles.rows, _MAX_STUCK)
    block = rows.table.block
    for start in range(0, len(stuck), block):
        part = stuck[start : start + block]
        codes = rows.codes[singles.rows[part]]
        codes[np.arange(len(part)), singles.places[part]] = singles.codes[part]
        settled[part] = other_anyway(rows, decisions, Frontier(codes, singles.rows[part]))
    flips = np.flatnonzero((settled != OPEN) & (settled != decisions[singles.rows]))
    for row, place, code, decision in zip(
        singles.rows[flips].tolist(),
        singles.places[flips].tolist(),
        singles.codes[flips].tolist(),
        settled[flips].tolist(),
        strict=True,
    ):
        found[row].changes.append(((place, rows.relative(place, code)),))
        found[row].decisions.append(decision)


def _first_of_each(trials: Places, owners: Places, most: int) -> Places:
    """Return the first trials of each row; the trials of a row are beside each other."""
    own = owners[trials]
    first = np.searchsorted(own, own, side="left")
    return trials[np.arange(len(trials)) - first < most]


class _Levels:
    """Searches changes of several signals: all with one change, then all with two, and so on.

    A trial knows only some of the signals. Where it is open, those that could still matter are the next:
    they have their actual values, or one of them is changed, which makes a trial of the next level.
    """

    def __init__(self, rows: TrialRows, decisions: Decisions, found: list[Ways]) -> None:
        self.rows = rows
        self.decisions = decisions
        self.found = found
        self.budget = Budget(rows)

    def search(self, frontier: Frontier, left_out: Mask, level: int = 0) -> None:
        """Search for ways with as many changes as the trials have, then with one more.

        :param frontier: trials with equally many changes.
        :param left_out: unknown signals that stay unknown, ``(trials, signals)``.
        :param level: number of the changes.
        """
        done = 0
        for part in frontier.parts(self.rows.table.block):
            more, more_out = self._completed(part, left_out[done : done + len(part)])
            done += len(part)
            owners, counts = np.unique(more.owners, return_counts=True)
            unsolved = np.array([not self.found[row].changes for row in owners.tolist()], np.bool_)
            kept = np.isin(more.owners, owners[unsolved & (counts <= MAX_TRIALS)])
            if level < _MAX_CHANGES and kept.any():
                self.search(more.kept(kept), more_out[kept], level + 1)

    def _completed(self, frontier: Frontier, left_out: Mask) -> tuple[Frontier, Mask]:
        """Complete trials with actual values, and note those that lead to another decision.

        :param frontier: trials with equally many changes.
        :param left_out: see :meth:`search`.
        :return: the trials with one more change, and what they leave out.
        """
        rows = self.rows
        more, more_out = [frontier.kept(np.zeros(len(frontier), np.bool_))], [left_out[:0]]
        while len(frontier):
            spent = self.budget.spend(frontier)
            kept = ~np.isin(frontier.owners, spent)
            frontier, left_out = frontier.kept(kept), left_out[kept]
            decisions, demand = rows.table.evaluate(frontier.codes, rows.pools, demand=True)
            self._note(frontier, decisions)
            codes, left_out = frontier.codes.copy(), left_out.copy()
            going_on = np.zeros(len(frontier), np.bool_)
            for place in by_size(rows, demand):
                unset = (codes[:, place] == NOT_COMPUTED) & ~left_out[:, place]
                here = np.flatnonzero((decisions == OPEN) & demand[place] & unset)
                if len(here) == 0:
                    continue
                going_on[here] = True
                owners = frontier.owners[here]
                where, values = rows.others(place, owners)
                changed = codes[here[where]]
                changed[:, place] = values
                more.append(Frontier(changed, owners[where]))
                more_out.append(left_out[here[where]])
                # Unknown signals stay so: nobody knows their values.
                codes[here, place] = rows.codes[owners, place]
                left_out[here, place] = ~rows.known[owners, place]
            stuck = _first_of_each(
                np.flatnonzero((decisions == OPEN) & ~going_on), frontier.owners, _MAX_STUCK
            )
            if len(stuck):
                part = Frontier(codes[stuck], frontier.owners[stuck])
                self._note(part, other_anyway(rows, self.decisions, part))
            frontier, left_out = Frontier(codes, frontier.owners).kept(going_on), left_out[going_on]
        owners = np.concatenate([part.owners for part in more])
        order = np.argsort(owners, kind="stable")
        codes = np.concatenate([part.codes for part in more])[order]
        return Frontier(codes, owners[order]), np.concatenate(more_out)[order]

    def _note(self, frontier: Frontier, decisions: Decisions) -> None:
        rows = self.rows
        for trial in np.flatnonzero((decisions != OPEN) & (decisions != self.decisions[frontier.owners])):
            row, codes = int(frontier.owners[trial]), frontier.codes[trial]
            places = np.flatnonzero((codes != NOT_COMPUTED) & (codes != rows.codes[row])).tolist()
            self.found[row].changes.append(
                tuple((place, rows.relative(place, int(codes[place]))) for place in places)
            )
            self.found[row].decisions.append(int(decisions[trial]))
