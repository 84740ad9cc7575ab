"""Trains a student with fewer layers to answer as its teacher does."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import ConfigError
from modelmill.settings import Settings
from modelmill.steps.learning import log_trained, state_of_base
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import LabelOptions, StudentOptions


class DistillConfig(StudentOptions, LabelOptions, Config):
    """Distil a student with fewer layers out of a teacher, or an image encoder with fewer stages.

    It learns soft labels, and starts from layers of the teacher.
    """

    transfer_text: str | None = Field(
        None,
        description="Column with the text in the table on the input transfer; empty: as in the dataset.",
    )


class DistillInputs(Inputs):
    """The dataset, the teacher, and texts without labels that the teacher answers for the student as well."""

    dataset: DatasetRef
    teacher: ModelRef
    transfer: TableRef | None = None


def check(config: DistillConfig) -> None:
    """Check that the encoder that a student of images starts from reads images, if it is on this machine."""
    from modelmill.models.base_model_folder import check_base_model

    if config.student and check_base_model(config.student) == "text":
        raise ConfigError(
            "student names an encoder of images: a student of texts starts from layers of its teacher",
            got=config.student,
            remedy="leave student empty",
        )


def run(config: DistillConfig, inputs: DistillInputs, context: StepContext) -> ModelOutputs:
    """Distil, and log the model with the role ``student``."""
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts, table_texts
    from modelmill.training.distillation import distill
    from modelmill.training.teacher import Teacher

    dataset = inputs.dataset
    data = read_labelled(dataset, label=config.label)
    context.run.log_dataset(dataset, context="training", rows=data.rows)
    teacher = Teacher.load(fetch_bundle(inputs.teacher, context.cache), name=inputs.teacher.uri)
    transfer, kind = None, teacher.info.content
    if inputs.transfer is not None:
        if kind == "image":
            raise ConfigError(
                "the rows without labels on the input transfer are texts, and the teacher reads images",
                got=str(inputs.transfer),
                remedy="remove this edge",
            )
        transfer = table_texts(inputs.transfer, config.transfer_text or dataset.text_column, context)
    trained = distill(data, DatasetTexts(dataset, context, kind), teacher, config, context, transfer=transfer)
    return log_trained(trained, role="student", dataset=dataset, parent=inputs.teacher, context=context)


def _student(config: DistillConfig, _inputs: DistillInputs, settings: Settings) -> str:
    return state_of_base(config.student, settings)


distill = Component(
    name="distill",
    title="Distil",
    group="Train",
    config=DistillConfig,
    inputs=DistillInputs,
    outputs=ModelOutputs,
    run=run,
    outside_state=_student,
    check=check,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
