"""Decisions of many trials at once: rows on which signals have other values than they have, or none yet.

A signal whose value only matters for some conditions over it alone (``spam > 0.9``) is a table: for each of
its *classes*, which are regions that these conditions do not tell apart, the truth value of each condition.
Trying one of its values is looking it up. Values of other signals are computed with, as on any row.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.layered_logic import layers_of
from modelmill.rules.evaluation.partial_evaluation import UNDETERMINED, Partial
from modelmill.rules.evaluation.possible_values import FALSE, NULL, TRUE, Uncertain
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.explanation.domains import Domain, domains_of
from modelmill.rules.explanation.loose_values import LooseValues
from modelmill.rules.language.program import reached
from modelmill.signals.groups import Mask

OPEN = -1
"""Decision of a trial that is not settled."""
NOT_COMPUTED = -1
"""Code of a signal that may have any value."""

Places = npt.NDArray[np.int64]
"""Numbers of signals, rows or trials."""
Codes = npt.NDArray[np.int32]
"""A row for each trial, a column for each signal: the number of its value, or :data:`NOT_COMPUTED`."""
Decisions = npt.NDArray[np.int64]
"""Number of the decision of each trial, or :data:`OPEN`."""

_NO, _SEVERAL = -1, -2
_MAX_STATES = 32_000_000
"""States that are held at once."""


@dataclass
class SignalTable:
    """A signal that matters only for conditions over it alone."""

    steps: list[int]
    """Numbers of these conditions."""
    states: list[npt.NDArray[np.uint8]]
    """State of each condition for each class, the last one for a signal that is not computed."""
    of_region: Places
    """Class of each region; the last one is that of NULL."""
    members: list[list[int]]
    """Regions of each class, in the order in which they are tried."""
    known: dict[bytes, int]
    """Class by the states of the conditions."""

    @functools.cached_property
    def first(self) -> Places:
        """The region of each class that is tried first; NULL where there is no other."""
        return np.array([one[0] for one in self.members], np.int64)


class DecisionTable:
    """The decisions of a rule set as a function of its signals."""

    def __init__(self, program: RuleProgram) -> None:
        self.program = program
        self.analysis = program.analysis
        self.domains: dict[str, Domain] = domains_of(program.analysis, program.compiled.kinds)
        self.names = list(self.domains)
        self.place = {name: place for place, name in enumerate(self.names)}
        compiled = program.compiled
        rules = range(compiled.no_rule)
        outcomes = [compiled.decision(outcome) for outcome in (*rules, compiled.no_rule)]
        self.truth_only = program.truth_only
        unknown = [] if program.truth_only else [compiled.decision(compiled.no_rule + 1)]
        self.decisions = list(dict.fromkeys([*outcomes, *unknown]))
        number = {name: place for place, name in enumerate(self.decisions)}
        self._then = np.array([number[name] for name in outcomes], np.int64)
        self._unknown = number[unknown[0]] if unknown else None
        self.initial = Partial(self.analysis, 1).states
        self._reads = self._signals_read()
        self.tables: list[SignalTable | None] = [self._table(name) for name in self.names]
        self.upper = self._upper_steps()
        self.reaches = self._steps_reached()
        self.leaves = {
            number: place
            for place, table in enumerate(self.tables)
            for number in (table.steps if table else [self.analysis.columns[self.names[place]]])
        }
        """Signal of each step at which the evaluation of a trial begins."""
        self.evaluated = {*self.upper, *self.leaves}
        self._lay_out()

    def _lay_out(self) -> None:
        """Give each step that is evaluated a row, conditions first, and find out which depend on which."""
        steps, roots = self.analysis.steps, self.analysis.roots
        operands = {one for number in self.upper for one in steps[number].operands}
        read = {*self.evaluated, *(one for one in (*operands, *roots) if steps[one].kind == "boolean")}
        self.conditions = sorted(number for number in read if steps[number].kind == "boolean")
        self._values = sorted(number for number in read if steps[number].kind != "boolean")
        self.row = {number: row for row, number in enumerate([*self.conditions, *self._values])}
        self.layers = layers_of(steps, self.evaluated, self.row, set(self.leaves))
        self._roots = np.array([self.row[root] for root in roots], np.intp)
        self._fixed = np.array([self.initial[number] for number in self.conditions], np.uint8)[:, None]
        self._matters = np.array([self.analysis.matters[number] for number in self.conditions])[:, None]
        leaves = sorted(self.leaves.items(), key=lambda one: one[1])
        places = np.array([place for _, place in leaves], np.intp)
        self._leaf_rows = np.array([self.row[number] for number, _ in leaves], np.intp)
        self._leaf_starts = np.flatnonzero(np.append(True, places[1:] != places[:-1]))[: len(places)]
        self._leaf_places = places[self._leaf_starts]
        self.sources: dict[int, frozenset[int]] = {}
        """Signals that each step depends on."""
        for number in sorted(self.evaluated):
            own = {self.leaves[number]} if number in self.leaves else ()
            self.sources[number] = frozenset(own).union(
                *(self.sources.get(operand, ()) for operand in steps[number].operands)
            )
        self.computed_singly = {number for layer in self.layers for number in layer.others}
        """Steps that are no logic."""

    @functools.cached_property
    def _looked_up(self) -> tuple[npt.NDArray[np.uint8], Places, Places, Places]:
        """States of the conditions of all tables; where each condition begins, its signal, and its row."""
        found = [
            (states, place, self.row[number])
            for place, table in enumerate(self.tables)
            if table is not None
            for number, states in zip(table.steps, table.states, strict=True)
        ]
        if not found:
            none = np.empty(0, np.int64)
            return np.empty(0, np.uint8), none[:, None], none, none
        # The last state is that of a signal that is not computed: its number is -1.
        states = np.concatenate([np.roll(one, 1) for one, _, _ in found])
        begins = np.cumsum([1, *(len(one) for one, _, _ in found[:-1])])[:, None]
        return states, begins, np.array([one[1] for one in found]), np.array([one[2] for one in found])

    @functools.cached_property
    def first_rule(self) -> list[int]:
        """The first rule that reads each signal."""
        found: dict[str, int] = {}
        seen: set[int] = set()
        for rule, root in enumerate(self.analysis.roots):
            new = set(reached(self.analysis.steps, [root])) - seen
            seen |= new
            for number in new:
                found.setdefault(self.analysis.steps[number].column or "", rule)
        return [found[name] for name in self.names]

    @property
    def width(self) -> int:
        """Number of signals."""
        return len(self.names)

    @property
    def block(self) -> int:
        """Number of trials that are evaluated together."""
        return max(256, _MAX_STATES // max(len(self.upper) + len(self.analysis.roots) + self.width, 1))

    def table_of(self, place: int) -> SignalTable:
        """Return the table of a signal that has one."""
        found = self.tables[place]
        if found is None:
            raise KeyError(place)
        return found

    def code_of(self, place: int, values: pa.Array) -> Places:
        """Return the class of each value of a signal that is a table."""
        table, domain = self.table_of(place), self.domains[self.names[place]]
        if domain.exact:
            return table.of_region[domain.regions.of(values)]
        return self._classes(table, self._states(place, values, table.steps))

    def evaluate(self, codes: Codes, loose: LooseValues, *, demand: bool = False) -> tuple[Decisions, Mask]:
        """Evaluate trials.

        :param codes: the trials.
        :param loose: values of the signals that are no tables.
        :param demand: whether to return where each signal could still change the decision.
        :return: the decision of each, and a mask, ``(trials, signals)``.
        """
        trials = self.stated(codes, loose)
        decisions, asked = self.settle(trials.sets[self._roots])
        left = decisions == OPEN
        if not demand or not left.any():
            return decisions, np.zeros(codes.shape, np.bool_)
        return decisions, self._demanded(trials, asked & left)

    def stated(self, codes: Codes, loose: LooseValues) -> Trials:
        """Return the states of all steps on trials; see :meth:`evaluate`."""
        trials = Trials(self, len(codes))
        sets = np.empty((len(self.conditions), len(codes)), np.uint8)
        sets[:] = self._fixed
        states, begins, places, rows = self._looked_up
        sets[rows] = states[begins + codes.T[places]]
        there = frozenset(np.flatnonzero((codes != NOT_COMPUTED).any(0)).tolist())
        trials.sets = sets
        for number, state in zip(self.conditions, sets, strict=True):
            trials.states[number] = state
        if loose.joint is not None:
            for one in loose.joint:
                one.look_up(codes, sets, self.row, trials.states)
            for layer in self.layers:
                layer.forward(sets)
            return trials
        for place in loose.pools:
            if place in there:
                trials.set_values(place, codes[:, place], loose.pools[place])
                self._keep(trials, sets, self.analysis.columns[self.names[place]])
        for layer in self.layers:
            layer.forward(sets)
            for number in layer.others:
                if not self.sources[number].isdisjoint(there):
                    trials.forward([number])
                    self._keep(trials, sets, number)
        return trials

    def _keep(self, trials: Trials, sets: npt.NDArray[np.uint8], number: int) -> None:
        """Copy the new state of a condition to its row."""
        row = self.row[number]
        if row < len(sets):
            sets[row] = trials.states[number]
            trials.states[number] = sets[row]

    def _demanded(self, trials: Trials, asked: npt.NDArray[np.bool_]) -> Mask:
        """Find the trials on which a signal could still change the decision.

        :param trials: the trials.
        :param asked: where each rule's condition matters, ``(rules, trials)``.
        :return: for each signal, ``(trials, signals)``.
        """
        steps, count = self.analysis.steps, trials.rows
        sets = trials.sets
        unclear = np.empty((len(self.row), count), np.bool_)
        unclear[: len(sets)] = UNDETERMINED[self._matters, sets]
        for number in self._values:
            unclear[self.row[number]] = trials.states[number].open
        open_bits, asked_bits = np.packbits(unclear, axis=1), np.packbits(asked, axis=1)
        demand = np.zeros(open_bits.shape, np.uint8)
        for row, one in zip(self._roots.tolist(), asked_bits, strict=True):
            demand[row] |= one
        for layer in reversed(self.layers):
            layer.backward(demand, open_bits)
            for number in layer.others:
                here = np.unpackbits(demand[self.row[number]], count=count).view(np.bool_)
                for operand, where in trials.below(steps[number], here) if here.any() else ():
                    if operand in self.row:
                        demand[self.row[operand]] |= np.packbits(where)
        found = np.zeros((self.width, (count + 7) // 8), np.uint8)
        if len(self._leaf_rows):
            leaves = demand[self._leaf_rows]
            found[self._leaf_places] = np.bitwise_or.reduceat(leaves, self._leaf_starts, axis=0)
        return np.unpackbits(found, axis=1, count=count).view(np.bool_).T

    def settle(
        self, roots: npt.NDArray[np.uint8], rules: Places | None = None, otherwise: Any = None
    ) -> tuple[Decisions, npt.NDArray[np.bool_]]:
        """Return the decision of each trial, and which conditions it may come to.

        :param roots: state of each rule's condition, ``(rules, trials)``.
        :param rules: numbers of these rules, ascending; None for all.
        :param otherwise: decision of each trial where none of them decides; None for the default.
        :return: decisions; a mask, ``(rules, trials)``.
        """
        truth_only = self.truth_only
        reached = np.ones((len(roots) + 1, roots.shape[1]), np.bool_)
        np.logical_and.accumulate((roots & (FALSE | NULL if truth_only else FALSE)) != 0, out=reached[1:])
        then = self._then[:-1, None] if rules is None else self._then[rules, None]
        otherwise = int(self._then[-1]) if otherwise is None else otherwise
        fires = reached[:-1] & ((roots & TRUE) != 0)
        most = len(self.decisions)
        high = np.where(fires, then, -1).max(0, initial=-1)
        low = np.where(fires, then, most).min(0, initial=most)
        if self._unknown is not None:
            stuck = (reached[:-1] & ((roots & NULL) != 0)).any(0)
            high = np.where(stuck, np.maximum(high, self._unknown), high)
            low = np.where(stuck, np.minimum(low, self._unknown), low)
        high = np.where(reached[-1], np.maximum(high, otherwise), high)
        low = np.where(reached[-1], np.minimum(low, otherwise), low)
        return np.where(low == high, low, OPEN), reached[:-1]

    def _signals_read(self) -> dict[int, int]:
        """Return the signal that each step reads: its number, ``_NO`` for none, ``_SEVERAL`` for several."""
        found: dict[int, int] = {}
        for number in self.analysis.live:
            step = self.analysis.steps[number]
            below = {found[operand] for operand in step.operands} - {_NO}
            own = _NO if step.column is None else self.place[step.column]
            found[number] = own if not below else below.pop() if len(below) == 1 else _SEVERAL
        return found

    def _table(self, name: str) -> SignalTable | None:
        """Return a signal's table; None if other steps take its value, or many values have to be tried."""
        place, domain = self.place[name], self.domains[name]
        if not domain.exact and domain.kind != "text":
            return None
        steps = self._exposed.get(place, [])
        if any(self.analysis.steps[number].kind != "boolean" for number in steps):
            return None
        table = SignalTable(steps, [], np.empty(0, np.int64), [], {})
        states = self._states(place, domain.regions.array, steps)
        of_region = np.zeros(domain.regions.count + 1, np.int64)
        for region in domain.regions.order:
            key = states[:, region].tobytes()
            of_region[region] = table.known.setdefault(key, len(table.known))
            if of_region[region] == len(table.members):
                table.members.append([])
            table.members[of_region[region]].append(region)
        for region in domain.regions.beyond:
            of_region[region] = table.known.setdefault(states[:, region].tobytes(), len(table.known))
        table.of_region = of_region
        self._fill(table)
        return table

    @functools.cached_property
    def _steps_of(self) -> dict[int, list[int]]:
        """The steps that read one signal alone, by its number."""
        found: dict[int, list[int]] = {}
        for number in self.analysis.live:
            found.setdefault(self._reads[number], []).append(number)
        return found

    @functools.cached_property
    def _exposed(self) -> dict[int, list[int]]:
        """The steps over one signal that a rule, or a step over several signals, takes."""
        taken = set(self.analysis.roots)
        for number in self.analysis.live:
            if self._reads[number] == _SEVERAL:
                taken.update(self.analysis.steps[number].operands)
        found: dict[int, list[int]] = {}
        for number in sorted(taken):
            if self._reads[number] >= 0:
                found.setdefault(self._reads[number], []).append(number)
        return found

    def _states(self, place: int, values: pa.Array, steps: list[int]) -> npt.NDArray[np.uint8]:
        """Return the states of conditions over one signal on some of its values, ``(conditions, values)``.

        Truth values that a rule set cannot tell apart are made the same.
        """
        trials = Trials(self, len(values))
        column = self.analysis.columns[self.names[place]]
        boolean = self.analysis.steps[column].kind == "boolean"
        trials.states[column] = possible.sets_of(values) if boolean else Uncertain(values, False)
        trials.forward([one for one in self._steps_of.get(place, ()) if one != column])
        found = np.empty((len(steps), len(values)), np.uint8)
        for number, step in enumerate(steps):
            state = np.broadcast_to(np.asarray(trials.states[step], np.uint8), len(values))
            matter = self.analysis.matters[step]
            found[number] = state
            if matter in (TRUE, FALSE):
                found[number] = np.where(state == matter, matter, (TRUE | FALSE) - matter)
        return found

    def _classes(self, table: SignalTable, states: npt.NDArray[np.uint8]) -> Places:
        """Return the class of each column of states; new ones are added, and never tried on other rows."""
        before = len(table.known)
        rows = np.ascontiguousarray(states.T)
        found = np.array([table.known.setdefault(row.tobytes(), len(table.known)) for row in rows], np.int64)
        if len(table.known) > before:
            self._fill(table)
        return found

    def _fill(self, table: SignalTable) -> None:
        width = len(table.steps)
        states = np.frombuffer(b"".join(table.known), np.uint8).reshape(len(table.known), width)
        open_states = [self.initial[number] for number in table.steps]
        table.states = [
            np.append(states[:, number], np.uint8(open_states[number])) for number in range(width)
        ]
        self.__dict__.pop("_looked_up", None)

    def _upper_steps(self) -> list[int]:
        """Return the steps that are evaluated on each trial."""
        found = []
        for number in self.analysis.live:
            reads = self._reads[number]
            loose = reads >= 0 and self.tables[reads] is None
            if reads == _SEVERAL or (loose and self.analysis.steps[number].column is None):
                found.append(number)
        return found

    def _steps_reached(self) -> list[list[int]]:
        """Return for each signal the upper steps that depend on it."""
        above: dict[int, list[int]] = {}
        upper = set(self.upper)
        for number in self.upper:
            for operand in self.analysis.steps[number].operands:
                above.setdefault(operand, []).append(number)
        found = []
        for place, name in enumerate(self.names):
            table = self.tables[place]
            waiting = list(table.steps) if table else [self.analysis.columns[name]]
            seen = set(waiting)
            while waiting:
                new = [one for one in above.get(waiting.pop(), ()) if one not in seen]
                seen.update(new)
                waiting += new
            found.append(sorted(seen & upper))
        return found


