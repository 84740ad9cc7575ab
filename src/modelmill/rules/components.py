"""Components that decide on the rows of a table, and try rule sets before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, ModelRef, ReportRef, SignalsRef, TableRef
from modelmill.data.components import TableOutputs, tables_exist
from modelmill.pipeline.component import Assets, Component, Config, Inputs, Outputs, Resources, StepContext
from modelmill.registry.components import GateOutputs
from modelmill.settings import Settings


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


class TrialInputs(Inputs):
    """The table, and the models that signals:NAME in the rule set stands for."""

    table: TableRef
    signals: SignalsRef | None = None


class DecideInputs(TrialInputs):
    """The table, the models that signals:NAME in the rule set stands for, and a promoted rule set."""

    rule_set: ModelRef | None = None


def _rule_set_state(config: DecideConfig, inputs: DecideInputs, settings: Settings) -> str:
    from modelmill.rules.deciding import outside_state, source_of

    return outside_state(source_of(config, inputs), settings)


def _run_decide(config: DecideConfig, inputs: DecideInputs, context: StepContext) -> TableOutputs:
    from modelmill.rules.deciding import run

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
    still_true=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_decide_assets,
)


class TrialConfig(Config):
    """What is tried, and what is looked at."""

    rule_set: str = Field(min_length=1, description="The proposed rule set: path, URL or models:/NAME@ALIAS.")
    slices: tuple[str, ...] = Field((), description="Columns whose values cut the rows.")
    label: str | None = Field(None, description="Column with labels by hand, null where there is none.")
    decision_of: dict[str, str] = Field(
        {}, description="Right decision of each label; a label that is not listed is a decision itself."
    )
    examples: int = Field(5, ge=0, le=100, description="Keys that are named for each kind of change.")
    rows: int = Field(50_000, ge=1, description="Rows that are tried at most, from all over the table.")
    precision: float = Field(
        0.95, gt=0, lt=1, description="Precision on new rows that thresholds are suggested for."
    )


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
    from modelmill.rules.deciding import outside_state

    sources = [config.rule_set, *([config.against] if config.against else [])]
    return " ".join(outside_state(source, settings) for source in sources)


def _run_try_rules(config: TryRulesConfig, inputs: TrialInputs, context: StepContext) -> TryRulesOutputs:
    from modelmill.rules.backtest import run

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


class SignalStudentsConfig(Config):
    """Make a static student of each model signal of a rule set: what tier_rules asks first."""

    rule_set: str = Field(min_length=1, description="Path or URL of the rule set, or models:/NAME@ALIAS.")
    signals: tuple[str, ...] = Field(
        (), description="Signals that get one; empty: all that the rules compare with thresholds alone."
    )
    rows: int = Field(100_000, ge=1, description="Rows that teach, from all over the table.")
    penalty: float = Field(
        0.2, gt=0, description="Weight of the squared norm of what a student learns, in units of one row."
    )


class SignalStudentsOutputs(Outputs):
    """A student by the signal's name."""

    signals: SignalsRef


def _rules_state(config: SignalStudentsConfig, _inputs: TrialInputs, settings: Settings) -> str:
    from modelmill.rules.deciding import outside_state

    return outside_state(config.rule_set, settings)


def _run_signal_students(
    config: SignalStudentsConfig, inputs: TrialInputs, context: StepContext
) -> SignalStudentsOutputs:
    from modelmill.rules.students import run

    return SignalStudentsOutputs(signals=run(config, inputs, context))


signal_students = Component(
    name="signal_students",
    title="Students of signals",
    group="Compress",
    config=SignalStudentsConfig,
    inputs=TrialInputs,
    outputs=SignalStudentsOutputs,
    run=_run_signal_students,
    outside_state=_rules_state,
    resources=Resources(cpus=2, memory_gb=8),
)


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
    from modelmill.rules.deciding import outside_state
    from modelmill.signals.pins import pin_models

    named = sorted(name for name in config.first.values() if not name.startswith("signals:"))
    cheap = [pin.version for pin in pin_models(named, settings).values()]
    return " ".join([outside_state(config.rule_set, settings), *cheap])


def _run_tier_rules(
    config: TierRulesConfig, inputs: TierRulesInputs, context: StepContext
) -> TierRulesOutputs:
    from modelmill.rules.tiering import run

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


class GateRulesConfig(TrialConfig):
    """Compare a rule set with the champion on a table: it is refused where decisions change too much."""

    name: str = Field(
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered rule set it is proposed for.",
    )
    max_changed: float = Field(
        0.05, ge=0, le=1, description="Largest accepted share of rows with another decision (0.05: 5 %)."
    )
    allow_dead: bool = Field(False, description="Whether a rule may be true on no row.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence that labelled rows get worse.")


def _gate_rules_state(config: GateRulesConfig, _inputs: TrialInputs, settings: Settings) -> str:
    from modelmill.registry.promotion import champion_version
    from modelmill.rules.deciding import outside_state

    return f"{outside_state(config.rule_set, settings)} champion={champion_version(config.name, settings)}"


def _run_gate_rules(config: GateRulesConfig, inputs: TrialInputs, context: StepContext) -> GateOutputs:
    from modelmill.rules.registered import gate

    return GateOutputs(verdict=gate(config, inputs, context))


gate_rules = Component(
    name="gate_rules",
    title="Gate for rules",
    group="Check",
    config=GateRulesConfig,
    inputs=TrialInputs,
    outputs=GateOutputs,
    run=_run_gate_rules,
    outside_state=_gate_rules_state,
    resources=Resources(cpus=2, memory_gb=4),
)
