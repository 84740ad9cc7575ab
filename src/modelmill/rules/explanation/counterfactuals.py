"""The fewest changes of signals that lead to another decision: the nearest counterfactuals of rows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
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


@dataclass
class Ways:
    """Ways to another decision by the fewest changes."""

    lines: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 5), np.int64))
    """A line for each change: number of the way, signal, code, number of the set of signals, decision."""

    def add(self, ways: Sequence[tuple[Places, Places, int]]) -> None:
        """Add ways: the signals, the codes of their new values, and the decision."""
        parts = [self.lines]
        count = int(self.lines[-1, 0]) + 1 if len(self.lines) else 0
        for number, (places, codes, decision) in enumerate(ways, start=count):
            one = np.empty((len(places), 5), np.int64)
            one[:, 0], one[:, 1], one[:, 2] = number, places, codes
            one[:, 3], one[:, 4] = zlib.crc32(places.tobytes()), decision
            parts.append(one)
        self.lines = np.concatenate(parts)


def counterfactuals(rows: TrialRows, decisions: Decisions, singles: SingleChanges) -> list[Ways]:
    """Return every way to another decision by the fewest changes.

    :param rows: the rows.
    :param decisions: their decisions.
    :param singles: the decisions with one change.
    :return: the ways of each row; none if none was found.
    """
    found = [Ways() for _ in range(len(rows))]
    _add_singles(found, rows, decisions, singles)
    missing = np.array([row for row, ways in enumerate(found) if not len(ways.lines)], np.int64)
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
    owners, places = singles.rows[flips], singles.places[flips]
    number = np.arange(len(flips)) - np.searchsorted(owners, owners)
    lines = np.stack(
        [number, places, rows.relative(places, singles.codes[flips]), places, settled[flips]], axis=1
    )
    ends = np.searchsorted(owners, np.arange(len(rows) + 1))
    for row, ways in enumerate(found):
        ways.lines = lines[ends[row] : ends[row + 1]]


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
            unsolved = np.array([not len(self.found[row].lines) for row in owners.tolist()], np.bool_)
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
        trials = np.flatnonzero((decisions != OPEN) & (decisions != self.decisions[frontier.owners]))
        ways: dict[int, list[tuple[Places, Places, int]]] = {}
        for trial in trials.tolist():
            row, codes = int(frontier.owners[trial]), frontier.codes[trial]
            changed = (codes != NOT_COMPUTED) & (codes != rows.codes[row])
            places: Places = np.flatnonzero(changed).astype(np.int64)
            one = (places, rows.relative(places, codes[places]), int(decisions[trial]))
            ways.setdefault(row, []).append(one)
        for row, some in ways.items():
            self.found[row].add(some)
