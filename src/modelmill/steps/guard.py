"""The step ``guard``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import ReportRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.settings import Settings


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


class GuardInputs(Inputs):
    """None."""


class GuardOutputs(Outputs):
    """A JSON report."""

    report: ReportRef


def _run_guard(config: GuardConfig, _inputs: GuardInputs, context: StepContext) -> GuardOutputs:
    from modelmill.registry.guard import run

    return GuardOutputs(report=run(config, context))


def _never(_outputs: GuardOutputs, _settings: Settings) -> bool:
    return False


guard = Component(
    name="guard",
    title="Guard",
    group="Release",
    config=GuardConfig,
    inputs=GuardInputs,
    outputs=GuardOutputs,
    run=_run_guard,
    still_valid=_never,
)
