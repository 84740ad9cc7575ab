"""Try a rule set on a table before it is used."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import ReportRef, TableRef
from modelmill.component import Component, Config, Outputs, StepContext, writes_to
from modelmill.rules.lifecycle.options import TrialOptions
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
from modelmill.steps.ports import TrialInputs
from modelmill.system.resources import Resources


class TryRulesConfig(TrialOptions, Config):
    """Try a rule set on a table: what each rule does, and what changes. Nothing is acted on."""

    against: str | None = Field(None, description="The rule set in use; empty: there is none.")
    keep: tuple[str, ...] = Field((), description="Columns to carry into the table of changed rows.")
    to: str | None = Field(None, description="Table of changed rows to write; empty: in modelmill's home.")


class TryRulesOutputs(Outputs):
    """What was found, and the rows that are decided otherwise."""

    report: ReportRef
    changes: TableRef


def run(config: TryRulesConfig, inputs: TrialInputs, context: StepContext) -> TryRulesOutputs:
    """Backtest the rule set, and write the rows that would be decided otherwise."""
    from modelmill.rules.lifecycle.backtest import backtest, figures, report_lines, write_changes
    from modelmill.rules.pinned_rule_set import pin_step_models
    from modelmill.tables.storage import table_location

    found = backtest(
        inputs.table,
        config,
        context.settings,
        against=config.against,
        models=pin_step_models(inputs.signals, context.cache),
        keep=config.keep,
    )
    place = table_location(context.table("rules", config.to))
    changes = write_changes(found, place, keep=config.keep, transaction=context.transaction)
    report = found.report
    context.run.log_dataset(inputs.table, context="trying", rows=report.trial.rows)
    uri = context.run.log_json({**report.model_dump(mode="json"), "changes": str(changes)}, "rules.json")
    context.run.log_metrics(figures(report))
    for line in report_lines(report):
        context.log(f"{context.step}: {line}")
    return TryRulesOutputs(report=ReportRef(uri=uri, run_id=context.run.run_id), changes=changes)


def _outside_state(config: TryRulesConfig, _inputs: TrialInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state

    sources = [config.rule_set, *([config.against] if config.against else [])]
    return " ".join(rule_set_state(source, settings) for source in sources)


try_rules = Component(
    name="try_rules",
    title="Try rules",
    group="Check",
    config=TryRulesConfig,
    inputs=TrialInputs,
    outputs=TryRulesOutputs,
    run=run,
    extensions=EXTENSIONS,
    outside_state=_outside_state,
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
