"""The step ``decide``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import ModelRef
from modelmill.component import Assets, Component, Config, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import TableOutputs, TrialInputs, tables_exist
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
    explain: bool = Field(True, description="Whether each decision has its explanation.")
    plan_rows: int = Field(
        1_000, ge=0, description="Rows on which signals are measured to plan their order; 0: by kind alone."
    )


class DecideInputs(TrialInputs):
    """The table, the models that signals:NAME in the rule set stands for, and a promoted rule set."""

    rule_set: ModelRef | None = None


def _rule_set_state(config: DecideConfig, inputs: DecideInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.table_decisions import outside_state, source_of

    return outside_state(source_of(config, inputs), settings)


def _run_decide(config: DecideConfig, inputs: DecideInputs, context: StepContext) -> TableOutputs:
    from modelmill.rules.lifecycle.table_decisions import run

    return TableOutputs(table=run(config, inputs, context))


def _decide_assets(config: DecideConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,))


decide = Component(
    name="decide",
    title="Decide by rules",
    group="Release",
    config=DecideConfig,
    inputs=DecideInputs,
    outputs=TableOutputs,
    run=_run_decide,
    outside_state=_rule_set_state,
    still_valid=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_decide_assets,
)
