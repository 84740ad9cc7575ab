"""Picks the model of one signal out of many."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import SignalsRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.steps.ports import ModelOutputs


class PickSignalConfig(Config):
    """Take one signal's model out of many: for a gate, an evaluation or a scored table of its own."""

    signal: str = Field(description="Name of the signal: its label column.")


class PickSignalInputs(Inputs):
    """The signals."""

    signals: SignalsRef


def run(config: PickSignalConfig, inputs: PickSignalInputs, _context: StepContext) -> ModelOutputs:
    """Return the model of the signal."""
    from modelmill.registry.signal_models import signal_named

    return ModelOutputs(model=signal_named(inputs.signals, config.signal))


pick_signal = Component(
    name="pick_signal",
    title="Pick signal",
    group="Train",
    config=PickSignalConfig,
    inputs=PickSignalInputs,
    outputs=ModelOutputs,
    run=run,
)
