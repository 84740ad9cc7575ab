"""The order of signals that settles rows for the least expected cost.

On a sample where every signal is known, an order is simulated: what a stage costs follows from the rows that
still need it, so selectivities and how they are correlated need no model. Which rows need a signal depends
on *which* signals are known and not on the order in which they came, so the best of all orders is a shortest
path through the subsets of signals (dynamic programming, Held and Karp 1962). The shared cost of a group is
paid on the first of its signals; which rows have paid is kept for the best path to each subset only, which
makes the result nearly exact where a group is split. Above eight units a beam goes through the same subsets,
led by an upper bound: what it costs to compute everything that is still demanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.evaluation.partial_evaluation import Partial
from modelmill.rules.evaluation.possible_values import State
from modelmill.rules.evaluation.staged_evaluation import RuleProgram
from modelmill.rules.planning.plan import GroupCost, Plan, StagePlan
from modelmill.signals.groups import Mask

MAX_EXACT = 8
"""Units whose orders are all searched: 256 subsets."""
_BEAM = 4
_MOST_STEPS = 1_000_000
"""Steps of the program that are evaluated on the sample; some ten seconds."""
_NEGLIGIBLE = 0.05
"""Signals that together cost less than this share of their trunk are computed with it."""


@dataclass(frozen=True)
class Unit:
    """Signals of one group that are computed together."""

    group: str
    signals: tuple[str, ...]


@dataclass(frozen=True)
class StageFigures:
    """What a stage costs on a sample."""

    rows: float
    """Share of the rows that need it."""
    settled: float
    """Share of the rows that are settled after it."""
    seconds: float
    """Cost for each row of the sample."""


@dataclass
class _Node:
    """A set of known signals, and the cheapest way there that was found."""

    known: int
    """A bit for each unit."""
    order: tuple[int, ...]
    cost: float
    partial: Partial
    paid: dict[str, Any]
    """Rows that have paid the shared cost, by group."""
    demand: dict[str, Mask]
    settled: float


class Simulation:
    """Costs of orders on a sample.

    :param program: the rules.
    :param values: every base signal that a rule reads, on the rows of the sample.
    :param costs: by group.
    :param batch_rows: rows that the cost of a call is spread over.
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

    def start(self) -> _Node:
        """Return what is known before any signal is."""
        node = _Node(0, (), 0.0, self.program.begin(self.rows), {}, {}, 0.0)
        self._look(node)
        return node

    def step(self, node: _Node, number: int, unit: Unit) -> tuple[_Node, StageFigures]:
        """Compute a unit's signals where they are needed.

        :param node: what is known before.
        :param number: of the unit.
        :param unit: the unit.
        :return: what is known then, and what it cost.
        """
        need, cost = self.cost(node, unit)
        after = copy(node)
        after.known, after.order = node.known | 1 << number, (*node.order, number)
        after.cost = node.cost + cost
        after.paid = {**node.paid, unit.group: node.paid.get(unit.group, False) | need}
        if need.any():
            after.partial = copy(node.partial)
            after.partial.states = list(node.partial.states)
            after.partial.set({name: self._states[name] for name in unit.signals})
            self._look(after)
        return after, StageFigures(float(need.mean()) if self.rows else 0.0, after.settled, cost)

    def cost(self, node: _Node, unit: Unit) -> tuple[Mask, float]:
        """Return which rows need a unit, and what it costs for each row of the sample."""
        wanted = [name for name in unit.signals if name in node.demand]
        if not wanted:
            return np.zeros(self.rows, np.bool_), 0.0
        need: Mask = np.logical_or.reduce([node.demand[name] for name in wanted])
        group = self.costs[unit.group]
        share = float(need.mean())
        new = float((need & np.logical_not(node.paid.get(unit.group, False))).mean())
        # A chunk is asked for the signals if one of its rows needs them.
        calls = 1 - (1 - share) ** self.batch_rows
        marginal = sum(group.signals[name] for name in wanted)
        return need, share * marginal + new * group.row + calls * group.batch / self.batch_rows

    def bound(self, node: _Node, units: Sequence[Unit]) -> float:
        """Return what it costs to compute everything that is demanded: no order costs more from here."""
        total = 0.0
        left: dict[str, list[str]] = {}
        for number, unit in enumerate(units):
            if not node.known >> number & 1:
                left.setdefault(unit.group, []).extend(unit.signals)
        for group, names in left.items():
            total += self.cost(node, Unit(group, tuple(names)))[1]
        return node.cost + total

    def run(self, order: Sequence[Unit]) -> list[StageFigures]:
        """Simulate an order.

        :param order: the units, each signal in one of them.
        :return: what each of them costs.
        """
        node, figures = self.start(), []
        for number, unit in enumerate(order):
            node, figure = self.step(node, number, unit)
            figures.append(figure)
        return figures

    def everything(self, units: Sequence[Unit]) -> float:
        """Return what it costs to compute every signal on every row."""
        total = 0.0
        for name, group in self.costs.items():
            signals = [signal for unit in units if unit.group == name for signal in unit.signals]
            if signals:
                total += (
                    group.row + group.batch / self.batch_rows + sum(group.signals[one] for one in signals)
                )
        return total

    def _look(self, node: _Node) -> None:
        found, asked = self.program.outcomes(node.partial)
        node.demand = node.partial.demand(asked) if asked else {}
        node.settled = float((found != OPEN).mean()) if self.rows else 1.0


