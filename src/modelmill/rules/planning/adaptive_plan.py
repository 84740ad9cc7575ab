"""A plan that follows the data: it is compared with what it really costs, and made again if they differ."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from modelmill.errors import ConfigError
from modelmill.rules.evaluation.group_calls import call_group
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import SettledChunk, Settlement
from modelmill.rules.planning.cost_measurement import SAMPLE_ROWS, measure_costs, sample_rows
from modelmill.rules.planning.plan import (
    EvaluationPlan,
    GroupCost,
    PlanStatistics,
    StageStatistics,
    plan_by_tiers,
)
from modelmill.rules.planning.planner import make_plan
from modelmill.rules.planning.simulation import Simulation, Unit
from modelmill.signals.groups import Rows, SignalGroup

_PROBE_EVERY = 256
"""On one row of so many every signal is computed: signals that are skipped would else never be seen."""
_MIN_PROBES = 50
_DRIFT = 0.25
"""Relative difference of actual and expected cost above which a plan is made again."""
_PATIENCE = 10
"""Cost of signals, in units of the cost of making a plan, before another plan is made."""
_WORTH = 0.9
"""Another plan is taken if it costs at most this share of the present one."""


class AdaptivePlan:
    """The plan in use, what it has cost so far, and its replacement when the data drifts.

    :param program: the rules.
    :param groups: the groups of signals, by name.
    :param batch_rows: rows that are settled together.
    :param plan: the plan to begin with; None for explicit before measured before model.
    :raises ConfigError: if the plan is one for another rule set.
    """

    def __init__(
        self,
        program: RuleProgram,
        groups: Mapping[str, SignalGroup],
        *,
        batch_rows: int,
        plan: EvaluationPlan | None = None,
    ) -> None:
        self._program = program
        self._groups = groups
        self._batch_rows = batch_rows
        self._probes: deque[dict[str, pa.Array]] = deque()
        self._probed = 0
        self._price = 0.1
        """CPU seconds of making a plan."""
        self.history: list[tuple[EvaluationPlan, PlanStatistics]] = []
        """Plans that were replaced because the data drifted, and what they cost."""
        self.use(plan or self._plan_by_tiers())

    def use(self, plan: EvaluationPlan) -> None:
        """Go on with another plan of this rule set, else ConfigError. The decisions stay the same."""
        self._check(plan)
        self.plan = plan
        self.statistics = PlanStatistics(stages=tuple(StageStatistics() for _ in plan.stages))
        """Measured work since the plan is in use."""

    def measure(self, sample: pa.RecordBatch) -> EvaluationPlan:
        """Measure signals on a sample, and return the best plan; the plan in use stays.

        :param sample: rows like those that will be decided on, at best 1,000 of them from all over.
        :return: the plan; the one in use if the sample is empty.
        """
        if sample.num_rows == 0:
            return self.plan
        sample = sample_rows(sample, most=sample.num_rows)
        costs, values = measure_costs(self._groups.values(), self._program.compiled.base, sample)
        return make_plan(self._program, values, costs, batch_rows=self._batch_rows)

    def record(self, settlement: Settlement) -> None:
        """Add the work on a chunk to the statistics."""
        old = self.statistics
        stages = list(old.stages)
        for work in settlement.work:
            stage = stages[work.stage]
            stages[work.stage] = StageStatistics(
                rows=stage.rows + work.rows,
                calls=stage.calls + 1,
                seconds=stage.seconds + work.seconds,
                settled=stage.settled + int((settlement.stages == work.stage).sum()),
            )
        self.statistics = PlanStatistics(
            rows=old.rows + len(settlement.outcomes),
            overhead=old.overhead + settlement.overhead,
            settled_before=old.settled_before + int((settlement.stages == -1).sum()),
            stages=tuple(stages),
        )

    def adapt(self, chunk: SettledChunk) -> None:
        """Learn from a settled chunk, and make another plan if the costs have drifted."""
        if not self.plan.costs:  # nothing was measured that the costs could differ from
            return
        self._probe(chunk)
        # Planning must not cost more than it can save.
        if not self.plan.seconds or self._probed < _MIN_PROBES:
            return
        if self.statistics.seconds < _PATIENCE * self._price:
            return
        if abs(self.statistics.seconds / self.statistics.rows / self.plan.seconds - 1) > _DRIFT:
            began = time.process_time()
            self._plan_again()
            self._price = time.process_time() - began

    def _plan_by_tiers(self) -> EvaluationPlan:
        base = self._program.compiled.base
        groups = {
            name: (group.tier, tuple(one for one in base if one in group.signals))
            for name, group in self._groups.items()
        }
        return plan_by_tiers(self._program.compiled.digest, groups)

    def _check(self, plan: EvaluationPlan) -> None:
        compiled = self._program.compiled
        planned = [(stage.group, name) for stage in plan.stages for name in stage.signals]
        base = set(compiled.base)
        wanted = [
            (group.name, name) for group in self._groups.values() for name in group.signals if name in base
        ]
        if sorted(planned) != sorted(wanted) or plan.rule_set != compiled.digest:
            raise ConfigError(
                f"a plan must be one for this rule set ({compiled.digest[:12]}), "
                "with each of its signals once",
                got=plan.rule_set[:12],
                remedy="plan again, or leave the plan out",
            )

    def _probe(self, chunk: SettledChunk) -> None:
        rows = np.arange(0, chunk.rows.num_rows, _PROBE_EVERY)
        found: dict[str, pa.Array] = {}
        for group in self._groups.values():
            for name in self._program.compiled.base:
                if name in group.signals:
                    found[name] = self._completed(chunk, group, name, rows)
        self._probes.append(found)
        self._probed += len(rows)
        while self._probed > SAMPLE_ROWS and len(self._probes) > 1:
            self._probed -= len(next(iter(self._probes.popleft().values()), ()))

    def _completed(self, chunk: SettledChunk, group: SignalGroup, name: str, rows: Rows) -> pa.Array:
        """Return a signal's values on rows, computed now where they were not needed."""
        settlement = chunk.settlement
        known = settlement.computed.get(name)
        missing = rows if known is None else rows[~known[rows]]
        parts = [] if known is None else [settlement.values[name].take(pa.array(rows[known[rows]]))]
        if len(missing):
            evaluation = chunk.evaluations[group.name]
            parts.append(call_group(group, evaluation.compute, [name], missing, stop=False)[name].values)
        order = np.concatenate([rows[known[rows]], missing]) if known is not None else missing
        return pa.concat_arrays(parts).take(pa.array(np.argsort(order, kind="stable")))

    def _plan_again(self) -> None:
        old, statistics = self.plan, self.statistics
        names = self._program.compiled.base
        values = {name: pa.concat_arrays([probe[name] for probe in self._probes]) for name in names}
        costs = _corrected(old, statistics)
        order = [Unit(stage.group, stage.signals) for stage in old.stages]
        present = Simulation(self._program, values, costs, batch_rows=old.batch_rows).run(order)
        new = make_plan(self._program, values, costs, batch_rows=old.batch_rows)
        seconds = sum(one.seconds for one in present)
        if (new.seconds or 0.0) > _WORTH * seconds:
            # The order is still good, only the expected costs were wrong.
            stages = tuple(
                stage.model_copy(update={"rows": one.rows, "settled": one.settled, "seconds": one.seconds})
                for stage, one in zip(old.stages, present, strict=True)
            )
            new = old.model_copy(update={"stages": stages, "costs": costs, "seconds": seconds})
        self.history.append((old, statistics))
        self.use(new)


def _corrected(plan: EvaluationPlan, statistics: PlanStatistics) -> dict[str, GroupCost]:
    """Return the costs of groups, scaled to what the groups have really cost."""
    expected: dict[str, float] = {}
    spent: dict[str, float] = {}
    for stage, one in zip(plan.stages, statistics.stages, strict=True):
        cost = plan.costs[stage.group]
        row = sum(cost.signals[name] for name in stage.signals)
        row += cost.row if stage.group not in expected else 0.0
        expected[stage.group] = expected.get(stage.group, 0.0) + one.rows * row + one.calls * cost.batch
        spent[stage.group] = spent.get(stage.group, 0.0) + one.seconds
    factors = {name: spent[name] / seconds for name, seconds in expected.items() if seconds}
    return {name: _scaled(cost, factors.get(name, 1.0)) for name, cost in plan.costs.items()}


def _scaled(cost: GroupCost, factor: float) -> GroupCost:
    return GroupCost(
        tier=cost.tier,
        batch=cost.batch * factor,
        row=cost.row * factor,
        signals={name: value * factor for name, value in cost.signals.items()},
    )
