"""Ask cheap models before the models of a rule set, as far as a budget allows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import ModelRef, SignalsRef
from modelmill.component import Component, Config, Outputs, StepContext
from modelmill.errors import ConfigError
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
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


def run(config: TierRulesConfig, inputs: TierRulesInputs, context: StepContext) -> TierRulesOutputs:
    """Learn where the cheap models are sure enough, and log the rule set that asks them first."""
    from dataclasses import asdict

    from modelmill.registry.signal_models import read_signals
    from modelmill.rules.cascade.loss_budget import LossBudget
    from modelmill.rules.cascade.tier_search import learn_tiers, pin_first, tier_sentence
    from modelmill.rules.lifecycle.registered_rule_sets import log_rule_set, open_rule_set
    from modelmill.rules.lifecycle.rule_statistics import right_decisions
    from modelmill.rules.lifecycle.table_sample import sample_table
    from modelmill.rules.pinned_rule_set import pin_step_models
    from modelmill.tables.reading import check_columns

    if (config.budget_of == "accuracy") != (config.label is not None):
        raise ConfigError(
            "a budget of accuracy is measured by labels, one of decisions without",
            got=f"budget_of: {config.budget_of}, label: {config.label or 'none'}",
            remedy="name the column under label and set budget_of: accuracy, or leave both out",
        )
    students = read_signals(inputs.first) if inputs.first else {}
    first = {**{name: model.uri for name, model in students.items()}, **config.first}
    if not first:
        raise ConfigError(
            "a rule set gets cheap models by the input port first, or under first in the configuration",
            got="none",
            remedy="connect a step signal_students, or name a model for a signal",
        )
    rule_set = open_rule_set(config.rule_set, context.settings)
    models = pin_step_models(inputs.signals, context.cache)
    pinned = pin_first(rule_set, first, context.settings, models=models)
    rows = sample_table(inputs.table, rows=config.rows)
    check_columns(rows.schema.names, [rule_set.key], place="the input")
    truth = None
    if config.label is not None:
        check_columns(rows.schema.names, [config.label], place=str(inputs.table))
        truth = right_decisions(rows.column(config.label), config.decision_of)
    budget = LossBudget(config.budget, config.confidence, accuracy=truth is not None)
    found = learn_tiers(pinned, rows, first, budget, truth=truth)
    figures = {name: value for name, value in asdict(found).items() if name != "rule_set"}
    context.run.log_dataset(inputs.table, context="tiering", rows=rows.num_rows)
    context.run.log_json({**figures, "rule_set": found.rule_set.canonical()}, "tiers.json")
    context.run.log_metrics({name: value for name, value in figures.items() if value is not None})
    context.log(f"{context.step}: {tier_sentence(found, budget)}")
    return TierRulesOutputs(rule_set=log_rule_set(found.rule_set, inputs.table, context))


def _outside_state(config: TierRulesConfig, _inputs: TierRulesInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state
    from modelmill.signals.pinned_models import pin_models

    named = sorted(name for name in config.first.values() if not name.startswith("signals:"))
    cheap = [pin.version for pin in pin_models(named, settings).values()]
    return " ".join([rule_set_state(config.rule_set, settings), *cheap])


tier_rules = Component(
    name="tier_rules",
    title="Cheap models first",
    group="Release",
    config=TierRulesConfig,
    inputs=TierRulesInputs,
    outputs=TierRulesOutputs,
    run=run,
    extensions=EXTENSIONS,
    outside_state=_outside_state,
    resources=Resources(cpus=2, memory_gb=4),
)
