"""Components of signals that share one trunk."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, DatasetRef, ModelRef, SignalsRef
from modelmill.pipeline.component import Component, Config, Inputs, Outputs, Resources, StepContext
from modelmill.training.components import ModelOutputs, TeachingConfig
from modelmill.training.options import (
    CalibrationConfig,
    ClassWeights,
    HeadConfig,
    LinearHead,
    TemperatureScaling,
)


class TrunkConfig(Config):
    """Make a trunk: the encoder that many signals share, exported once. Its heads come from train_heads."""

    base_model: str | None = Field(
        None,
        description="Folder or Hugging Face id, as in fine_tune; empty: the encoder of the input model.",
    )
    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that it reads; empty: as the input model, or 128."
    )
    method: Literal["int8_dynamic", "int8_weights", "int4_weights", "none"] = Field(
        "int8_dynamic", description="How it is quantised, as in quantize; none: fp32."
    )
    states: bool = Field(
        False, description="Also give the features of each token, which heads with attention need."
    )
    registered_name: str | None = Field(
        None,
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model to make it a version of; empty: it is only logged.",
    )


class TrunkInputs(Inputs):
    """A fine-tuned or distilled model whose encoder becomes the trunk; without one a base model does."""

    model: ModelRef | None = None


class TrunkOutputs(Outputs):
    """The trunk."""

    trunk: ModelRef


def _run_trunk(config: TrunkConfig, inputs: TrunkInputs, context: StepContext) -> TrunkOutputs:
    from modelmill.training.trunk import run

    return TrunkOutputs(trunk=run(config, inputs.model, context))


trunk = Component(
    name="trunk",
    title="Trunk",
    group="Train",
    config=TrunkConfig,
    inputs=TrunkInputs,
    outputs=TrunkOutputs,
    run=_run_trunk,
    resources=Resources(cpus=2, memory_gb=4),
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


class DistillSignalsConfig(TeachingConfig):
    """Distil one small student out of several teachers: a trunk with a head for each teacher's label."""

    layers: int = Field(2, ge=1, description="Transformer layers of the student.")
    start: str | None = Field(
        None, description="Label of the teacher whose layers the student starts from; empty: the first."
    )
    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that are read; empty: as that teacher."
    )
    method: Literal["int8_dynamic", "int8_weights", "int4_weights", "none"] = Field(
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
    from modelmill.training.many_teachers import run

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


class PickSignalConfig(Config):
    """Take one signal's model out of many: for a gate, an evaluation or a scored table of its own."""

    signal: str = Field(description="Name of the signal: its label column.")


class PickSignalInputs(Inputs):
    """The signals."""

    signals: SignalsRef


def _run_pick_signal(
    config: PickSignalConfig, inputs: PickSignalInputs, _context: StepContext
) -> ModelOutputs:
    from modelmill.registry.signals import signal_named

    return ModelOutputs(model=signal_named(inputs.signals, config.signal))


pick_signal = Component(
    name="pick_signal",
    title="Pick signal",
    group="Train",
    config=PickSignalConfig,
    inputs=PickSignalInputs,
    outputs=ModelOutputs,
    run=_run_pick_signal,
)
