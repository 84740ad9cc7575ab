"""Decide on every row of a table by a rule set."""

from __future__ import annotations

import time

from pydantic import Field

from modelmill.artifacts import ModelRef
from modelmill.component import Component, Config, StepContext, writes_to
from modelmill.errors import ConfigError
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
from modelmill.steps.ports import TableOutputs, TrialInputs
from modelmill.system.resources import Resources


class DecideConfig(Config):
    """Decide on every row of a table by a rule set, and say why: in process, or with Spark."""

    rule_set: str | None = Field(
        None,
        min_length=1,
        description="Path or URL of the rule set's YAML, or models:/NAME@ALIAS; empty: the input port's.",
    )
    to: str = Field(description="Path or URI of the Delta table to write; each run makes a new version.")
    keep: tuple[str, ...] = Field((), description="Columns to carry along beside the key.")
    in_process_rows: int = Field(
        5_000, ge=0, description="Tables with so many rows at most are decided on without Spark."
    )
    explain: bool = Field(True, description="Whether decisions have explanations.")
    explain_decisions: tuple[str, ...] = Field(
        (), description="Decisions that are explained; empty: all. Needs explain."
    )
    explain_share: float = Field(
        1.0, ge=0, le=1, description="Share of the rows that are explained: the same rows in every run."
    )
    plan_rows: int = Field(
        1_000, ge=0, description="Rows on which signals are measured to plan their order; 0: by kind alone."
    )


class DecideInputs(TrialInputs):
    """The table, the models that signals:NAME in the rule set stands for, and a promoted rule set."""

    rule_set: ModelRef | None = None


def run(config: DecideConfig, inputs: DecideInputs, context: StepContext) -> TableOutputs:
    """Decide on the table, and report how often each rule decided."""
    from modelmill.rules.explanation.explainer import Explained
    from modelmill.rules.lifecycle.decision_report import count_decisions, decision_report, report_lines
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
    from modelmill.rules.lifecycle.table_decisions import DecideTableRequest, decide_table, table_decider
    from modelmill.rules.pinned_rule_set import pin_rule_set, pin_step_models

    source, settings = inputs.table, context.settings
    rule_set = open_rule_set(_source(config, inputs), settings)
    pinned = pin_rule_set(rule_set, settings, models=pin_step_models(inputs.signals, context.cache))
    decider = table_decider(
        pinned,
        source,
        settings,
        keep=config.keep,
        explain=config.explain and Explained(decisions=config.explain_decisions, share=config.explain_share),
        plan_rows=config.plan_rows,
    )
    request = DecideTableRequest(
        table=source,
        decider=decider,
        to=config.to,
        tracking_uri=settings.tracking_uri,
        transaction=context.transaction,
    )
    began = time.monotonic()
    decisions = decide_table(request, settings, in_process_rows=config.in_process_rows)
    counts = count_decisions(decisions, explained=bool(decider.explain))
    context.run.log_dataset(source, context="deciding", rows=counts.rows)
    report = decision_report(counts, decider, source=source, decisions=decisions)
    context.run.log_json(report, "decisions.json")
    context.run.log_metrics({**counts.figures, "seconds": time.monotonic() - began})
    context.run.set_tags({"modelmill.rule_set": f"{rule_set.rule_set}@{rule_set.digest[:12]}"})
    for line in report_lines(counts, decider, decisions):
        context.log(f"{context.step}: {line}")
    return TableOutputs(table=decisions)


def _source(config: DecideConfig, inputs: DecideInputs) -> str:
    """Return where the rule set is: a path, a URL, or the name of a registered rule set."""
    named = [one for one in (config.rule_set, inputs.rule_set and inputs.rule_set.uri) if one]
    if len(named) != 1:
        raise ConfigError(
            "a step decides by one rule set: the one under rule_set, or that of the input port",
            got=" and ".join(named) or "none",
            remedy="name one of them",
        )
    return named[0]


def _outside_state(config: DecideConfig, inputs: DecideInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state

    return rule_set_state(_source(config, inputs), settings)


decide = Component(
    name="decide",
    version=2,
    title="Decide by rules",
    group="Release",
    config=DecideConfig,
    inputs=DecideInputs,
    outputs=TableOutputs,
    run=run,
    extensions=EXTENSIONS,
    outside_state=_outside_state,
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
