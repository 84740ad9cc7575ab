"""Components that train: fine-tuning a large model, and distilling a small one out of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.pipeline.component import Component, Config, Inputs, Outputs, Resources, StepContext
from modelmill.training.options import (
    CalibrationConfig,
    ClassWeights,
    FullTuning,
    ObjectiveConfig,
    SoftLabels,
    TemperatureScaling,
    TuningMode,
)


class ModelOutputs(Outputs):
    """A model."""

    model: ModelRef


class LabelConfig(Config):
    """What a training of one label has to know."""

    label: str | None = Field(None, description="Label column to learn; empty: the dataset's only one.")


class TrainingConfig(Config):
    """What every training has in common."""

    epochs: float = Field(2, gt=0, le=1000, description="Passes over the train split.")
    batch_size: int = Field(16, ge=1, description="Rows per optimizer step.")
    rows_at_once: int | None = Field(
        None,
        ge=1,
        description="Rows whose gradients are computed together; those of a batch add up. Empty: the batch. "
        "Where memory runs out it is halved by itself.",
    )
    patience: int | None = Field(
        None, ge=1, description="End after so many epochs without a better one; empty: after all epochs."
    )
    learning_rate: float = Field(2e-4, gt=0, le=1, description="Peak learning rate of the encoder.")
    head_learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak learning rate of the linear head.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Dropout in training, in the encoder and before the head. On a CPU it costs a third of "
        "the speed, and with few epochs it gains little.",
    )
    frozen_layers: int = Field(0, ge=0, description="Lowest layers that keep their weights.")
    train_embeddings: bool = Field(
        False, description="Also train the embeddings: slower, and rarely better with little data."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Number format of the products in training. auto: bf16 on a GPU that is measured to be "
        "faster with it, else fp32; bf16 on a CPU pays only with AMX.",
    )
    compiled: Literal["auto", "never", "always"] = Field(
        "auto",
        description="Whether PyTorch compiles the model. auto: in a long training on a GPU, where a trial of "
        "it is faster.",
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
    checkpoint_seconds: float = Field(
        30, gt=0, description="Time between two checkpoints, in seconds: what a dead attempt can lose."
    )


class FineTuneConfig(TrainingConfig, LabelConfig):
    """Fine-tune a pretrained encoder on a dataset: the large model, the teacher."""

    frozen_layers: int = Field(2, ge=0, description="Lowest layers that keep their weights.")
    mode: TuningMode = Field(FullTuning(), description="Which weights are trained.")
    class_weights: ClassWeights = Field(
        "none", description="balanced: rows of rare classes count more, none: every row counts the same."
    )
    calibration: CalibrationConfig | None = Field(
        TemperatureScaling(),
        description="What makes probabilities of scores, fitted on the validation split; empty: nothing.",
    )
    base_model: str = Field(
        description="Folder with config.json, tokenizer.json and model.safetensors, or Hugging Face id "
        "(taken from the local cache; downloaded only with HF_HUB_OFFLINE=0)."
    )
    max_tokens: int = Field(64, ge=8, le=8192, description="Tokens of a text that the encoder reads.")
    lexical_tokens: int = Field(
        256,
        ge=0,
        le=8192,
        description="Tokens that the lexical head reads: a linear model over the words, fitted in seconds, "
        "added to the encoder's logits. 0: no lexical head.",
    )


class FineTuneInputs(Inputs):
    """The dataset to learn from."""

    dataset: DatasetRef


def _run_fine_tune(config: FineTuneConfig, inputs: FineTuneInputs, context: StepContext) -> ModelOutputs:
    from modelmill.training.fine_tuning import run

    return ModelOutputs(model=run(config, inputs.dataset, context))


fine_tune = Component(
    name="fine_tune",
    title="Fine-tune",
    group="Train",
    config=FineTuneConfig,
    inputs=FineTuneInputs,
    outputs=ModelOutputs,
    run=_run_fine_tune,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)


class TeachingConfig(TrainingConfig):
    """What every training under a teacher has in common."""

    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate of the encoder.")
    temperature: float = Field(2.0, gt=0, description="Softens the teacher's distribution.")
    soft_weight: float = Field(
        0.7, ge=0, le=1, description="Weight of the soft labels; the rest is for the labels."
    )
    objective: ObjectiveConfig = Field(
        SoftLabels(), description="What the student learns of the teacher besides its answers."
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
