"""Look for champions that did not come through the gate, and for damaged files."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import ReportRef
from modelmill.component import Component, Config, StepContext
from modelmill.errors import GateError
from modelmill.settings import Settings
from modelmill.steps.ports import NoInputs, ReportOutputs


class GuardConfig(Config):
    """Find champions that did not come through the gate, moves left half-done, and damaged files."""

    names: tuple[str, ...] = Field(
        (), description="Registered models; empty: all that the ledger has rows of."
    )
    on_hand_move: Literal["report", "revert"] = Field(
        "report", description="revert: move an alias that was moved by hand back to the gate's champion."
    )
    verify_files: bool = Field(
        True, description="Download the champions' files and compare them with their digests."
    )
    fail: bool = Field(
        True, description="Fail the step if something was found that a person has to put right."
    )


def run(config: GuardConfig, _inputs: NoInputs, context: StepContext) -> ReportOutputs:
    """Inspect the registered models; fail if somebody has to act, and the configuration says so."""
    from modelmill.registry.champion import Registry
    from modelmill.registry.guard import inspect

    registry = Registry(context.run.client, context.settings, context.log)
    report = inspect(
        registry, config.names, on_hand_move=config.on_hand_move, verify_files=config.verify_files
    )
    uri = context.run.log_json(report.model_dump(mode="json"), "guard.json")
    context.run.log_metrics({"models": len(report.models), "findings": len(report.findings)})
    context.log(f"{len(report.models)} models looked at, {len(report.open)} need somebody")
    if report.open and config.fail:
        raise GateError(
            "every champion must have come through the gate, with the files that were logged",
            got="; ".join(finding.sentence for finding in report.open),
            remedy="see modelmill registry history; roll back, or run the pipeline",
        )
    return ReportOutputs(report=ReportRef(uri=uri, run_id=context.run.run_id))


def _never(_outputs: ReportOutputs, _settings: Settings) -> bool:
    return False


guard = Component(
    name="guard",
    title="Guard",
    group="Release",
    config=GuardConfig,
    inputs=NoInputs,
    outputs=ReportOutputs,
    run=run,
    still_valid=_never,
)
