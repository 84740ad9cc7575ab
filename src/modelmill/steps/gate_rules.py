"""The step ``gate_rules``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN
from modelmill.component import Component, StepContext
from modelmill.rules.lifecycle.options import TrialConfig
from modelmill.settings import Settings
from modelmill.steps.ports import GateOutputs, TrialInputs
from modelmill.system.resources import Resources


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
    from modelmill.rules.lifecycle.table_decisions import outside_state

    return f"{outside_state(config.rule_set, settings)} champion={champion_version(config.name, settings)}"


def _run_gate_rules(config: GateRulesConfig, inputs: TrialInputs, context: StepContext) -> GateOutputs:
    from modelmill.rules.lifecycle.registered_rule_sets import gate

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
