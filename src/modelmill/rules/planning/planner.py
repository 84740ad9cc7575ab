"""Finds the order of signals that settles rows for the least expected cost.

Orders are simulated on a sample (:mod:`.simulation`). Which rows need a signal depends on *which* signals
are known and not on the order in which they came, so the best of all orders is a shortest path through the
subsets of signals (dynamic programming, M. Held and R. Karp 1962). The shared cost of a group is paid with
the first of its signals; which rows have paid is kept only for the best path to each subset, so the result is
nearly exact if a group is split. Above eight units a beam search goes through the same subsets, guided by an
upper bound: the cost of computing everything that is still demanded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.planning.plan import EvaluationPlan, GroupCost, StagePlan
from modelmill.rules.planning.simulation import Node, Simulation, Unit
from modelmill.signals.groups import TIERS

MAX_EXACT = 8
"""Units up to which all orders are searched: 256 subsets."""
_BEAM = 4
_MOST_STEPS = 1_000_000
"""Steps of the program that a search may evaluate on the sample: some ten seconds."""
_NEGLIGIBLE = 0.05
"""Signals that together cost less than this share of their trunk are computed in one unit."""


def make_plan(
    program: RuleProgram,
    values: Mapping[str, pa.Array],
    costs: Mapping[str, GroupCost],
    *,
    batch_rows: int = 8192,
) -> EvaluationPlan:
    """Find the order of signals with the least expected cost.

    :param program: the rules.
    :param values: every base signal that a rule reads, on a sample of rows.
    :param costs: cost of each group; each base signal belongs to one group.
    :param batch_rows: rows over which the cost of a call is spread.
    :return: the plan.
    """
    simulation = Simulation(program, values, costs, batch_rows=batch_rows)
    units = _units(costs, program.compiled.base)
    order, method = _search(simulation, units)
    stages = _merged(simulation, [units[number] for number in order])
    figures = simulation.run(stages)
    return EvaluationPlan(
        rule_set=program.compiled.digest,
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
    """Return the units to order: cheap signals with their trunk, others alone; the cheap tiers first."""
    found: list[tuple[tuple[int, float], Unit]] = []
    wanted = set(base)
    for name, group in costs.items():
        signals = tuple(signal for signal in group.signals if signal in wanted)
        marginal = sum(group.signals[signal] for signal in signals)
        if not signals:
            continue
        if marginal <= _NEGLIGIBLE * (group.row + group.batch):
            found.append(((TIERS.index(group.tier), group.row + marginal), Unit(name, signals)))
        else:
            for signal in signals:
                rank = (TIERS.index(group.tier), group.row + group.signals[signal])
                found.append((rank, Unit(name, (signal,))))
    return [unit for _, unit in sorted(found, key=lambda item: item[0])]


def _search(simulation: Simulation, units: Sequence[Unit]) -> tuple[tuple[int, ...], Any]:
    steps = len(simulation.program.analysis.live)
    count = len(units)
    if count <= MAX_EXACT and 2**count * steps <= _MOST_STEPS:
        return _best_of_subsets(simulation, units), "subsets"
    if _BEAM * count * count / 2 * steps <= _MOST_STEPS:
        return _best_of_beam(simulation, units), "beam"
    if count * steps <= _MOST_STEPS:
        return _by_ratio(simulation, units), "ratios"
    return tuple(range(count)), "tiers"


def _best_of_subsets(simulation: Simulation, units: Sequence[Unit]) -> tuple[int, ...]:
    layer: Iterable[Node] = [simulation.start()]
    for _ in units:
        layer = _next_layer(simulation, units, layer).values()
    return next(iter(layer)).order


def _next_layer(simulation: Simulation, units: Sequence[Unit], nodes: Iterable[Node]) -> dict[int, Node]:
    """Return the cheapest path to each subset with one more unit."""
    ways: dict[int, tuple[float, Node, int]] = {}
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
    """Order by the ratio of a unit's cost and what it saves, each unit looked at alone."""
    start = simulation.start()
    before = simulation.bound(start, units)

    def ratio(number: int) -> float:
        after, figures = simulation.step(start, number, units[number])
        # A group that is called once more costs a little more, so what saves nothing may seem to lose.
        gain = max(before - simulation.bound(after, units), 0.0)
        return (figures.seconds + 1e-12) / (gain + 1e-12)

    return tuple(sorted(range(len(units)), key=ratio))


def _left(node: Node, units: Sequence[Unit]) -> Iterator[int]:
    """Return the numbers of the units that are not known yet."""
    return (number for number in range(len(units)) if not node.known >> number & 1)


def _merged(simulation: Simulation, order: list[Unit]) -> list[Unit]:
    """Merge neighbours of one group into one stage if that costs no more: each stage has an overhead."""
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
