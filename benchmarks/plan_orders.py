"""Plans of random problems, against the best of all orders by brute force.

``python -m benchmarks.plan_orders 200`` makes problems of 2 to 8 signals with random rules, costs that span
three decades, correlated values and, in half of them, trunks that signals share. Every order is simulated.
Costs are those of the simulation; the engine itself runs the plan and a random order and must have computed
each signal on the rows that the simulation says.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.compiled_rule_set import compile_rule_set
from modelmill.rules.evaluation.group_calls import CheckedValues
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import settle
from modelmill.rules.planning.plan import GroupCost
from modelmill.rules.planning.planner import make_plan
from modelmill.rules.planning.simulation import Simulation, Unit
from modelmill.rules.rule_set import RuleSet

ROWS = 400


class Problem:
    """Rules over a few signals, their costs, and a sample."""

    def __init__(self, seed: int, *, most: int = 8) -> None:
        self.random = random.Random(seed)
        generator = np.random.default_rng(seed)
        count = self.random.randint(2, most)
        names = [f"s{number}" for number in range(count)]
        self.values = {name: self._column(generator, place) for place, name in enumerate(names)}
        conditions = [
            self._condition(names, self.random.randint(1, 3)) for _ in range(self.random.randint(1, 4))
        ]
        # Every signal is read, or the problem would be smaller than it says.
        conditions.append(" AND ".join(f"{name} > {self.random.random():.2f}" for name in names))
        self.rule_set = RuleSet.model_validate(
            {
                "rule_set": "problem",
                "key": "id",
                "signals": {name: {"kind": "column"} for name in names},
                "rules": [
                    {"name": f"r{number}", "when": text, "then": "a"}
                    for number, text in enumerate(conditions)
                ],
                "default": "b",
                "on_unknown": self.random.choice([None, "c"]),
            }
        )
        self.program = RuleProgram(compile_rule_set(self.rule_set, dict.fromkeys(names, "float")))
        self.costs = self._costs(names)
        self.names = names

    def _column(self, generator: np.random.Generator, place: int) -> pa.Array:
        if place == 0:
            self.common = generator.random(ROWS)
        share = self.random.choice([0.0, 0.0, 0.5, 0.9])  # of a value that all signals know of
        values = share * self.common + (1 - share) * generator.random(ROWS)
        unknown = generator.random(ROWS) < self.random.choice([0.0, 0.1])
        return pa.array(values, mask=unknown)

    def _condition(self, names: list[str], depth: int) -> str:
        if depth == 0:
            return f"{self.random.choice(names)} {self.random.choice(['>', '<'])} {self.random.random():.2f}"
        one, other = self._condition(names, depth - 1), self._condition(names, depth - 1)
        return self.random.choice(
            [f"({one} AND {other})", f"({one} OR {other})", f"(NOT ({one}) AND {other})"]
        )

    def _costs(self, names: list[str]) -> dict[str, GroupCost]:
        def cost() -> float:
            return 10 ** self.random.uniform(-6, -3)

        shared = self.random.random() < 0.5
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(
                self.random.choice(["trunk one", "trunk two", name]) if shared else name, []
            ).append(name)
        return {
            group: GroupCost(
                row=cost() if len(members) > 1 else 0.0,
                batch=self.random.choice([0.0, cost()]),
                signals={name: cost() for name in members},
            )
            for group, members in groups.items()
        }

    def simulation(self) -> Simulation:
        return Simulation(self.program, self.values, self.costs, batch_rows=8192)

    def units(self) -> list[Unit]:
        return [Unit(group, (name,)) for group, cost in self.costs.items() for name in cost.signals]


def best_of_all(problem: Problem) -> tuple[float, float]:
    """Return the cost of the best and of the worst of all orders of single signals."""
    simulation, units = problem.simulation(), problem.units()
    nodes: dict[int, Any] = {0: simulation.start()}
    best, worst = float("inf"), 0.0

    def go(known: int, cost: float, paid: dict[str, Any]) -> None:
        nonlocal best, worst
        if known == 2 ** len(units) - 1:
            best, worst = min(best, cost), max(worst, cost)
            return
        for number, unit in enumerate(units):
            if known >> number & 1:
                continue
            node = nodes[known]
            node.paid = paid
            need, extra = simulation.cost(node, unit)
            after = known | 1 << number
            if after not in nodes:
                nodes[after] = simulation.step(node, number, unit)[0]
            go(after, cost + extra, {**paid, unit.group: paid[unit.group] | need})

    go(0, 0.0, nodes[0].paid)
    return best, worst


def engine_agrees(problem: Problem, order: list[Unit]) -> bool:
    """Return whether the engine computes each signal on the rows that the simulation says."""

    def ask(names: Any, rows: Any) -> dict[str, CheckedValues]:
        return {name: CheckedValues(problem.values[name].take(pa.array(rows)), {}) for name in names}

    settlement = settle(problem.program, [(unit.signals, ask) for unit in order], ROWS)
    shares = [one.rows for one in problem.simulation().run(order)]
    actual = [0.0] * len(order)
    for work in settlement.work:
        actual[work.stage] = work.rows / ROWS
    return bool(np.allclose(shares, actual))


def check(seed: int, *, most: int) -> tuple[float, float, bool]:
    """Return the plan's cost and the worst one's as ratios to the best, and whether the engine agrees."""
    problem = Problem(seed, most=most)
    plan = make_plan(problem.program, problem.values, problem.costs)
    best, worst = best_of_all(problem)
    order = [Unit(stage.group, stage.signals) for stage in plan.stages]
    shuffled = problem.units()
    problem.random.shuffle(shuffled)
    agrees = engine_agrees(problem, order) and engine_agrees(problem, shuffled)
    return (plan.seconds or 0.0) / best, worst / best, agrees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", type=int)
    parser.add_argument("--most", type=int, default=8)
    given = parser.parse_args()
    began = time.process_time()
    found = [check(seed, most=given.most) for seed in range(given.problems)]
    ratios, worst = np.array([one[0] for one in found]), np.array([one[1] for one in found])
    differs = sum(not one[2] for one in found)
    print(
        f"{len(found)} problems: plan / best of all orders: median {np.median(ratios):.4f}, largest "
        f"{ratios.max():.4f}; above 1.1: {(ratios > 1.1).sum()}; worst order / best: median "
        f"{np.median(worst):.1f}; engine differs: {differs}; {time.process_time() - began:.0f} CPU seconds"
    )


if __name__ == "__main__":
    main()
