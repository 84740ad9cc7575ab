"""The decision of every row with another value of one signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation.possible_values import FALSE, NULL, TRUE, Uncertain
from modelmill.rules.explanation.alternatives import TrialRows
from modelmill.rules.explanation.loose_values import LooseValues
from modelmill.rules.explanation.trials import Decisions, Places, Trials

_MOST_STATES = 50_000
"""States for each signal that cost about as much as an evaluation of its own."""


@dataclass(frozen=True)
class SingleChanges:
    """Trials with one change each, in the order of the signals and of their values."""

    rows: Places
    places: Places
    """The changed signals."""
    codes: npt.NDArray[np.int32]
    """Their values."""
    decisions: Decisions


class Base:
    """Rows as they are, with the states of all steps."""

    def __init__(self, rows: TrialRows) -> None:
        self.rows = rows
        table = rows.table
        self.trials = table.stated(rows.codes, LooseValues(rows.loose.pools))
        self.roots = self.trials.roots()
        self.decisions, reached = table.settle(self.roots)
        stops = TRUE if table.truth_only else TRUE | NULL
        may_stop = (self.roots & stops) != 0
        goes_on = FALSE | NULL if table.truth_only else FALSE
        sure = (self.roots & goes_on) == 0
        stopped = may_stop & reached
        self.stop = np.where(stopped.any(0), stopped.argmax(0), len(self.roots))
        """First rule that may decide each row; the number of rules if none does."""
        at = np.minimum(self.stop, len(self.roots) - 1)
        self.plain = (self.stop == len(self.roots)) | sure[at, np.arange(len(rows))]
        """Whether that rule is sure to decide."""

    def single_changes(self) -> SingleChanges:
        """Evaluate every row with every other value of each signal that is known."""
        table, rows = self.rows.table, self.rows
        owners, places = np.nonzero(rows.known)
        where, codes = rows.others(places, owners)
        # One evaluation of all steps is cheaper than one a signal of the steps over it, if these are few.
        if len(where) * len(table.row) <= _MOST_STATES * table.width:
            owners, places = owners[where], places[where]
            return SingleChanges(owners, places, codes, self._together(owners, places, codes))
        found = [self._changed(place) for place in range(table.width)]
        rows_of, places, codes, decisions = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(rows_of, kind="stable")
        return SingleChanges(rows_of[order], places[order], codes[order], decisions[order])

    def _together(self, owners: Places, places: Places, codes: npt.NDArray[np.int32]) -> Decisions:
        table, found = self.rows.table, np.empty(len(owners), np.int64)
        for start in range(0, len(owners), table.block):
            part = slice(start, start + table.block)
            trials = self.rows.codes[owners[part]]
            trials[np.arange(len(trials)), places[part]] = codes[part]
            found[part] = table.evaluate(trials, self.rows.loose)[0]
        return found

    def _changed(self, place: int) -> tuple[Places, Places, npt.NDArray[np.int32], Decisions]:
        table = self.rows.table
        owners = np.flatnonzero(self.rows.known[:, place])
        where, codes = self.rows.others(np.full(len(owners), place), owners)
        owners = owners[where]
        parts = [
            self._decisions(place, owners[start : start + table.block], codes[start : start + table.block])
            for start in range(0, len(owners), table.block)
        ]
        decisions = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return owners, np.full(len(owners), place), codes, decisions

    def _decisions(self, place: int, owners: Places, codes: npt.NDArray[np.int32]) -> Decisions:
        table, base = self.rows.table, self.trials
        found = table.tables[place]
        trials = Trials(table, len(owners))
        if found is not None:
            given = dict(zip(found.steps, found.states, strict=True))
            new = {number: states[codes] for number, states in given.items()}
        else:
            column = table.analysis.columns[table.names[place]]
            trials.set_values(place, codes, self.rows.loose.pools[place])
            new = {column: trials.states[column]}
        steps = table.reaches[place]
        changed = {*new, *steps}
        for number in steps:
            for operand in table.analysis.steps[number].operands:
                if operand not in changed and operand in table.evaluated:
                    trials.states[operand] = taken(base.states[operand], owners)
        for number, state in new.items():
            trials.states[number] = state
        trials.forward(steps)
        touched = [rule for rule, root in enumerate(table.analysis.roots) if root in changed]
        if not touched:
            return self.decisions[owners].copy()
        roots = np.empty((len(touched), len(owners)), np.uint8)
        for number, rule in enumerate(touched):
            roots[number] = trials.states[table.analysis.roots[rule]]
        return self._settled(touched, roots, owners)

    def _settled(self, touched: list[int], roots: npt.NDArray[np.uint8], owners: Places) -> Decisions:
        """Return decisions, of the new states of some rules' conditions."""
        table = self.rows.table
        numbers = np.array(touched)
        # Where the rule that decided is another one, only touched rules before it can change anything.
        simple = self.plain[owners] & ~np.isin(self.stop[owners], numbers)
        decisions = np.empty(len(owners), np.int64)
        at = np.flatnonzero(simple)
        if len(at):
            own = owners[at]
            before = numbers[:, None] < self.stop[own]
            idle = np.uint8(FALSE)
            decisions[at] = table.settle(
                np.where(before, roots[:, at], idle), rules=numbers, otherwise=self.decisions[own]
            )[0]
        at = np.flatnonzero(~simple)
        if len(at):
            every = self.roots[:, owners[at]]
            every[numbers] = roots[:, at]
            decisions[at] = table.settle(every)[0]
        return decisions


def taken(state: Any, rows: Places) -> Any:
    """Return a state on some rows, each perhaps several times."""
    if isinstance(state, Uncertain):
        values = state.values if isinstance(state.values, pa.Scalar) else state.values.take(pa.array(rows))
        return Uncertain(values, state.open if isinstance(state.open, bool) else state.open[rows])
    return state[rows] if isinstance(state, np.ndarray) else state
