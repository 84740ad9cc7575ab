"""The engine: a rule set, the groups of its signals and a plan, deciding on batches of rows.

engine = Engine(rule_set, batch.schema)
engine.decide(batch)            # a decision for every row, in the order of the rows
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.errors import ConfigError, SignalError, TableError, did_you_mean
from modelmill.rules.evaluation.compiled_rule_set import CompiledRuleSet, compile_rule_set
from modelmill.rules.evaluation.decisions import Chunk, decided, decision_schema
from modelmill.rules.evaluation.group_calls import Compute, Known, ask
from modelmill.rules.evaluation.staged_evaluation import (
    Outcomes,
    RuleProgram,
    Settlement,
    Stage,
    settle,
    settle_fully,
)
from modelmill.rules.explanation.explanations import explained
from modelmill.rules.explanation.sufficient_sets import Search
from modelmill.rules.planning.cost_measurement import Adapter
from modelmill.rules.planning.plan import Actual, Plan, StageActual, StagePlan, plan_by_tiers
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.cascade import CascadeEvaluation, CascadeGroup
from modelmill.signals.groups import Evaluation, Rows, SignalContext, SignalGroup
from modelmill.signals.registry import build_groups
from modelmill.signals.values import STORED

MAX_CHUNK_ROWS = 8192
_MOST_STATES = 64_000_000
"""States of steps that are held at once: chunks of a rule set of ten thousand rules are shorter."""
_MOST_BYTES = 256_000_000
"""Bytes of a chunk: rows with images are settled in shorter ones."""


class Engine:
    """Decides on rows.

    :param rule_set: the rule set.
    :param schema: columns of the rows.
    :param settings: where MLflow and the caches are; None: the environment's.
    :param plan: order of the signals; None: explicit before measured before model.
    :param groups: the groups of signals; None: those that the evaluators make.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    :raises SignalError: if a signal cannot be made of the columns.
    :raises TableError: if the key is not among the columns.
    """

    def __init__(
        self,
        rule_set: RuleSet,
        schema: pa.Schema,
        *,
        settings: Settings | None = None,
        plan: Plan | None = None,
        groups: Sequence[SignalGroup] | None = None,
    ) -> None:
        if rule_set.key not in schema.names:
            raise TableError(
                f"the input of rule set {rule_set.rule_set} must have its key column",
                got=rule_set.key,
                remedy=did_you_mean(rule_set.key, schema.names),
            )
        if groups is None:
            context = SignalContext(schema, settings or Settings.from_environment())
            groups = build_groups(rule_set.signals, context)
        self.schema = schema
        self.groups = {group.name: group for group in groups}
        if len(self.groups) < len(groups):
            names = ", ".join(sorted(group.name for group in groups))
            raise SignalError("a group's name stands once", got=names, remedy="fix its evaluator")
        self.signals = {name: info for group in groups for name, info in group.signals.items()}
        self.compiled: CompiledRuleSet = compile_rule_set(
            rule_set, {name: info.kind for name, info in self.signals.items()}
        )
        self.rule_set = rule_set
        self.digest = rule_set.digest
        self.program = RuleProgram(self.compiled)
        for group in groups:
            if isinstance(group, CascadeGroup):
                group.settled_by = self.program.settled_by
        self.plan = plan or self._plan_by_tiers()
        self._check_plan()
        self.actual = Actual(stages=tuple(StageActual() for _ in self.plan.stages))
        """What has happened since the plan was set."""
        self.adapter = Adapter(self)

    @functools.cached_property
    def search(self) -> Search:
        """What explains rows."""
        return Search(self.program)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read: the key, and those of the groups that a rule needs."""
        needed = [
            group for group in self.groups.values() if not set(self.compiled.base).isdisjoint(group.signals)
        ]
        return tuple(
            dict.fromkeys([self.rule_set.key, *(name for group in needed for name in group.columns)])
        )

    @property
    def chunk_rows(self) -> int:
        """Rows that are settled together."""
        return max(256, min(MAX_CHUNK_ROWS, _MOST_STATES // max(len(self.program.analysis.live), 1)))

    def decide(self, batch: pa.RecordBatch, *, explain: bool = False) -> pa.RecordBatch:
        """Decide on rows.

        :param batch: rows with the columns that the engine was made for.
        :param explain: whether each decision has its explanation: some milliseconds for each new combination
            of signals, next to nothing for rows like one that came before.
        :return: one decision for each row, in their order; see :func:`decision_schema`.
        :raises ModelmillError: if a signal fails and the rule set says that this stops the run.
        """
        schema = decision_schema(self.schema.field(self.rule_set.key), explain=explain)
        parts = []
        for chunk in self.chunks(batch):
            rows = decided(self, chunk)
            if explain:
                column = explained(self, chunk)
                rows = pa.RecordBatch.from_arrays([*rows.columns, column], schema=schema)
            parts.append(rows)
        return pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema)

    def chunks(self, batch: pa.RecordBatch) -> Iterator[Chunk]:
        """Settle rows, chunk by chunk. A plan with measured costs is made again where the data drifts.

        :param batch: rows with the columns that the engine was made for.
        :yield: the chunks, in the order of the rows.
        :raises ModelmillError: if a signal fails and the rule set says that this stops the run.
        """
        size = min(self.chunk_rows, max(_MOST_BYTES * batch.num_rows // max(batch.nbytes, 1), 1))
        for start in range(0, batch.num_rows, size):
            rows = batch.slice(start, size)
            evaluations = {name: group.begin(rows) for name, group in self.groups.items()}
            stages = [
                self._stage(stage, self.groups[stage.group], evaluations[stage.group])
                for stage in self.plan.stages
            ]
            settlement = settle(self.program, stages, rows.num_rows)
            self._count(settlement)
            chunk = Chunk(rows, settlement, evaluations)
            yield chunk
            if self.plan.costs:
                self.adapter.watch(chunk)

    def outcomes(self, batch: pa.RecordBatch) -> Outcomes:
        """Settle rows.

        :param batch: rows with the columns that the engine was made for.
        :return: outcome of each row (see :mod:`modelmill.rules.evaluation.compiled_rule_set`).
        """
        found = [chunk.settlement.outcomes for chunk in self.chunks(batch)]
        return np.concatenate(found) if found else np.empty(0, np.int32)

    def everything(self, batch: pa.RecordBatch) -> dict[str, Known]:
        """Compute every signal that a rule reads on every row.

        :param batch: rows with the columns that the engine was made for.
        :return: values by name.
        """
        found: dict[str, Known] = {}
        if batch.num_rows == 0:
            return {
                name: Known(pa.nulls(0, STORED[self.signals[name].kind]), {}) for name in self.compiled.base
            }
        for group in self.groups.values():
            names = [name for name in self.compiled.base if name in group.signals]
            if names:
                found |= self.ask(group, group.begin(batch).compute, names, np.arange(batch.num_rows))
        return found

    def full_outcomes(self, batch: pa.RecordBatch) -> Outcomes:
        """Settle rows with every signal on every row: what staged evaluation must give.

        :param batch: rows with the columns that the engine was made for.
        :return: outcome of each row.
        """
        values = {name: known.values for name, known in self.everything(batch).items()}
        return settle_fully(self.program, values, batch.num_rows)

    def use(self, plan: Plan) -> None:
        """Go on with another plan. The decisions stay the same.

        :param plan: the plan.
        :raises ConfigError: if it is one for another rule set.
        """
        self.plan = plan
        self._check_plan()
        self.actual = Actual(stages=tuple(StageActual() for _ in plan.stages))

    def ask(
        self,
        group: SignalGroup,
        compute: Compute,
        names: Sequence[str],
        rows: Rows,
    ) -> dict[str, Known]:
        """Compute signals; see :func:`modelmill.rules.evaluation.group_calls.ask`.

        :param group: the group.
        :param compute: of its work on a chunk.
        :param names: signals of the group.
        :param rows: at least one row of the chunk.
        :return: values by name, for these rows.
        """
        return ask(group, compute, names, rows, stop=self.rule_set.on_failure == "stop")

    def _stage(self, stage: StagePlan, group: SignalGroup, evaluation: Evaluation) -> Stage:
        computes = functools.partial(self.ask, group, evaluation.compute)
        if not isinstance(evaluation, CascadeEvaluation):
            return stage.signals, computes
        return stage.signals, functools.partial(self.ask, group, evaluation.quick), computes

    def _plan_by_tiers(self) -> Plan:
        groups: dict[str, Any] = {
            name: (group.tier, tuple(one for one in self.compiled.base if one in group.signals))
            for name, group in self.groups.items()
        }
        return plan_by_tiers(self.digest, groups)

    def _check_plan(self) -> None:
        planned = [(stage.group, name) for stage in self.plan.stages for name in stage.signals]
        wanted = [
            (group.name, name)
            for group in self.groups.values()
            for name in group.signals
            if name in self.compiled.base
        ]
        if sorted(planned) != sorted(wanted) or self.plan.rule_set != self.digest:
            raise ConfigError(
                f"a plan must be one for this rule set ({self.digest[:12]}), with each of its signals once",
                got=self.plan.rule_set[:12],
                remedy="plan again, or leave the plan out",
            )

    def _count(self, settlement: Settlement) -> None:
        stages = list(self.actual.stages)
        for work in settlement.work:
            old = stages[work.stage]
            stages[work.stage] = old.model_copy(
                update={
                    "rows": old.rows + work.rows,
                    "calls": old.calls + 1,
                    "seconds": old.seconds + work.seconds,
                    "settled": old.settled + int((settlement.stages == work.stage).sum()),
                }
            )
        self.actual = Actual(
            rows=self.actual.rows + len(settlement.outcomes),
            overhead=self.actual.overhead + settlement.overhead,
            settled_before=self.actual.settled_before + int((settlement.stages == -1).sum()),
            stages=tuple(stages),
        )
