"""Trials of several rows that are searched side by side, and what each row may still spend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelmill.rules.explanation.alternatives import TrialRows
from modelmill.rules.explanation.trials import OPEN, Codes, Decisions, Places
from modelmill.signals.groups import Mask

MAX_TRIALS = 4096
"""Trials of one row that are evaluated together; beyond that nothing is proved."""
MAX_WORK = 40_000
"""Steps that one search may evaluate for a row, each on 512 trials: some tenths of a second."""


@dataclass(frozen=True)
class Frontier:
    """Trials, those of one row beside each other."""

    codes: Codes
    owners: Places
    """The row of each."""

    def __len__(self) -> int:
        return len(self.owners)

    def kept(self, mask: Mask) -> Frontier:
        """Return some of the trials."""
        return self if mask.all() else Frontier(self.codes[mask], self.owners[mask])

    def parts(self, most: int) -> list[Frontier]:
        """Return the trials in parts that are evaluated together, each with whole rows."""
        if len(self) <= most:
            return [self] if len(self) else []
        begins = np.flatnonzero(np.append(True, self.owners[1:] != self.owners[:-1]))
        numbers = begins // most
        cuts = begins[np.flatnonzero(np.append(False, numbers[1:] != numbers[:-1]))]
        return [
            Frontier(codes, owners)
            for codes, owners in zip(np.split(self.codes, cuts), np.split(self.owners, cuts), strict=True)
        ]


class SearchBudget:
    """What each row may still spend on one search."""

    def __init__(self, rows: TrialRows) -> None:
        self._steps = len(rows.table.upper) + len(rows.table.analysis.roots)
        self._work = np.full(len(rows), -self._steps, np.int64)  # the first evaluation is free

    def spend(self, frontier: Frontier) -> Places:
        """Count an evaluation, and return the rows that have spent too much."""
        counts = np.bincount(frontier.owners, minlength=len(self._work))
        there = counts > 0
        self._work[there] += self._steps * (1 + counts[there] // 512)
        return np.flatnonzero(there & ((counts > MAX_TRIALS) | (self._work > MAX_WORK)))


def branched(
    rows: TrialRows, frontier: Frontier, left: Mask, demand: Mask
) -> tuple[Frontier, Places, Places]:
    """Give one more signal each of its values in every trial that is left.

    :param rows: the rows.
    :param frontier: their trials.
    :param left: which of them to branch.
    :param demand: where each signal is demanded, ``(trials, signals)``.
    :return: new trials; the trial that each comes from; and the trials whose signal has values that are not
        tried.
    """
    asked = demand[:, rows.order]
    here = np.flatnonzero(left & asked.any(1))
    places, owners = rows.order[asked[here].argmax(1)] if len(here) else here, frontier.owners[here]
    where, values = rows.others(places, owners)
    known = np.flatnonzero(rows.known[owners, places])
    which = np.concatenate([known, where])
    own = rows.codes[owners[known], places[known]]
    order = np.argsort(which, kind="stable")
    which = which[order]
    source = here[which]
    codes = frontier.codes[source]
    codes[np.arange(len(source)), places[which]] = np.concatenate([own, values])[order]
    return Frontier(codes, owners[which]), source, here[~rows.exact[places]]


def other_anyway(rows: TrialRows, decisions: Decisions, frontier: Frontier) -> Decisions:
    """Return the one other decision that follows whatever the signals are that were never computed.

    :param rows: the rows.
    :param decisions: their decisions.
    :param frontier: trials, at most ``MAX_TRIALS`` of a row.
    :return: a decision for each trial; ``OPEN`` if there is none, or it is not proved.
    """
    found = np.full(len(frontier), OPEN, np.int64)
    failed = np.zeros(len(frontier), np.bool_)
    own = decisions[frontier.owners]
    # The trials stand for rows here: each has its own search.
    waiting = [(frontier, np.arange(len(frontier)))]
    while waiting:
        part, trials = waiting.pop()
        settled, demand = rows.table.evaluate(part.codes, rows.loose, demand=True)
        done = np.flatnonzero(settled != OPEN)
        at, what = trials[done], settled[done]
        failed[at[what == own[at]]] = True
        before = found[at]
        failed[at[(before != OPEN) & (before != what)]] = True
        found[at] = what
        failed[at[found[at] != what]] = True
        left = (settled == OPEN) & ~failed[trials]
        following, origins, inexact = branched(rows, part, left, demand)
        failed[trials[inexact]] = True
        trials = trials[origins]
        counts = np.bincount(trials, minlength=len(frontier)) if len(trials) else np.zeros(len(frontier))
        failed |= counts > MAX_TRIALS
        kept = ~failed[trials]
        following, trials = following.kept(kept), trials[kept]
        for start in range(0, len(trials), rows.table.block):
            stop = start + rows.table.block
            piece = Frontier(following.codes[start:stop], following.owners[start:stop])
            waiting.append((piece, trials[start:stop]))
    return np.where(failed, OPEN, found)
