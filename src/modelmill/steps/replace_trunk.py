"""Replaces the trunk below many champions: what does not regress moves together, the rest stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import Field

from modelmill.artifacts import DatasetRef, ReportRef, SignalsRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.registry.gate_options import GateLimits
from modelmill.rules.lifecycle.options import DecisionLimits
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    from modelmill.registry.champion import Registry
    from modelmill.registry.replacement import ReplacementReport


class ReplaceTrunkConfig(GateLimits, Config):
    """Judge new heads, trained together on a new trunk, each beside the champion of its registered model.

    Those that do not regress become champions at one moment: a service answers with all of them or with none.
    The others stay on the old trunk, and the report lists them. `modelmill registry rollback --together N`
    goes back.
    """

    prefix: str = Field(
        "",
        max_length=40,
        description="A signal's registered model is this and its label column's name, as in train_heads.",
    )
    decisions: DecisionLimits | None = Field(
        None,
        description="Also compare the decisions of rule sets, with all heads that would move beside their "
        "old selves: where they change too much, the heads that the rule set reads stay. Empty: none.",
    )
    move: bool = Field(True, description="Whether to move the champions; false: only judge, and report.")


class ReplaceTrunkInputs(Inputs):
    """The dataset whose test split is judged on, and the new heads, as train_heads made them."""

    dataset: DatasetRef
    signals: SignalsRef


class ReplaceTrunkOutputs(Outputs):
    """The champions afterwards (a signal that has none is left out), and the report."""

    signals: SignalsRef
    report: ReportRef


def run(config: ReplaceTrunkConfig, inputs: ReplaceTrunkInputs, context: StepContext) -> ReplaceTrunkOutputs:
    """Judge, report, and move together what may move."""
    from modelmill.registry.champion import Registry
    from modelmill.registry.joint_moves import finish_open_move
    from modelmill.registry.joint_promotion import promote_together
    from modelmill.registry.promotion import champion
    from modelmill.registry.replacement import OUTCOMES, REPLACEMENT_REPORT, report_lines
    from modelmill.registry.signal_models import log_signals, read_signals

    run = context.run
    registry = Registry(run.client, context.settings, context.log)
    # What an earlier attempt has begun is finished first: it is judged against then.
    finish_open_move(registry, step_key=context.step_key)
    names = {signal: f"{config.prefix}{signal}" for signal in read_signals(inputs.signals)}
    report = _judged(config, inputs, registry, context)
    uri = run.log_json(report.model_dump(mode="json"), REPLACEMENT_REPORT)
    lines = report_lines(report)
    run.client.log_text(run.run_id, "\n".join(lines), "replacement/report.md")
    for line in lines:
        context.log(line)
    rows = max((one.rows for one in report.heads), default=0)
    run.log_dataset(inputs.dataset, context="replacement", rows=rows)
    run.log_metrics({f"heads/{outcome}": len(report.with_outcome(outcome)) for outcome in OUTCOMES})
    if config.move:
        promote_together(report.heads, context, evidence=uri)
    now = {signal: champion(name, run.client) for signal, name in names.items()}
    signals = log_signals({signal: model for signal, model in now.items() if model}, context)
    return ReplaceTrunkOutputs(signals=signals, report=ReportRef(uri=uri, run_id=run.run_id))


def _judged(
    config: ReplaceTrunkConfig, inputs: ReplaceTrunkInputs, registry: Registry, context: StepContext
) -> ReplacementReport:
    from modelmill.registry.metric_comparisons import Statistics
    from modelmill.registry.promotion import champion
    from modelmill.registry.replacement import (
        ComposedVerdict,
        ProposedHead,
        ReplacementReport,
        judge_heads,
    )
    from modelmill.registry.signal_models import read_signals
    from modelmill.rules.lifecycle.composed_decisions import Judging, hold_back
    from modelmill.system.usage import CPU_SECONDS

    began = time.process_time()
    new = read_signals(inputs.signals)
    proposed = [
        ProposedHead(
            signal=signal,
            name=f"{config.prefix}{signal}",
            challenger=model,
            champion=champion(f"{config.prefix}{signal}", registry.client),
        )
        for signal, model in new.items()
    ]
    heads, passes = judge_heads(proposed, inputs.dataset, config, registry, context)
    decisions: tuple[ComposedVerdict, ...] = ()
    if config.decisions is not None:
        how = Statistics(confidence=config.confidence, resamples=config.resamples)
        judging = Judging(config.decisions, how, context.settings, context)
        heads, decisions = hold_back(heads, inputs.dataset, judging)
    trained = registry.client.get_run(inputs.signals.run_id).data.metrics
    return ReplacementReport(
        dataset=str(inputs.dataset),
        trunks=tuple(sorted({model.trunk for model in new.values() if model.trunk})),
        confidence=config.confidence,
        heads=heads,
        decisions=decisions,
        passes=passes,
        cpu_seconds=time.process_time() - began,
        training_cpu_seconds=trained.get(CPU_SECONDS),
    )


def _still_champions(outputs: ReplaceTrunkOutputs, settings: Settings) -> bool:
    from modelmill.registry.champion_look import has_rows
    from modelmill.registry.promotion import champion
    from modelmill.registry.signal_models import read_signals
    from modelmill.registry.tracking import tracking_client

    client = tracking_client(settings.tracking_uri)
    for model in read_signals(outputs.signals).values():
        _, name, _ = model.uri.rsplit("/", 2)
        if champion(name, client) != model or not has_rows(name, settings):
            return False
    return True


replace_trunk = Component(
    name="replace_trunk",
    title="Replace trunk",
    group="Release",
    config=ReplaceTrunkConfig,
    inputs=ReplaceTrunkInputs,
    outputs=ReplaceTrunkOutputs,
    run=run,
    extensions=EXTENSIONS,
    still_valid=_still_champions,
    resources=Resources(cpus=2, memory_gb=4),
    live=True,
)
