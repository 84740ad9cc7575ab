"""The step ``try_rules``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import ReportRef, TableRef
from modelmill.component import Assets, Component, Config, Outputs, StepContext
from modelmill.rules.lifecycle.options import TrialConfig
from modelmill.settings import Settings
from modelmill.steps.ports import TrialInputs
from modelmill.system.resources import Resources


class TryRulesConfig(TrialConfig):
    """Try a rule set on a table: what each rule does, and what changes. Nothing is acted on."""

    against: str | None = Field(None, description="The rule set in use; empty: there is none.")
    keep: tuple[str, ...] = Field((), description="Columns to carry into the table of changed rows.")
    to: str | None = Field(None, description="Table of changed rows to write; empty: in modelmill's home.")


class TryRulesOutputs(Outputs):
    """What was found, and the rows that are decided otherwise."""

    report: ReportRef
    changes: TableRef


def _both_states(config: TryRulesConfig, _inputs: TrialInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.table_decisions import outside_state

    sources = [config.rule_set, *([config.against] if config.against else [])]
    return " ".join(outside_state(source, settings) for source in sources)


def _run_try_rules(config: TryRulesConfig, inputs: TrialInputs, context: StepContext) -> TryRulesOutputs:
    from modelmill.rules.lifecycle.backtest import run

    report, changes = run(config, inputs, context)
    return TryRulesOutputs(report=report, changes=changes)


def _try_rules_assets(config: TryRulesConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,)) if config.to else Assets()


try_rules = Component(
    name="try_rules",
    title="Try rules",
    group="Check",
    config=TryRulesConfig,
    inputs=TrialInputs,
    outputs=TryRulesOutputs,
    run=_run_try_rules,
    outside_state=_both_states,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_try_rules_assets,
)