def make_plan(
    program: RuleProgram,
    values: Mapping[str, pa.Array],
    costs: Mapping[str, GroupCost],
    *,
    batch_rows: int = 8192,
    digest: str | None = None,
) -> Plan:
    """Find the order of signals with the least expected cost.

    :param program: the rules.
    :param values: every base signal that a rule reads, on a sample of rows.
    :param costs: by group; each signal in one of them.
    :param batch_rows: rows that the cost of a call is spread over.
    :param digest: of the rule set; None: it is computed.
    :return: the plan.
    """
    simulation = Simulation(program, values, costs, batch_rows=batch_rows)
    units = _units(costs, program.compiled.base)
    order, method = _search(simulation, units)
    stages = _merged(simulation, [units[number] for number in order])
    figures = simulation.run(stages)
    return Plan(
        rule_set=digest or program.compiled.rule_set.digest,
        stages=tuple(
            StagePlan(
                group=unit.group,
                signals=unit.signals,
                rows=one.rows,
                settled=one.settled,
                seconds=one.seconds,
            )
            for unit, one in zip(stages, figures, strict=True)
        ),
        costs=dict(costs),
        method=method,
        sample_rows=simulation.rows,
        batch_rows=batch_rows,
        seconds=sum(one.seconds for one in figures),
        seconds_of_everything=simulation.everything(units),
    )


def _units(costs: Mapping[str, GroupCost], base: Sequence[str]) -> list[Unit]:
    """Return what is ordered: cheap signals with their trunk, others alone; the cheap tiers first."""
    tiers = {"explicit": 0, "measured": 1, "model": 2}
    found: list[tuple[tuple[int, float], Unit]] = []
    wanted = set(base)
    for name, group in costs.items():
        signals = tuple(signal for signal in group.signals if signal in wanted)
        marginal = sum(group.signals[signal] for signal in signals)
        if not signals:
            continue
        if marginal <= _NEGLIGIBLE * (group.row + group.batch):
            found.append(((tiers[group.tier], group.row + marginal), Unit(name, signals)))
        else:
            for signal in signals:
                rank = (tiers[group.tier], group.row + group.signals[signal])
                found.append((rank, Unit(name, (signal,))))
    return [unit for _, unit in sorted(found, key=lambda item: item[0])]


def _search(simulation: Simulation, units: Sequence[Unit]) -> tuple[tuple[int, ...], Any]:
    steps = max(len(simulation.program.analysis.live), 1)
    count = len(units)
    if count <= MAX_EXACT and 2**count * steps <= _MOST_STEPS:
        return _best_of_subsets(simulation, units), "subsets"
    if _BEAM * count * count / 2 * steps <= _MOST_STEPS:
        return _best_of_beam(simulation, units), "beam"
    if count * steps <= _MOST_STEPS:
        return _by_ratio(simulation, units), "ratios"
    return tuple(range(count)), "tiers"


def _best_of_subsets(simulation: Simulation, units: Sequence[Unit]) -> tuple[int, ...]:
    layer: dict[int, _Node] = {0: simulation.start()}
    for _ in units:
        layer = _next_layer(simulation, units, layer.values())
    return next(iter(layer.values())).order


def _next_layer(simulation: Simulation, units: Sequence[Unit], nodes: Any) -> dict[int, _Node]:
    """Return the cheapest way to each subset of one more unit."""
    ways: dict[int, tuple[float, _Node, int]] = {}
    for node in nodes:
        for number in _left(node, units):
            cost = node.cost + simulation.cost(node, units[number])[1]
            known = node.known | 1 << number
            if known not in ways or cost < ways[known][0]:
                ways[known] = (cost, node, number)
    return {
        known: simulation.step(node, number, units[number])[0] for known, (_, node, number) in ways.items()
    }


def _best_of_beam(simulation: Simulation, units: Sequence[Unit]) -> tuple[int, ...]:
    layer = [simulation.start()]
    for _ in units:
        following = _next_layer(simulation, units, layer).values()
        layer = sorted(following, key=lambda node: simulation.bound(node, units))[:_BEAM]
    return layer[0].order


def _by_ratio(simulation: Simulation, units: Sequence[Unit]) -> tuple[int, ...]:
    """Order by cost and by what is not demanded any more once a unit is known, each looked at alone."""
    start = simulation.start()
    before = simulation.bound(start, units)

    def ratio(number: int) -> float:
        after, figures = simulation.step(start, number, units[number])
        gain = before - simulation.bound(after, units)
        return (figures.seconds + 1e-12) / (gain + 1e-12)

    return tuple(sorted(range(len(units)), key=ratio))


def _left(node: _Node, units: Sequence[Unit]) -> Iterator[int]:
    """Return the units that are not known."""
    return (number for number in range(len(units)) if not node.known >> number & 1)


def _merged(simulation: Simulation, order: list[Unit]) -> list[Unit]:
    """Put neighbours of one group into one stage where that costs no more: a stage costs the engine time."""
    found: list[Unit] = []
    for unit in order:
        if found and found[-1].group == unit.group:
            together = Unit(unit.group, (*found[-1].signals, *unit.signals))
            apart = sum(one.seconds for one in simulation.run([*found, unit]))
            if sum(one.seconds for one in simulation.run([*found[:-1], together])) <= 1.002 * apart:
                found[-1] = together
                continue
        found.append(unit)
    return found
