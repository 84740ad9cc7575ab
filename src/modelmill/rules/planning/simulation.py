"""Simulates an order of signals on a sample on which every signal is known.

The rows that each stage needs are counted on the sample, so no model of selectivities and their correlations
is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.evaluation.partial_evaluation import Partial
from modelmill.rules.evaluation.possible_values import State
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.planning.plan import GroupCost
from modelmill.signals.groups import Mask


@dataclass(frozen=True)
class Unit:
    """Signals of one group that are computed together."""

    group: str
    signals: tuple[str, ...]


@dataclass(frozen=True)
class StageFigures:
    """Cost of a stage on a sample."""

    rows: float
    """Share of the rows that need the stage."""
    settled: float
    """Share of the rows that are settled after the stage."""
    seconds: float
    """CPU seconds for each row of the sample."""


@dataclass
class Node:
    """A set of known signals, and the cheapest order that leads there."""

    known: int
    """A bit for each unit."""
    order: tuple[int, ...]
    cost: float
    partial: Partial
    paid: dict[str, Mask]
    """Rows that have paid the shared cost of each group."""
    demand: dict[str, Mask]
    settled: float


class Simulation:
    """Computes the cost of orders on a sample.

    :param program: the rules.
    :param values: every base signal that a rule reads, on the rows of the sample.
    :param costs: cost of each group.
    :param batch_rows: rows over which the cost of a call is spread.
    """

    def __init__(
        self,
        program: RuleProgram,
        values: Mapping[str, pa.Array],
        costs: Mapping[str, GroupCost],
        *,
        batch_rows: int,
    ) -> None:
        self.program = program
        self.costs = costs
        self.batch_rows = batch_rows
        self.rows = max((len(column) for column in values.values()), default=0)
        every = np.arange(self.rows)
        self._states: dict[str, State] = {
            name: program.state_of(name, values[name], every, self.rows) for name in program.compiled.base
        }

    def start(self) -> Node:
        """Return the node at which no signal is known."""
        partial = self.program.begin(self.rows)
        paid = dict.fromkeys(self.costs, np.zeros(self.rows, np.bool_))
        return Node(0, (), 0.0, partial, paid, *self._look(partial))

    def step(self, node: Node, number: int, unit: Unit) -> tuple[Node, StageFigures]:
        """Compute a unit's signals on the rows that need them.

        :param node: the signals that are known before.
        :param number: number of the unit.
        :param unit: the unit.
        :return: the node after it, and its cost.
        """
        need, cost = self.cost(node, unit)
        after = copy(node)
        after.known, after.order = node.known | 1 << number, (*node.order, number)
        after.cost = node.cost + cost
        after.paid = {**node.paid, unit.group: node.paid[unit.group] | need}
        if need.any():
            after.partial = copy(node.partial)
            after.partial.states = list(node.partial.states)
            after.partial.set({name: self._states[name] for name in unit.signals})
            after.demand, after.settled = self._look(after.partial)
        return after, StageFigures(float(need.mean()) if self.rows else 0.0, after.settled, cost)

    def cost(self, node: Node, unit: Unit) -> tuple[Mask, float]:
        """Return which rows need a unit, and its CPU seconds for each row of the sample."""
        wanted = [name for name in unit.signals if name in node.demand]
        if not wanted:
            return np.zeros(self.rows, np.bool_), 0.0
        need: Mask = np.logical_or.reduce([node.demand[name] for name in wanted])
        group = self.costs[unit.group]
        share = float(need.mean())
        new = float((need & ~node.paid[unit.group]).mean())
        # The group is called for a chunk if at least one of its rows needs it.
        calls = 1 - (1 - share) ** self.batch_rows
        marginal = sum(group.signals[name] for name in wanted)
        return need, share * marginal + new * group.row + calls * group.batch / self.batch_rows

    def bound(self, node: Node, units: Sequence[Unit]) -> float:
        """Return the cost of computing everything that is still demanded: an upper bound for every order."""
        total = 0.0
        left: dict[str, list[str]] = {}
        for unit in units:  # what is known is not demanded
            left.setdefault(unit.group, []).extend(unit.signals)
        for group, names in left.items():
            total += self.cost(node, Unit(group, tuple(names)))[1]
        return node.cost + total

    def run(self, order: Sequence[Unit]) -> list[StageFigures]:
        """Simulate an order, and return the cost of each of its units."""
        node, figures = self.start(), []
        for number, unit in enumerate(order):
            node, figure = self.step(node, number, unit)
            figures.append(figure)
        return figures

    def everything(self, units: Sequence[Unit]) -> float:
        """Return the cost of computing every signal on every row."""
        total = 0.0
        for name, group in self.costs.items():
            signals = [signal for unit in units if unit.group == name for signal in unit.signals]
            if signals:
                total += (
                    group.row + group.batch / self.batch_rows + sum(group.signals[one] for one in signals)
                )
        return total

    def _look(self, partial: Partial) -> tuple[dict[str, Mask], float]:
        """Return where each signal is demanded, and the share of the rows that are settled."""
        found, asked = self.program.outcomes(partial)
        return partial.demand(asked), float((found != OPEN).mean()) if self.rows else 1.0
