"""The step ``train_heads``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.system.resources import Resources
from modelmill.training.options import (
    CalibrationConfig,
    ClassWeights,
    HeadConfig,
    LinearHead,
    TemperatureScaling,
)


class TrainHeadsConfig(Config):
    """Train one small head for each label column on a trunk, all in one pass; each becomes its own model.

    A head that was trained on the same rows before is kept as it is: adding a label column trains one head.
    """

    labels: tuple[str, ...] = Field(
        (), description="Label columns, each a signal; empty: all of the dataset's."
    )
    head: HeadConfig = Field(LinearHead(), description="What a head is.")
    epochs: int = Field(60, ge=1, le=1000, description="Passes over the train split at most.")
    patience: int = Field(
        8, ge=1, description="Passes without a smaller validation loss of any head after which training ends."
    )
    batch_size: int = Field(256, ge=1, description="Rows per optimizer step.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    class_weights: ClassWeights = Field(
        "none", description="balanced: rows of rare classes count more, none: every row counts the same."
    )
    calibration: CalibrationConfig | None = Field(
        TemperatureScaling(),
        description="What makes probabilities of scores, fitted on the validation split; empty: nothing.",
    )
    prefix: str = Field(
        "", max_length=40, description="Each head is registered under this and its label column's name."
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice.")


class TrainHeadsInputs(Inputs):
    """The dataset with a label column for each signal, and the trunk."""

    dataset: DatasetRef
    trunk: ModelRef


class SignalsOutputs(Outputs):
    """The signals' models."""

    signals: SignalsRef


def _run_train_heads(
    config: TrainHeadsConfig, inputs: TrainHeadsInputs, context: StepContext
) -> SignalsOutputs:
    from modelmill.training.signals import run

    return SignalsOutputs(signals=run(config, inputs.dataset, inputs.trunk, context))


train_heads = Component(
    name="train_heads",
    title="Train heads",
    group="Train",
    config=TrainHeadsConfig,
    inputs=TrainHeadsInputs,
    outputs=SignalsOutputs,
    run=_run_train_heads,
    resources=Resources(cpus=2, memory_gb=4),
)
