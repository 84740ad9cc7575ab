"""Evaluates a program while some of its columns are not known yet, on some rows or on all.

Forward: each step's state follows from the states of its operands (:mod:`.possible_values`).
Backward: a column is *demanded* on a row if its value could still change one of the roots. A column that is
not demanded on a row never will be, because more and more of the row becomes known. So computing columns only
where they are demanded leads to the same result as computing them everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.possible_values import ANYTHING, FALSE, TRUE, State, Uncertain
from modelmill.rules.language import kernels
from modelmill.rules.language.program import Step
from modelmill.signals.groups import Mask
from modelmill.signals.values import STORED

_EVERYTHING = TRUE | FALSE
"""Both distinctions that may matter of a condition: whether it is TRUE, and whether it is FALSE."""

UNDETERMINED = np.array(
    [
        *[
            [(found & matter) != 0 and (found & ~matter) != 0 for found in range(8)]
            for matter in range(_EVERYTHING)
        ],
        [bin(found).count("1") > 1 for found in range(8)],
    ]
)
"""Whether a set of truth values leaves open what matters of a condition, by that and by the set."""


class Analysis:
    """What follows from a program alone, before any row is known: the steps that matter, and in what way.

    :param steps: the program's steps.
    :param roots: the steps whose values are wanted, all of them conditions.
    :param truth_only: whether only matters if a root is true, and false and NULL are alike.
    """

    def __init__(self, steps: Sequence[Step], roots: Sequence[int], *, truth_only: bool) -> None:
        self.steps = tuple(steps)
        self.roots = tuple(roots)
        self.truth_only = truth_only
        self.matters = [0] * len(steps)
        for root in self.roots:
            self.matters[root] |= TRUE if truth_only else _EVERYTHING
        for number in range(len(steps) - 1, -1, -1):
            if self.matters[number]:
                for operand, matter in _matters_below(steps[number], self.matters[number]):
                    self.matters[operand] |= matter
        self.live = [number for number, matter in enumerate(self.matters) if matter]
        self.columns = {
            step.column: number for number in self.live if (step := self.steps[number]).column is not None
        }
        """Number of the step that reads each column."""

    def undetermined(self, number: int, state: State) -> Any:
        """Return where the value of a step in some state is open in a way that matters: a mask or a bool."""
        if isinstance(state, Uncertain):
            return state.open
        return possible.looked_up(UNDETERMINED[self.matters[number]], state)


def _matters_below(step: Step, matter: int) -> Iterable[tuple[int, int]]:
    """Return which distinctions of each operand matter, given those of the step."""
    kernel, operands = step.kernel, step.operands
    if kernel in (kernels.conjunction, kernels.disjunction):
        return [(operand, matter) for operand in operands]
    if kernel is kernels.negation:
        swapped = (TRUE if matter & FALSE else 0) | (FALSE if matter & TRUE else 0)
        return [(operands[0], swapped)]
    if kernel is kernels.is_true:
        return [(operands[0], TRUE)]
    if kernel is kernels.choose:
        conditions = [(operand, TRUE) for operand in operands[:-1:2]]
        values = matter if step.kind == "boolean" else _EVERYTHING
        return conditions + [(operand, values) for operand in (*operands[1::2], operands[-1])]
    return [(operand, _EVERYTHING) for operand in operands]


class Partial:
    """The state of a program on some rows.

    :param analysis: of the program.
    :param rows: number of rows.
    """

    def __init__(self, analysis: Analysis, rows: int) -> None:
        self.analysis = analysis
        self.rows = rows
        self.states: list[Any] = [None] * len(analysis.steps)
        self._alive = set(analysis.live)
        for number in analysis.live:
            self.states[number] = self._forward(number)

    def set(self, columns: Mapping[str, State]) -> None:
        """Set the states of columns, and update the steps that depend on them."""
        steps = self.analysis.steps
        changed = {self.analysis.columns[name] for name in columns if name in self.analysis.columns}
        for name, state in columns.items():
            if name in self.analysis.columns:
                self.states[self.analysis.columns[name]] = state
        for number in self.analysis.live if changed else ():
            if number in self._alive and not changed.isdisjoint(steps[number].operands):
                self.states[number] = self._forward(number)
                changed.add(number)

    def demand(self, roots: Mapping[int, Any]) -> dict[str, Mask]:
        """Return where each column is demanded.

        :param roots: where each root is wanted; roots that are left out are not.
        :return: masks by column; columns that no row demands are left out.
        """
        demand: dict[int, Any] = dict(roots)
        found: dict[str, Mask] = {}
        self._alive = set()
        for number in reversed(self.analysis.live):
            asked = demand.pop(number, False)
            if asked is False:
                continue
            asked = asked & self.analysis.undetermined(number, self.states[number])
            if not np.any(asked):
                continue
            step = self.analysis.steps[number]
            self._alive.add(number)
            if step.column is not None:
                found[step.column] = np.broadcast_to(asked, self.rows)
            for operand, where in self.below(step, asked):
                demand[operand] = demand.get(operand, False) | where
        return found

    def keep(self, rows: Mask) -> None:
        """Drop all rows but some."""
        self.rows = int(rows.sum())
        needed = {*self._alive, *self.analysis.roots}
        for number in self._alive:
            needed.update(self.analysis.steps[number].operands)
        arrow = pa.array(rows)
        for number in self.analysis.live:
            self.states[number] = _kept(self.states[number], rows, arrow) if number in needed else None

    def _forward(self, number: int) -> State:
        step = self.analysis.steps[number]
        if step.column is not None:
            return unknown_column(step)
        operands = [self.states[operand] for operand in step.operands]
        known = _FORWARD.get(step.kernel) if step.kernel else None
        return known(step, operands) if known else _strict(step, operands)

    def below(self, step: Step, asked: Any) -> list[tuple[int, Any]]:
        """Return where each operand of a step is demanded, given where the step is."""
        states = [self.states[operand] for operand in step.operands]
        if step.kernel is kernels.choose:
            reached = possible.reached_branches(states[:-1:2])
            where = [
                reached[place // 2] & (possible.has(states[place - 1], TRUE) if place % 2 else True)
                for place in range(len(states) - 1)
            ]
            where.append(reached[-1])
        elif step.kernel is kernels.coalesce:
            where = possible.reached_operands(states)
        else:
            where = [True] * len(states)
        return [(operand, asked & here) for operand, here in zip(step.operands, where, strict=True)]


def unknown_column(step: Step) -> State:
    """Return the state of a column that is not known on any row."""
    return ANYTHING if step.kind == "boolean" else Uncertain(pa.scalar(None, STORED[step.kind]), True)


def column_state(values: pa.Array, step: Step, rows: Any, count: int) -> State:
    """Return the state of a column that is known on some rows.

    :param values: its values on these rows, of the Arrow type of its kind.
    :param step: the step that reads the column.
    :param rows: numbers of the rows, ascending.
    :param count: number of all rows.
    :return: its state on all rows.
    """
    if len(rows) == count:
        return possible.sets_of(values) if step.kind == "boolean" else Uncertain(values, False)
    if step.kind == "boolean":
        sets = np.full(count, ANYTHING, np.uint8)
        sets[rows] = possible.sets_of(values)
        return sets
    place = np.full(count, -1, np.int64)
    place[rows] = np.arange(len(rows))
    return Uncertain(values.take(pa.array(place, mask=place < 0)), place < 0)


def _kept(state: State | None, rows: Mask, arrow: pa.Array) -> State | None:
    if isinstance(state, Uncertain):
        values = state.values if isinstance(state.values, pa.Scalar) else state.values.filter(arrow)
        return Uncertain(values, state.open if isinstance(state.open, bool) else state.open[rows])
    return state[rows] if isinstance(state, np.ndarray) else state


def _strict(step: Step, operands: list[State], *, null_decides: Sequence[bool] | None = None) -> State:
    """Apply an operator that needs all its operands, except that a known NULL may decide alone."""
    if not operands:  # a constant
        value = step.compute(None)
        return possible.sets_of(value) if step.kind == "boolean" else Uncertain(value, False)
    plain = [possible.uncertain(operand) for operand in operands]
    unknown: Any = False
    for operand in plain:
        unknown = unknown | operand.open
    for place, state in enumerate(operands):
        if null_decides is None or null_decides[place]:
            unknown = unknown & np.logical_not(possible.known_null(state))
    if np.ndim(unknown) == 0:
        unknown = bool(unknown)
    if unknown is True:
        return ANYTHING if step.kind == "boolean" else Uncertain(pa.scalar(None, STORED[step.kind]), True)
    values = step.compute(*(operand.values for operand in plain))
    if step.kind == "boolean":
        return possible.sets_of(values, unknown)
    return Uncertain(values, unknown)


def _same(step: Step, operands: list[State]) -> State:
    return _strict(step, operands, null_decides=(False, False))


def _null_if(step: Step, operands: list[State]) -> State:
    return _strict(step, operands, null_decides=(True, False))


def _choose(step: Step, operands: list[Any]) -> State:
    conditions: list[Any] = operands[:-1:2]
    values: list[Any] = [*operands[1::2], operands[-1]]
    if step.kind == "boolean":
        return possible.chosen(conditions, values)
    known: list[Any] = [possible.uncertain(condition).values for condition in conditions]
    flat = [part for pair in zip(known, values, strict=False) for part in (pair[0], pair[1].values)]
    unknown = possible.chosen_open(conditions, values)
    return Uncertain(kernels.choose(*flat, values[-1].values), _mask(unknown))


def _coalesce(step: Step, operands: list[Any]) -> State:
    if step.kind == "boolean":
        return possible.first_known(operands)
    unknown = possible.first_open(operands)
    return Uncertain(kernels.coalesce(*(operand.values for operand in operands)), _mask(unknown))


def _mask(found: Any) -> Any:
    return bool(found) if np.ndim(found) == 0 else found


_FORWARD: dict[Callable[..., Any], Callable[[Step, list[Any]], State]] = {
    kernels.conjunction: lambda _step, operands: possible.conjunction(*operands),
    kernels.disjunction: lambda _step, operands: possible.disjunction(*operands),
    kernels.negation: lambda _step, operands: possible.negation(*operands),
    kernels.is_true: lambda _step, operands: possible.is_true(*operands),
    kernels.is_null: lambda _step, operands: possible.is_null(*operands),
    kernels.same: _same,
    kernels.null_if: _null_if,
    kernels.choose: _choose,
    kernels.coalesce: _coalesce,
}
