"""The fewest changes of signals that lead to another decision: the nearest counterfactuals of rows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelmill.rules.explanation.alternatives import TrialRows
from modelmill.rules.explanation.frontiers import MAX_TRIALS, Frontier, SearchBudget, other_anyway
from modelmill.rules.explanation.single_changes import SingleChanges
from modelmill.rules.explanation.trials import NOT_COMPUTED, OPEN, Codes, Decisions, Places
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


@dataclass(frozen=True)
class _Branches:
    """Trials of which one more signal may be changed."""

    frontier: Frontier
    left_out: Mask
    """Unknown signals that stay unknown, ``(trials, signals)``."""
    here: Mask
    """Signals that may be changed, ``(trials, signals)``."""
    actual: Codes
    """The trials with the actual values of these."""


class _Levels:
    """Searches changes of several signals: all with one change, then all with two, and so on.

    A trial knows only some of the signals. Where it is open, those that could still matter are the next:
    they have their actual values, or one of them is changed, which makes a trial of the next level.
    """

    def __init__(self, rows: TrialRows, decisions: Decisions, found: list[Ways]) -> None:
        self.rows = rows
        self.decisions = decisions
        self.found = found
        self.budget = SearchBudget(rows)

    def search(self, frontier: Frontier, left_out: Mask, level: int = 0) -> None:
        """Search for ways with as many changes as the trials have, then with one more.

        :param frontier: trials with equally many changes.
        :param left_out: unknown signals that stay unknown, ``(trials, signals)``.
        :param level: number of the changes.
        """
        done = 0
        for part in frontier.parts(self.rows.table.block):
            branches = self._completed(part, left_out[done : done + len(part)])
            done += len(part)
            if level < _MAX_CHANGES and branches:
                more, more_out = self._changed(branches)
                if len(more):
                    self.search(more, more_out, level + 1)

    def _completed(self, frontier: Frontier, left_out: Mask) -> list[_Branches]:
        """Complete trials with actual values, and note those that lead to another decision.

        :param frontier: trials with equally many changes.
        :param left_out: see :meth:`search`.
        :return: where one more signal may be changed.
        """
        rows = self.rows
        found = []
        while len(frontier):
            spent = self.budget.spend(frontier)
            if len(spent):
                kept = ~np.isin(frontier.owners, spent)
                frontier, left_out = frontier.kept(kept), left_out[kept]
            decisions, demand = rows.table.evaluate(frontier.codes, rows.loose, demand=True)
            self._note(frontier, decisions)
            here = demand & (frontier.codes == NOT_COMPUTED) & ~left_out & (decisions == OPEN)[:, None]
            actual = np.where(here, rows.codes[frontier.owners], frontier.codes)
            going_on = here.any(1)
            found.append(_Branches(frontier, left_out, here, actual))
            # Unknown signals stay so: nobody knows their values.
            left_out = left_out | (here & ~rows.known[frontier.owners])
            stuck = _first_of_each(
                np.flatnonzero((decisions == OPEN) & ~going_on), frontier.owners, _MAX_STUCK
            )
            if len(stuck):
                part = Frontier(actual[stuck], frontier.owners[stuck])
                self._note(part, other_anyway(rows, self.decisions, part))
            frontier, left_out = Frontier(actual, frontier.owners).kept(going_on), left_out[going_on]
        return found

    def _changed(self, branches: list[_Branches]) -> tuple[Frontier, Mask]:
        """Return the trials with one more change of rows that have none yet, and what these leave out.

        The signals before the changed one have their actual values. Rows with too many trials are given up.
        """
        rows, made = self.rows, []
        counts = np.zeros(len(rows), np.int64)
        unsolved = np.array([not len(ways.lines) for ways in self.found], np.bool_)
        for one in branches:
            ranks, trials = np.nonzero((one.here & unsolved[one.frontier.owners, None])[:, rows.order].T)
            where, values = rows.others(rows.order[ranks], one.frontier.owners[trials])
            made.append((trials[where], ranks[where], values))
            counts += np.bincount(one.frontier.owners[trials[where]], minlength=len(rows))
        parts, outs = [], []
        for one, (trials, ranks, values) in zip(branches, made, strict=True):
            kept = counts[one.frontier.owners[trials]] <= MAX_TRIALS
            at, rank = trials[kept], ranks[kept]
            before = np.empty((len(at), rows.table.width), np.bool_)
            before[:, rows.order] = np.arange(rows.table.width) < rank[:, None]
            codes = np.where(before, one.actual[at], one.frontier.codes[at])
            codes[np.arange(len(at)), rows.order[rank]] = values[kept]
            owners = one.frontier.owners[at]
            parts.append(Frontier(codes, owners))
            outs.append(one.left_out[at] | (before & one.here[at] & ~rows.known[owners]))
        owners = np.concatenate([part.owners for part in parts])
        order = np.argsort(owners, kind="stable")
        codes = np.concatenate([part.codes for part in parts])[order]
        return Frontier(codes, owners[order]), np.concatenate(outs)[order]

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
