"""The step ``tier_rules``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import ModelRef, SignalsRef
from modelmill.component import Component, Config, Outputs, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import TrialInputs
from modelmill.system.resources import Resources


class TierRulesConfig(Config):
    """Ask cheap models first, as far as a budget allows: decided on rows that no model has seen."""

    rule_set: str = Field(min_length=1, description="Path or URL of the rule set, or models:/NAME@ALIAS.")
    first: dict[str, str] = Field(
        {},
        description="Cheap model by signal, named as in rule sets, beside those of the input port.",
    )
    budget: float = Field(0.005, gt=0, lt=1, description="What may be lost (0.005: 0.5 points).")
    budget_of: Literal["decisions", "accuracy"] = Field(
        "decisions",
        description="What the budget is about: the share of rows whose decision changes, or the accuracy of "
        "the decisions by the labels.",
    )
    label: str | None = Field(
        None, min_length=1, description="For accuracy: column with labels by hand, null where there is none."
    )
    decision_of: dict[str, str] = Field(
        {}, description="Right decision of each label; a label that is not listed is a decision itself."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence that new rows keep the budget.")
    rows: int = Field(20_000, ge=1, description="Rows that are looked at, from all over the table.")


class TierRulesInputs(TrialInputs):
    """The table, the models that signals:NAME stands for, and cheap models by the signal's name."""

    first: SignalsRef | None = None


class TierRulesOutputs(Outputs):
    """The rule set with cheap models first; as it was where nothing keeps the budget."""

    rule_set: ModelRef


def _tier_rules_state(config: TierRulesConfig, _inputs: TierRulesInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.table_decisions import outside_state
    from modelmill.signals.pins import pin_models

    named = sorted(name for name in config.first.values() if not name.startswith("signals:"))
    cheap = [pin.version for pin in pin_models(named, settings).values()]
    return " ".join([outside_state(config.rule_set, settings), *cheap])


def _run_tier_rules(
    config: TierRulesConfig, inputs: TierRulesInputs, context: StepContext
) -> TierRulesOutputs:
    from modelmill.rules.cascade.tier_search import run

    return TierRulesOutputs(rule_set=run(config, inputs, context))


tier_rules = Component(
    name="tier_rules",
    title="Cheap models first",
    group="Release",
    config=TierRulesConfig,
    inputs=TierRulesInputs,
    outputs=TierRulesOutputs,
    run=_run_tier_rules,
    outside_state=_tier_rules_state,
    resources=Resources(cpus=2, memory_gb=4),
)