class Trials(Partial):
    """The states of all steps on some trials.

    :param table: of the rule set.
    :param rows: number of trials.
    """

    def __init__(self, table: DecisionTable, rows: int) -> None:
        self.table = table
        self.analysis = table.analysis
        self.rows = rows
        self.states = list(table.initial)
        self.sets = np.empty((0, rows), np.uint8)
        """States of the conditions of rules and steps, ``(conditions, trials)``."""

    def set_values(self, place: int, column: npt.NDArray[np.int32], pool: pa.Array) -> None:
        """Set the values of a signal that is no table."""
        unknown = column == NOT_COMPUTED
        values = pool.take(pa.array(column, mask=unknown))
        number = self.analysis.columns[self.table.names[place]]
        if self.analysis.steps[number].kind == "boolean":
            self.states[number] = possible.sets_of(values, unknown)
        else:
            self.states[number] = Uncertain(values, unknown if unknown.any() else False)

    def forward(self, steps: list[int]) -> None:
        """Update steps, in the order of their numbers."""
        for number in steps:
            self.states[number] = self._forward(number)

    def roots(self) -> npt.NDArray[np.uint8]:
        """Return the state of each rule's condition, ``(rules, trials)``."""
        found = np.empty((len(self.analysis.roots), self.rows), np.uint8)
        for number, root in enumerate(self.analysis.roots):
            found[number] = self.states[root]
        return found
