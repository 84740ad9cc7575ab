"""Settling rows stage by stage: each stage computes some signals on the rows that still need them.

A row is settled when its outcome can no longer change whatever the missing signals are: when some rule
surely stops there and no rule before it may. The result is that of computing every signal everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.compiled_rule_set import OPEN, CompiledRuleSet
from modelmill.rules.evaluation.group_calls import Known
from modelmill.rules.evaluation.partial_evaluation import Analysis, Partial, column_state
from modelmill.rules.evaluation.possible_values import FALSE, NULL, TRUE
from modelmill.signals.cascade import QuickValues
from modelmill.signals.groups import Mask, Rows

Outcomes = npt.NDArray[np.int32]
AskStage = Callable[[Sequence[str], Rows], Mapping[str, Known]]
"""Computes signals of one group for rows of a chunk."""
Stage = tuple[Sequence[str], AskStage] | tuple[Sequence[str], AskStage, AskStage]
"""Signals of one group, and what computes them; perhaps after a quick look, which may leave some open."""


@dataclass(frozen=True)
class Work:
    """What one stage did."""

    stage: int
    """Its number in the plan."""
    signals: tuple[str, ...]
    rows: int
    """Rows that the signals were computed on."""
    seconds: float
    """CPU time of the signals, all threads."""


@dataclass
class Settlement:
    """The outcomes of a chunk of rows, and what is known of each row."""

    outcomes: Outcomes
    """See :data:`modelmill.rules.evaluation.compiled_rule_set.OPEN`; none is open in the end."""
    stages: npt.NDArray[np.int16]
    """Number of the plan's stage after which each row was settled; -1: before any."""
    values: dict[str, pa.Array]
    """Base signals by name, of the Arrow type of their kind; null where not computed, or unknown."""
    computed: dict[str, Mask]
    """Where each base signal was needed, and computed. A name that is left out was needed nowhere."""
    failures: dict[str, dict[int, str]]
    """Why a signal could not be computed, by row."""
    work: list[Work] = field(default_factory=list)
    overhead: float = 0.0
    """CPU seconds of this thread besides those of the signals."""


class RuleProgram:
    """A compiled rule set, ready to settle rows.

    :param compiled: the rule set.
    """

    def __init__(self, compiled: CompiledRuleSet) -> None:
        self.compiled = compiled
        self.truth_only = compiled.rule_set.on_unknown is None
        self.analysis = Analysis(compiled.steps, compiled.roots, truth_only=self.truth_only)

    def begin(self, rows: int) -> Partial:
        """Return the state of rows of which nothing is known.

        :param rows: number of rows.
        :return: their state.
        """
        return Partial(self.analysis, rows)

    def state_of(
        self, name: str, values: pa.Array, rows: Any, count: int, *, unclear: Mask | bool = False
    ) -> possible.State:
        """Return a signal's state; see :func:`modelmill.rules.evaluation.partial_evaluation.column_state`."""
        step = self.analysis.steps[self.analysis.columns[name]]
        if unclear is not False:
            told = np.logical_not(unclear)
            rows, values = np.asarray(rows)[told], values.filter(pa.array(told))
        return column_state(values, step, rows, count)

    def settled_by(self, told: Mapping[str, QuickValues]) -> Mask:
        """See :data:`modelmill.signals.cascade.SettledBy`."""
        rows = len(next(iter(told.values())).values)
        every, partial = np.arange(rows), self.begin(rows)
        known = {name: one for name, one in told.items() if name in self.analysis.columns}
        partial.set(
            {
                name: self.state_of(name, one.values, every, rows, unclear=one.open)
                for name, one in known.items()
            }
        )
        _, asked = self.outcomes(partial)
        demand = partial.demand(asked) if asked else {}
        more = np.zeros(rows, np.bool_)
        for name, one in known.items():
            if name in demand:
                more |= demand[name] & one.open
        return ~more

    def outcomes(self, partial: Partial) -> tuple[Outcomes, dict[int, Mask]]:
        """Return what is settled, and where each condition still matters.

        :param partial: state of some rows.
        :return: outcome of each row, and masks by the step of a condition.
        """
        rows = partial.rows
        found = np.full(rows, OPEN, np.int32)
        asked: dict[int, Any] = {}
        goes_on = FALSE | NULL if self.truth_only else FALSE
        stops = TRUE if self.truth_only else TRUE | NULL
        reached = np.ones(rows, np.bool_)  # no rule before surely stops
        clear = np.ones(rows, np.bool_)  # no rule before may stop
        for number, root in enumerate(self.analysis.roots):
            state = partial.states[root]
            unclear = self.analysis.undetermined(root, state)
            if np.any(unclear):
                asked[root] = asked.get(root, False) | (reached & unclear)
            may_stop = possible.has(state, stops)
            if np.any(may_stop):
                settled = clear & may_stop & np.logical_not(unclear)
                found[settled & (state == TRUE)] = number
                if not self.truth_only:
                    found[settled & (state == NULL)] = self.compiled.no_rule + 1 + number
                clear &= np.logical_not(may_stop)
                reached &= possible.has(state, goes_on)
                if not reached.any():
                    break
        found[clear & reached] = self.compiled.no_rule
        return found, asked


