"""What signals cost, measured on a sample; and plans that follow the data while they run."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.group_calls import Known, ask
from modelmill.rules.planning.plan import Actual, GroupCost, Plan
from modelmill.rules.planning.planner import Simulation, Unit, make_plan
from modelmill.signals.groups import Rows, SignalGroup

if TYPE_CHECKING:
    from modelmill.rules.engine import Engine
    from modelmill.rules.evaluation.decisions import Chunk

SAMPLE_ROWS = 1000
_PROBE_EVERY = 256
"""One row of so many has every signal computed: else nothing is learnt of what is left out."""
_DRIFT = 0.25
"""Relative difference between what a plan costs and what it should, above which it is made again."""
_PATIENCE = 10
"""Times the price of a plan that signals must have cost before another one is made."""
_WORTH = 0.9
"""Another plan is taken if it costs at most this share of the present one."""


def measured_plan(engine: Engine, sample: pa.RecordBatch) -> Plan:
    """Measure what signals cost and say on a sample, and plan with it. A signal that fails there is unknown.

    :param engine: the engine; its own plan stays as it is.
    :param sample: rows like those that will be decided on, at best 1,000 of them in random order.
    :return: the plan; see :meth:`Engine.use`.
    """
    if sample.num_rows == 0:
        return engine.plan
    values: dict[str, pa.Array] = {}
    costs: dict[str, GroupCost] = {}
    for group in engine.groups.values():
        names = [name for name in engine.compiled.base if name in group.signals]
        if names:
            costs[group.name], found = _measured(group, names, sample)
            values |= found
    return make_plan(engine.program, values, costs, batch_rows=engine.chunk_rows, digest=engine.digest)


def _measured(
    group: SignalGroup, names: Sequence[str], sample: pa.RecordBatch
) -> tuple[GroupCost, dict[str, pa.Array]]:
    """Time few rows, many rows, and one signal; each on rows of its own, because a cache knows old ones."""
    evaluation = group.begin(sample)
    count = sample.num_rows
    cuts = [0, *(max(int(count * share), 1) for share in (0.02, 0.12, 0.6)), count]
    bounds = itertools.pairwise(cuts)
    first, few, many, alone = (np.arange(start, max(end, start)) for start, end in bounds)

    def timed(asked: Sequence[str], rows: Rows) -> tuple[dict[str, Known], float]:
        if len(rows) == 0:
            return {}, 0.0
        began = time.process_time()
        found = ask(group, evaluation.compute, asked, rows, stop=False)
        return found, time.process_time() - began

    parts = [timed(names, first)[0]]  # what is loaded at first use is no cost of a row
    found, seconds_few = timed(names, few)
    parts.append(found)
    found, seconds_many = timed(names, many)
    parts.append(found)
    one, seconds_one = timed(names[:1], alone)
    others = timed(names[1:], alone)[0] if len(names) > 1 else {}
    parts.append({**one, **others})
    row = max((seconds_many - seconds_few) / max(len(many) - len(few), 1), 0.0)
    batch = max(seconds_few - row * len(few), 0.0)
    row_of_one = min(max((seconds_one - batch) / max(len(alone), 1), 0.0), row)
    marginal = (row - row_of_one) / (len(names) - 1) if len(names) > 1 else row
    cost = GroupCost(
        tier=group.tier,
        batch=batch,
        row=max(row - marginal * len(names), 0.0),
        signals=dict.fromkeys(names, marginal),
    )
    values = {name: pa.concat_arrays([part[name].values for part in parts if part]) for name in names}
    return cost, values


class Adapter:
    """Watches what a plan does, and makes another one where the data has drifted away from it.

    :param engine: the engine whose plan it is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._probes: deque[dict[str, pa.Array]] = deque()
        self._probed = 0
        self._price = 0.1  # CPU seconds of making a plan
        self.history: list[tuple[Plan, Actual]] = []
        """Plans that were given up, and what they did."""

    def watch(self, chunk: Chunk) -> None:
        """Take note of a chunk, and plan again if that is due. The decisions stay the same.

        :param chunk: rows that have been settled.
        """
        self._probe(chunk)
        plan, actual = self._engine.plan, self._engine.actual
        # Planning must not cost more than it can save.
        if not plan.seconds or self._probed < 50 or actual.seconds < _PATIENCE * self._price:
            return
        if abs(actual.seconds / actual.rows / plan.seconds - 1) > _DRIFT:
            began = time.process_time()
            self._plan_again()
            self._price = time.process_time() - began

    def _probe(self, chunk: Chunk) -> None:
        engine = self._engine
        rows = np.arange(0, chunk.rows.num_rows, _PROBE_EVERY)
        found: dict[str, pa.Array] = {}
        for group in engine.groups.values():
            for name in engine.compiled.base:
                if name in group.signals:
                    found[name] = self._completed(chunk, group, name, rows)
        self._probes.append(found)
        self._probed += len(rows)
        while self._probed > SAMPLE_ROWS and len(self._probes) > 1:
            self._probed -= len(next(iter(self._probes.popleft().values()), ()))

    def _completed(self, chunk: Chunk, group: SignalGroup, name: str, rows: Rows) -> pa.Array:
        settlement = chunk.settlement
        known = settlement.computed.get(name)
        missing = rows if known is None else rows[~known[rows]]
        parts = [] if known is None else [settlement.values[name].take(pa.array(rows[known[rows]]))]
        if len(missing):
            evaluation = chunk.evaluations[group.name]
            parts.append(ask(group, evaluation.compute, [name], missing, stop=False)[name].values)
        order = np.concatenate([rows[known[rows]], missing]) if known is not None else missing
        return pa.concat_arrays(parts).take(pa.array(np.argsort(order, kind="stable")))

    def _plan_again(self) -> None:
        engine, old, actual = self._engine, self._engine.plan, self._engine.actual
        names = engine.compiled.base
        values = {name: pa.concat_arrays([probe[name] for probe in self._probes]) for name in names}
        costs = _scaled(old, actual)
        order = [Unit(stage.group, stage.signals) for stage in old.stages]
        simulation = Simulation(engine.program, values, costs, batch_rows=old.batch_rows)
        present = simulation.run(order)
        new = make_plan(engine.program, values, costs, batch_rows=old.batch_rows, digest=engine.digest)
        seconds = sum(one.seconds for one in present)
        if (new.seconds or 0.0) > _WORTH * seconds:
            # The order is still good, and only the figures were wrong.
            stages = tuple(
                stage.model_copy(update={"rows": one.rows, "settled": one.settled, "seconds": one.seconds})
                for stage, one in zip(old.stages, present, strict=True)
            )
            new = old.model_copy(update={"stages": stages, "costs": costs, "seconds": seconds})
        self.history.append((old, actual))
        engine.use(new)


def _scaled(plan: Plan, actual: Actual) -> dict[str, GroupCost]:
    """Return the costs of groups, corrected by what they cost since the plan is in use."""
    expected: dict[str, float] = {}
    spent: dict[str, float] = {}
    for stage, one in zip(plan.stages, actual.stages, strict=True):
        cost = plan.costs[stage.group]
        row = sum(cost.signals[name] for name in stage.signals)
        row += cost.row if stage.group not in expected else 0.0
        expected[stage.group] = expected.get(stage.group, 0.0) + one.rows * row + one.calls * cost.batch
        spent[stage.group] = spent.get(stage.group, 0.0) + one.seconds
    factors = {name: spent[name] / seconds for name, seconds in expected.items() if seconds}
    return {name: _times(cost, factors.get(name, 1.0)) for name, cost in plan.costs.items()}


def _times(cost: GroupCost, factor: float) -> GroupCost:
    return GroupCost(
        tier=cost.tier,
        batch=cost.batch * factor,
        row=cost.row * factor,
        signals={name: value * factor for name, value in cost.signals.items()},
    )
