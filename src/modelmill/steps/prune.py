"""The step ``prune``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Inputs, StepContext
from modelmill.compression.options import ImportanceConfig, PruneMove, TaylorImportance
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import LabelConfig, TeachingConfig


class PruneConfig(TeachingConfig, LabelConfig):
    """Take the units that matter least out of a model, and let what stays learn from a teacher again."""

    moves: tuple[PruneMove, ...] = Field(
        (PruneMove(method="inner_units", keep=0.5), PruneMove(method="heads", keep=0.75)),
        description="What is taken out, one after another.",
    )
    importance: ImportanceConfig = Field(
        TaylorImportance(), description="How it is estimated, on train rows, which units matter."
    )
    vocabulary: Literal["seen", "all"] = Field(
        "seen",
        description="seen: keep the tokens of the train split, single characters and special tokens, where "
        "the tokenizer allows it; all: keep every token.",
    )
    epochs: float = Field(
        1, ge=0, le=1000, description="Passes over the train split in which it recovers; 0: none."
    )


class PruneInputs(Inputs):
    """The dataset, the model to prune, and what it learns from; without a teacher it is the model itself."""

    dataset: DatasetRef
    model: ModelRef
    teacher: ModelRef | None = None


def _run_prune(config: PruneConfig, inputs: PruneInputs, context: StepContext) -> ModelOutputs:
    from modelmill.compression.prune import run

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