def settle(program: RuleProgram, stages: Sequence[Stage], rows: int) -> Settlement:
    """Settle a chunk of rows.

    :param program: the rules.
    :param stages: in the order of the plan; together they have every base signal.
    :param rows: number of rows.
    :return: their outcomes.
    """
    began = time.thread_time()
    settlement = Settlement(np.full(rows, OPEN, np.int32), np.full(rows, -1, np.int16), {}, {}, {})
    active: Rows = np.arange(rows)
    partial = program.begin(rows)
    asked = _settle_rows(program, partial, active, settlement, -1)
    passes = [(number, names, ask) for number, (names, *asks) in enumerate(stages) for ask in asks]
    for number, names, ask in passes:
        demand = partial.demand(asked) if asked else {}
        if not demand:
            break
        wanted = [name for name in names if name in demand]
        if not wanted:
            continue
        active = _drop_settled(partial, active, settlement, demand)
        local = np.flatnonzero(np.logical_or.reduce([demand[name] for name in wanted]))
        seconds, own = time.process_time(), time.thread_time()
        known = ask(wanted, active[local])
        _count(settlement, Work(number, tuple(wanted), len(local), time.process_time() - seconds))
        began += time.thread_time() - own
        states = {}
        for name in wanted:
            one = known[name]
            state = program.state_of(name, one.values, local, len(active), unclear=one.open)
            before = partial.states[program.analysis.columns[name]]
            states[name] = possible.narrowed(before, state) if name in settlement.computed else state
            _note(settlement, name, one, active[local], active[demand[name]], rows)
        partial.set(states)
        asked = _settle_rows(program, partial, active, settlement, number)
    settlement.overhead = time.thread_time() - began
    return settlement


def _count(settlement: Settlement, work: Work) -> None:
    """Keep what was done; a stage that has had a quick look has counted its rows."""
    if settlement.work and (last := settlement.work[-1]).stage == work.stage:
        work = replace(last, seconds=last.seconds + work.seconds)
        settlement.work.pop()
    settlement.work.append(work)


def _settle_rows(
    program: RuleProgram, partial: Partial, active: Rows, settlement: Settlement, stage: int
) -> dict[int, Mask]:
    found, asked = program.outcomes(partial)
    new = (found != OPEN) & (settlement.outcomes[active] == OPEN)
    settlement.outcomes[active[new]] = found[new]
    settlement.stages[active[new]] = stage
    return asked


def _drop_settled(partial: Partial, active: Rows, settlement: Settlement, demand: dict[str, Mask]) -> Rows:
    """Go on without the settled rows once they are half of all: each row is moved at most once on average."""
    still = settlement.outcomes[active] == OPEN
    if 2 * still.sum() > len(active):
        return active
    partial.keep(still)
    for name in demand:
        demand[name] = demand[name][still]
    left: Rows = active[still]
    return left


def _note(settlement: Settlement, name: str, known: Known, computed: Rows, needed: Rows, rows: int) -> None:
    """Keep a signal's values where they were needed; what came along for nothing does not count."""
    place = np.full(rows, -1, np.int64)
    place[computed] = np.where(known.open, -1, np.arange(len(computed)))
    mask = np.zeros(rows, np.bool_)
    mask[needed] = True
    mask &= place >= 0
    values = known.values.take(pa.array(place, mask=~mask))
    failures = {row: reason for row, reason in known.failures.items() if mask[row]}
    if name in settlement.computed:  # by a quick look, which has left these rows open
        values = pc.if_else(pa.array(mask), values, settlement.values[name])
        mask |= settlement.computed[name]
        failures |= settlement.failures.get(name, {})
    settlement.values[name], settlement.computed[name] = values, mask
    if failures:
        settlement.failures[name] = failures


def settle_fully(program: RuleProgram, values: Mapping[str, pa.Array], rows: int) -> Outcomes:
    """Return the outcomes where every signal is known.

    :param program: the rules.
    :param values: every base signal that a rule reads, of the Arrow type of its kind.
    :param rows: number of rows.
    :return: their outcomes.
    """
    partial = program.begin(rows)
    every = np.arange(rows)
    partial.set(
        {
            name: program.state_of(name, array, every, rows)
            for name, array in values.items()
            if name in program.analysis.columns
        }
    )
    found, _ = program.outcomes(partial)
    return found
