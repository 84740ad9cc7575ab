"""The step ``signal_students``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import SignalsRef
from modelmill.component import Component, Config, Outputs, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import TrialInputs
from modelmill.system.resources import Resources


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
    from modelmill.rules.lifecycle.table_decisions import outside_state

    return outside_state(config.rule_set, settings)


def _run_signal_students(
    config: SignalStudentsConfig, inputs: TrialInputs, context: StepContext
) -> SignalStudentsOutputs:
    from modelmill.rules.cascade.static_students import run

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
