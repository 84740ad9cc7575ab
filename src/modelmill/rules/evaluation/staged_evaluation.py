"""Evaluates rows in stages: each stage computes some signals, on the rows that still need one of them.

A row is settled as soon as its outcome is the same whatever the missing signals are: a rule is sure to stop
there, and no rule before it may. The outcomes are those of computing every signal on every row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.evaluation.group_calls import CheckedValues
from modelmill.rules.evaluation.partial_evaluation import Partial
from modelmill.rules.evaluation.rule_program import Outcomes, RuleProgram
from modelmill.signals.groups import Evaluation, Mask, Rows

ComputeStage = Callable[[Sequence[str], Rows], Mapping[str, CheckedValues]]
"""Computes signals of one group on rows of a chunk."""
Stage = tuple[Sequence[str], ComputeStage] | tuple[Sequence[str], ComputeStage, ComputeStage]
"""Signals of one group, and what computes them; perhaps after a quick look, which may leave some open."""


@dataclass(frozen=True)
class StageWork:
    """The work of one stage."""

    stage: int
    """Its number in the plan."""
    signals: tuple[str, ...]
    rows: int
    """Rows on which the signals were computed."""
    seconds: float
    """CPU time of the signals, all threads."""


@dataclass
class Settlement:
    """The outcomes of a chunk of rows, and the signals that led to them."""

    outcomes: Outcomes
    """See :data:`~modelmill.rules.evaluation.compiled_rule_set.OPEN`; none is open in the end."""
    stages: npt.NDArray[np.int16]
    """Number of the plan's stage after which each row was settled; -1: before any."""
    values: dict[str, pa.Array] = field(default_factory=dict)
    """Base signals by name, of the Arrow type of their kind; null where not computed, or unknown."""
    computed: dict[str, Mask] = field(default_factory=dict)
    """Where each base signal was needed, and computed. Signals that no row needed are left out."""
    failures: dict[str, dict[int, str]] = field(default_factory=dict)
    """Why a signal could not be computed, by row."""
    work: list[StageWork] = field(default_factory=list)
    overhead: float = 0.0
    """CPU seconds of this thread, without those of the signals."""

    @classmethod
    def of(cls, rows: int) -> Settlement:
        """Return the settlement of rows none of which is settled."""
        return cls(np.full(rows, OPEN, np.int32), np.full(rows, -1, np.int16))

    def add_outcomes(self, found: Outcomes, rows: Rows, *, stage: int) -> None:
        """Note the rows that a stage has settled.

        :param found: outcomes of ``rows``, ``OPEN`` where not settled.
        :param rows: numbers of rows.
        :param stage: the stage.
        """
        new = (found != OPEN) & (self.outcomes[rows] == OPEN)
        self.outcomes[rows[new]] = found[new]
        self.stages[rows[new]] = stage

    def add_work(self, work: StageWork) -> None:
        """Note the work of a stage. Rows are not counted twice if the stage has had a quick look before."""
        if self.work and (last := self.work[-1]).stage == work.stage:
            work = replace(last, seconds=last.seconds + work.seconds)
            self.work.pop()
        self.work.append(work)

    def add_values(self, name: str, found: CheckedValues, *, computed: Rows, needed: Rows) -> None:
        """Note a signal's values where they were needed, and drop those that were computed on the side.

        :param name: the signal.
        :param found: its values on ``computed``.
        :param computed: numbers of rows.
        :param needed: numbers of rows.
        """
        rows = len(self.outcomes)
        if len(needed) == len(computed) == rows and found.open is False:
            self.values[name], self.computed[name] = found.values, np.ones(rows, np.bool_)
            if found.failures:
                self.failures[name] = dict(found.failures)
            return
        place = np.full(rows, -1, np.int64)
        place[computed] = np.where(found.open, -1, np.arange(len(computed)))
        mask = np.zeros(rows, np.bool_)
        mask[needed] = True
        mask &= place >= 0
        values = found.values.take(pa.array(place, mask=~mask))
        failures = {row: reason for row, reason in found.failures.items() if mask[row]}
        if name in self.computed:  # by a quick look, which has left these rows open
            values = pc.if_else(pa.array(mask), values, self.values[name])
            mask |= self.computed[name]
            failures |= self.failures.get(name, {})
        self.values[name], self.computed[name] = values, mask
        if failures:
            self.failures[name] = failures

    def state(self, program: RuleProgram) -> Partial:
        """Return the state of the rows: each signal known where it was needed."""
        count = len(self.outcomes)
        partial = program.begin(count)
        states = {}
        for name, values in self.values.items():
            rows = np.flatnonzero(self.computed[name])
            states[name] = program.state_of(name, values.take(pa.array(rows)), rows, count)
        partial.set(states)
        return partial


@dataclass(frozen=True)
class SettledChunk:
    """Rows that have been settled."""

    rows: pa.RecordBatch
    settlement: Settlement
    evaluations: dict[str, Evaluation]
    """The work of each group on these rows, by the group's name: it can show evidence."""


def settle(program: RuleProgram, stages: Sequence[Stage], rows: int) -> Settlement:
    """Settle a chunk of rows.

    :param program: the rules.
    :param stages: in the order of the plan; together they have every base signal.
    :param rows: number of rows.
    :return: their outcomes.
    """
    began = time.thread_time()
    settlement = Settlement.of(rows)
    active: Rows = np.arange(rows)
    partial = program.begin(rows)
    found, asked = program.outcomes(partial)
    settlement.add_outcomes(found, active, stage=-1)
    passes = [(number, names, compute) for number, (names, *calls) in enumerate(stages) for compute in calls]
    for number, names, compute in passes:
        demand = partial.demand(asked) if asked else {}
        if not demand:
            break
        wanted = [name for name in names if name in demand]
        if not wanted:
            continue
        active = _without_settled(partial, active, settlement, demand)
        local = np.flatnonzero(np.logical_or.reduce([demand[name] for name in wanted]))
        seconds, own = time.process_time(), time.thread_time()
        answers = compute(wanted, active[local])
        settlement.add_work(StageWork(number, tuple(wanted), len(local), time.process_time() - seconds))
        began += time.thread_time() - own
        states = {}
        for name in wanted:
            one = answers[name]
            state = program.state_of(name, one.values, local, len(active), unclear=one.open)
            before = partial.states[program.analysis.columns[name]]
            states[name] = possible.narrowed(before, state) if name in settlement.computed else state
            settlement.add_values(name, one, computed=active[local], needed=active[demand[name]])
        partial.set(states)
        found, asked = program.outcomes(partial)
        settlement.add_outcomes(found, active, stage=number)
    settlement.overhead = time.thread_time() - began
    return settlement


def _without_settled(partial: Partial, active: Rows, settlement: Settlement, demand: dict[str, Mask]) -> Rows:
    """Drop the settled rows once they are half of all: each row is then moved at most once on average."""
    still = settlement.outcomes[active] == OPEN
    if 2 * still.sum() > len(active):
        return active
    partial.keep(still)
    for name in demand:
        demand[name] = demand[name][still]
    left: Rows = active[still]
    return left


def settle_fully(program: RuleProgram, values: Mapping[str, pa.Array], rows: int) -> Outcomes:
    """Return the outcomes of rows on which every signal is known.

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
