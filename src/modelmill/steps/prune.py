"""The step ``prune``."""

from __future__ import annotations

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.compression.options import PruningOptions
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import LabelOptions


class PruneConfig(PruningOptions, LabelOptions, Config):
    """Take the units that matter least out of a model, and let what stays learn from a teacher again."""


class PruneInputs(Inputs):
    """The dataset, the model to prune, and what it learns from; without a teacher it is the model itself."""

    dataset: DatasetRef
    model: ModelRef
    teacher: ModelRef | None = None


def _run_prune(config: PruneConfig, inputs: PruneInputs, context: StepContext) -> ModelOutputs:
    from modelmill.compression.pruning.prune import run

    return ModelOutputs(model=run(config, inputs.dataset, inputs.model, inputs.teacher, context))


prune = Component(
    name="prune",
    title="Prune",
    group="Compress",
    config=PruneConfig,
    inputs=PruneInputs,
    outputs=ModelOutputs,
    run=_run_prune,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
