"""Judge whether a rule set may replace the registered one in use."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, VerdictRef
from modelmill.component import Component, Config, StepContext
from modelmill.rules.lifecycle.options import TrialOptions
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
from modelmill.steps.ports import GateOutputs, TrialInputs
from modelmill.system.resources import Resources


class GateRulesConfig(TrialOptions, Config):
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


def run(config: GateRulesConfig, inputs: TrialInputs, context: StepContext) -> GateOutputs:
    """Judge the rule set by what it would decide otherwise than the one in use. A refusal is a verdict."""
    from modelmill.registry.promotion import champion
    from modelmill.rules.lifecycle.backtest import backtest, figures, report_lines
    from modelmill.rules.lifecycle.gate import reasons_against
    from modelmill.rules.lifecycle.registered_rule_sets import log_rule_set
    from modelmill.rules.pinned_rule_set import pin_step_models

    run, settings = context.run, context.settings
    current = champion(config.name, run.client)
    found = backtest(
        inputs.table,
        config,
        settings,
        against=current.uri if current else None,
        models=pin_step_models(inputs.signals, context.cache),
    )
    challenger = log_rule_set(found.after.compiled.rule_set, inputs.table, context)
    reasons = reasons_against(
        found.report,
        max_changed=config.max_changed,
        allow_dead=config.allow_dead,
        confidence=config.confidence,
    )
    if current is not None and current.digest == challenger.digest:
        reasons = ()
    lines = report_lines(found.report)
    uri = run.log_json({**found.report.model_dump(mode="json"), "reasons": reasons}, "gate/rules.json")
    for line in (*lines, *reasons):
        context.log(f"{config.name}: {line}")
    run.log_metrics({**figures(found.report), "gate/passed": float(not reasons)})
    verdict = VerdictRef(
        passed=not reasons,
        name=config.name,
        challenger=challenger,
        champion_version=current.version if current else None,
        reasons=reasons,
        uri=uri,
        run_id=run.run_id,
        summary="\n".join(f"- {line}" for line in lines),
    )
    return GateOutputs(verdict=verdict)


def _outside_state(config: GateRulesConfig, _inputs: TrialInputs, settings: Settings) -> str:
    from modelmill.registry.promotion import champion_version
    from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state

    state = rule_set_state(config.rule_set, settings)
    return f"{state} champion={champion_version(config.name, settings)}"


gate_rules = Component(
    name="gate_rules",
    title="Gate for rules",
    group="Check",
    config=GateRulesConfig,
    inputs=TrialInputs,
    outputs=GateOutputs,
    run=run,
    extensions=EXTENSIONS,
    outside_state=_outside_state,
    resources=Resources(cpus=2, memory_gb=4),
)
