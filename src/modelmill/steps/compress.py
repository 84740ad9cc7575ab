"""The step ``compress``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.compression.options import Budget, SpaceConfig
from modelmill.system.resources import Resources


class CompressConfig(Config):
    """Find the smallest or fastest model that keeps a budget: distil, prune and quantise in one step.

    The metric is judged with confidence, on validation rows that nothing was learned or chosen from.
    """

    budget: Budget = Field(default_factory=Budget, description="Limits that the model has to keep.")
    prefer: Literal["speed", "size", "quality"] = Field(
        "speed", description="Which of the models that keep the budget is taken."
    )
    space: SpaceConfig = Field(default_factory=SpaceConfig, description="What is tried.")
    epochs: float = Field(3, gt=0, le=1000, description="Passes over the train split: the best students.")
    batch_size: int = Field(16, ge=1, description="Rows per optimizer step.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate of the encoders.")
    temperature: float = Field(2.0, gt=0, description="Softens the teacher's distribution.")
    soft_weight: float = Field(0.7, ge=0, le=1, description="Weight of soft labels; the rest is for labels.")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Confidence that new rows keep max_metric_drop."
    )
    exhaustive: bool = Field(
        False,
        description="Train and measure every candidate to the end: for comparison; much more work.",
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice.")


class CompressInputs(Inputs):
    """The dataset, and the teacher to compress."""

    dataset: DatasetRef
    teacher: ModelRef


class CompressOutputs(Outputs):
    """The chosen model, and a report on every model that was measured."""

    model: ModelRef
    report: ReportRef


def _run_compress(config: CompressConfig, inputs: CompressInputs, context: StepContext) -> CompressOutputs:
    from modelmill.compression.compress import run

    model, report = run(config, inputs.dataset, inputs.teacher, context)
    return CompressOutputs(model=model, report=report)


compress = Component(
    name="compress",
    title="Compress",
    group="Compress",
    config=CompressConfig,
    inputs=CompressInputs,
    outputs=CompressOutputs,
    run=_run_compress,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
