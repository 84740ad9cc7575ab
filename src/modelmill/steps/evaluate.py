"""The step ``evaluate``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.steps.ports import ReportOutputs
from modelmill.system.resources import Resources


class EvaluateConfig(Config):
    """Measure models side by side on the test split: quality with confidence intervals, size, throughput."""

    label: str | None = Field(None, description="Label column to judge by; empty: the dataset's only one.")
    baselines: bool = Field(True, description="Also measure the majority class and TF-IDF + linear SVM.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    resamples: int = Field(2000, ge=100, description="Bootstrap resamples.")
    throughput_rows: int = Field(512, ge=32, description="Test rows used to measure documents per second.")


class EvaluateInputs(Inputs):
    """The dataset, and the models: ratios are taken to the first one."""

    dataset: DatasetRef
    models: tuple[ModelRef, ...]


def _run_evaluate(config: EvaluateConfig, inputs: EvaluateInputs, context: StepContext) -> ReportOutputs:
    from modelmill.evaluation.report import run

    return ReportOutputs(report=run(config, inputs.dataset, inputs.models, context))


evaluate = Component(
    name="evaluate",
    title="Evaluate",
    group="Check",
    config=EvaluateConfig,
    inputs=EvaluateInputs,
    outputs=ReportOutputs,
    run=_run_evaluate,
    resources=Resources(cpus=2, memory_gb=4),
)
