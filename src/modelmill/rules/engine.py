"""The engine decides on batches of rows by a rule set.

engine = Engine(rule_set, batch.schema)
engine.decide(batch)            # a decision for every row, in the order of the rows
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from modelmill.errors import SignalError, TableError
from modelmill.rules.evaluation.compiled_rule_set import compile_rule_set
from modelmill.rules.evaluation.decisions import EXPLANATION_COLUMN, decision_rows, decision_schema
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.evaluation.group_calls import (
    CheckedValues,
    Compute,
    Unreadable,
    call_group,
    readable_rows,
)
from modelmill.rules.evaluation.rule_program import Outcomes, RuleProgram
from modelmill.rules.evaluation.staged_evaluation import ComputeStage, SettledChunk, Stage, settle
from modelmill.rules.explanation.explainer import EXPLANATION, Explained, Explainer
from modelmill.rules.planning.adaptive_plan import AdaptivePlan
from modelmill.rules.planning.plan import EvaluationPlan, PlanStatistics, StagePlan
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.cascade import CascadeEvaluation, CascadeGroup
from modelmill.signals.groups import Evaluation, SignalContext, SignalGroup
from modelmill.signals.pinned_models import PinnedModel
from modelmill.signals.registry import build_groups
from modelmill.signals.values import STORED

MAX_CHUNK_ROWS = 8192
_MAX_STATES = 64_000_000
"""States of steps that are held at once: a rule set of ten thousand rules is evaluated on shorter chunks."""
_MAX_BYTES = 256_000_000
"""Bytes of a chunk: chunks of rows with images are shorter."""


class Engine:
    """Decides on rows.

    :param rule_set: the rule set.
    :param schema: columns of the rows.
    :param settings: where MLflow and the caches are; None for the environment's.
    :param pins: models that have been looked up, by the name that the rule set has for them; others are
        looked up now.
    :param plan: the order of the signals; None for explicit before measured before model.
    :param groups: the groups of signals; None for those that the evaluators make.
    :raises RuleSetError: if the rule set is not valid; all mistakes are listed.
    :raises SignalError: if a signal cannot be made of the columns.
    :raises TableError: if the key is not among the columns.
    """

    def __init__(
        self,
        rule_set: RuleSet,
        schema: pa.Schema,
        *,
        settings: Settings | None = None,
        pins: Mapping[str, PinnedModel] | None = None,
        plan: EvaluationPlan | None = None,
        groups: Sequence[SignalGroup] | None = None,
    ) -> None:
        if rule_set.key not in schema.names:
            raise TableError(
                f"the input of rule set {rule_set.rule_set} must have its key column",
                got=rule_set.key,
                choices=schema.names,
            )
        if groups is None:
            context = SignalContext(schema, settings or Settings.from_environment(), pins or {})
            groups = build_groups(rule_set.signals, context)
        self.rule_set = rule_set
        self.schema = schema
        self.groups = {group.name: group for group in groups}
        if len(self.groups) < len(groups):
            names = ", ".join(sorted(group.name for group in groups))
            raise SignalError("a group's name must be unique", got=names, remedy="fix its evaluator")
        kinds = {name: info.kind for group in groups for name, info in group.signals.items()}
        self._group_columns = tuple(dict.fromkeys(name for group in groups for name in group.columns))
        self.compiled = compile_rule_set(rule_set, kinds)
        self.program = RuleProgram(self.compiled)
        for group in groups:
            if isinstance(group, CascadeGroup):
                group.settled_by = self.program.settled_by
        self.planning = AdaptivePlan(self.program, self.groups, batch_rows=self.chunk_rows, plan=plan)
        self._explainer = Explainer(self.program, groups)
        self.failures: dict[str, tuple[int, str]] = {}
        """Rows on which a signal could not be computed, since the engine was made, and the first reason."""

    @property
    def plan(self) -> EvaluationPlan:
        """The plan in use."""
        return self.planning.plan

    @property
    def statistics(self) -> PlanStatistics:
        """Measured work since the plan is in use."""
        return self.planning.statistics

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read: the key, and those of the groups that a rule needs."""
        base = set(self.compiled.base)
        needed = [group for group in self.groups.values() if not base.isdisjoint(group.signals)]
        return tuple(
            dict.fromkeys([self.rule_set.key, *(name for group in needed for name in group.columns)])
        )

    @property
    def all_columns(self) -> tuple[str, ...]:
        """The key, and the columns of all groups, those that no rule needs included."""
        return tuple(dict.fromkeys([self.rule_set.key, *self._group_columns]))

    @property
    def chunk_rows(self) -> int:
        """Number of rows that are settled together."""
        return max(256, min(MAX_CHUNK_ROWS, _MAX_STATES // max(len(self.program.analysis.live), 1)))

    def decision_schema(self, *, explain: bool = False) -> pa.Schema:
        """Return the columns of decisions.

        :param explain: whether there is a column ``explanation`` of type ``EXPLANATION``.
        :return: see :func:`~modelmill.rules.evaluation.decisions.decision_schema`.
        :raises ConfigError: if the key has the name of another column.
        """
        schema = decision_schema(self.schema.field(self.rule_set.key))
        return schema.append(pa.field(EXPLANATION_COLUMN, EXPLANATION)) if explain else schema

    def decide(self, batch: pa.RecordBatch, *, explain: bool | Explained = False) -> pa.RecordBatch:
        """Decide on rows.

        :param batch: rows with the columns that the engine was made for.
        :param explain: whether to explain the decisions, or which of them.
        :return: one decision for each row, in their order; see :meth:`decision_schema`.
        :raises ModelmillError: if a signal fails and ``on_failure`` of the rule set is ``stop``.
        """
        plain, schema = self.decision_schema(), self.decision_schema(explain=bool(explain))
        parts = []
        for chunk in self.chunks(batch):
            rows = decision_rows(self.program, chunk, plain)
            if explain:
                wanted = (
                    explain.rows(rows.column(0), rows.column(1)) if isinstance(explain, Explained) else None
                )
                column = self._explainer.explain(chunk, wanted)
                rows = pa.RecordBatch.from_arrays([*rows.columns, column], schema=schema)
            parts.append(rows)
        return pa.concat_batches(parts) if parts else pa.RecordBatch.from_pylist([], schema)

    def outcomes(self, batch: pa.RecordBatch) -> Outcomes:
        """Settle rows.

        :param batch: rows with the columns that the engine was made for.
        :return: outcome of each row, see :data:`~modelmill.rules.evaluation.compiled_rule_set.OPEN`.
        """
        found = [chunk.settlement.outcomes for chunk in self.chunks(batch)]
        return np.concatenate(found) if found else np.empty(0, np.int32)

    def chunks(self, batch: pa.RecordBatch) -> Iterator[SettledChunk]:
        """Settle rows, chunk by chunk. A plan with measured costs is replaced if the data drifts.

        :param batch: rows with the columns that the engine was made for.
        :yield: the chunks, in the order of the rows.
        :raises ModelmillError: if a signal fails and ``on_failure`` of the rule set is ``stop``.
        """
        size = min(self.chunk_rows, max(_MAX_BYTES * batch.num_rows // max(batch.nbytes, 1), 1))
        for start in range(0, batch.num_rows, size):
            rows = batch.slice(start, size)
            readable, unreadable = self._readable(rows)
            evaluations = {name: group.begin(readable) for name, group in self.groups.items()}
            stages = [self._stage(stage, evaluations[stage.group], unreadable) for stage in self.plan.stages]
            settlement = settle(self.program, stages, rows.num_rows)
            self.planning.record(settlement)
            self._count(settlement.failures)
            chunk = SettledChunk(rows, settlement, evaluations)
            yield chunk
            self.planning.adapt(chunk)

    def _count(self, failures: Mapping[str, Mapping[int, str]]) -> None:
        for name, reasons in failures.items():
            for why in reasons.values():
                rows, first = self.failures.get(name, (0, why))
                self.failures[name] = rows + 1, first

    def evaluate_fully(self, batch: pa.RecordBatch) -> FullEvaluation:
        """Compute every signal that a rule reads on every row. Staged evaluation has the same outcomes.

        :param batch: rows with the columns that the engine was made for.
        :return: the rule set on the rows.
        :raises ModelmillError: if a signal fails and ``on_failure`` of the rule set is ``stop``.
        """
        found: dict[str, CheckedValues] = {}
        readable, unreadable = self._readable(batch)
        for group in self.groups.values():
            names = [name for name in self.compiled.base if name in group.signals]
            if batch.num_rows == 0:
                kinds = {name: group.signals[name].kind for name in names}
                found |= {name: CheckedValues(pa.nulls(0, STORED[kind]), {}) for name, kind in kinds.items()}
            elif names:
                rows = np.arange(batch.num_rows)
                found |= self._call(group, group.begin(readable).compute, unreadable)(names, rows)
        return FullEvaluation(self.program, list(self.groups.values()), batch, found)

    def measure_plan(self, sample: pa.RecordBatch) -> EvaluationPlan:
        """Measure signals on a sample, and return the best plan; see :meth:`use`.

        :param sample: rows like those that will be decided on, at best 1,000 of them from all over.
        :return: the plan; the one in use if the sample is empty.
        """
        return self.planning.measure(self._readable(sample)[0])

    def use(self, plan: EvaluationPlan) -> None:
        """Go on with another plan of this rule set, else ConfigError. The decisions stay the same."""
        self.planning.use(plan)

    def _readable(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Unreadable]:
        """Return rows without texts that are not UTF-8, and the signals that fail because of one."""
        readable, broken = readable_rows(rows, self._group_columns)
        readers = self.rule_set.columns() if broken else {}
        unreadable: dict[str, dict[int, str]] = {}
        for column, reasons in broken.items():
            for signal in readers.get(column, ()):
                unreadable[signal] = {**unreadable.get(signal, {}), **reasons}
        return readable, unreadable

    def _call(self, group: SignalGroup, compute: Compute, unreadable: Unreadable) -> ComputeStage:
        stop = self.rule_set.on_failure == "stop"
        return functools.partial(call_group, group, compute, stop=stop, unreadable=unreadable)

    def _stage(self, stage: StagePlan, evaluation: Evaluation, unreadable: Unreadable) -> Stage:
        group = self.groups[stage.group]
        compute = self._call(group, evaluation.compute, unreadable)
        if not isinstance(evaluation, CascadeEvaluation):
            return stage.signals, compute
        return stage.signals, self._call(group, evaluation.quick, unreadable), compute
