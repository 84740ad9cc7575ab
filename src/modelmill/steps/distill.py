"""The step ``distill``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import Component, Inputs, StepContext
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import (
    LabelConfig,
    TeachingConfig,
)


class DistillConfig(TeachingConfig, LabelConfig):
    """Distil a student with fewer layers out of a teacher: soft labels, and layers taken from the teacher."""

    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that are read; empty: as the teacher."
    )
    layers: int = Field(2, ge=1, description="Transformer layers of the student.")
    transfer_text: str | None = Field(
        None,
        description="Column with the text in the table on the input transfer; empty: as in the dataset.",
    )


class DistillInputs(Inputs):
    """The dataset, the teacher, and texts without labels that the teacher answers for the student as well."""

    dataset: DatasetRef
    teacher: ModelRef
    transfer: TableRef | None = None


def _run_distill(config: DistillConfig, inputs: DistillInputs, context: StepContext) -> ModelOutputs:
    from modelmill.training.distillation import run

    return ModelOutputs(model=run(config, inputs.dataset, inputs.teacher, context, transfer=inputs.transfer))


distill = Component(
    name="distill",
    title="Distil",
    group="Train",
    config=DistillConfig,
    inputs=DistillInputs,
    outputs=ModelOutputs,
    run=_run_distill,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
