"""The step ``compress``."""

from __future__ import annotations

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.compression.options import CompressionOptions
from modelmill.system.resources import Resources


class CompressConfig(CompressionOptions, Config):
    """Find the smallest or fastest model that keeps a budget: distil, prune and quantise in one step.

    The metric is judged with confidence, on validation rows that nothing was learned or chosen from.
    """


class CompressInputs(Inputs):
    """The dataset, and the teacher to compress."""

    dataset: DatasetRef
    teacher: ModelRef


class CompressOutputs(Outputs):
    """The chosen model, and a report on every model that was measured."""

    model: ModelRef
    report: ReportRef


def _run_compress(config: CompressConfig, inputs: CompressInputs, context: StepContext) -> CompressOutputs:
    from modelmill.compression.search.compress import run

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
