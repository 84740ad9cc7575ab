"""The step ``distill_signals``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import Component, Inputs, Outputs, StepContext
from modelmill.compression.options import TrunkMethod
from modelmill.system.resources import Resources
from modelmill.training.options import (
    CalibrationConfig,
    TeachingConfig,
    TemperatureScaling,
)


class DistillSignalsConfig(TeachingConfig):
    """Distil one small student out of several teachers: a trunk with a head for each teacher's label."""

    layers: int = Field(2, ge=1, description="Transformer layers of the student.")
    start: str | None = Field(
        None, description="Label of the teacher whose layers the student starts from; empty: the first."
    )
    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that are read; empty: as that teacher."
    )
    method: TrunkMethod = Field(
        "int8_dynamic", description="How the trunk is quantised, as in quantize; none: fp32."
    )
    calibration: CalibrationConfig | None = Field(
        TemperatureScaling(),
        description="What makes probabilities of scores, fitted on the validation split; empty: nothing.",
    )
    prefix: str = Field(
        "", max_length=40, description="Each head is registered under this and its label's name."
    )


class DistillSignalsInputs(Inputs):
    """The dataset whose train rows the teachers answer, and the teachers, each of a label of its own."""

    dataset: DatasetRef
    teachers: tuple[ModelRef, ...]


class DistillSignalsOutputs(Outputs):
    """The student's trunk, and the heads that stand on it."""

    trunk: ModelRef
    signals: SignalsRef


def _run_distill_signals(
    config: DistillSignalsConfig, inputs: DistillSignalsInputs, context: StepContext
) -> DistillSignalsOutputs:
    from modelmill.training.multi_teacher import run

    trunk, signals = run(config, inputs.dataset, inputs.teachers, context)
    return DistillSignalsOutputs(trunk=trunk, signals=signals)


distill_signals = Component(
    name="distill_signals",
    title="Distil many",
    group="Train",
    config=DistillSignalsConfig,
    inputs=DistillSignalsInputs,
    outputs=DistillSignalsOutputs,
    run=_run_distill_signals,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
