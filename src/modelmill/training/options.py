"""Choices that several trainings share, each a small configuration whose type selects the algorithm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelmill.component import Config


class TemperatureScaling(Config):
    """Divide the logits by one number."""

    kind: Literal["temperature"] = "temperature"


class IsotonicRegression(Config):
    """Bend each class's probability by a rising curve: for a thousand validation rows and more."""

    kind: Literal["isotonic"] = "isotonic"


CalibrationConfig = Annotated[TemperatureScaling | IsotonicRegression, Field(discriminator="kind")]


class LinearHead(Config):
    """One linear layer on the mean over the tokens."""

    kind: Literal["linear"] = "linear"


class MlpHead(Config):
    """One hidden layer (ReLU) on the mean over the tokens."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(64, ge=1, le=4096, description="Units of the hidden layer.")


class AttentionHead(Config):
    """A linear layer on a mean whose weights the head learns too: for a few telling words in long texts."""

    kind: Literal["attention"] = "attention"


HeadConfig = Annotated[LinearHead | MlpHead | AttentionHead, Field(discriminator="kind")]

ClassWeights = Literal["none", "balanced"]
"""Whether rows of rare classes count more: ``balanced`` as in scikit-learn, rows / (classes x rows of it)."""


class FullTuning(Config):
    """Train every layer above ``frozen_layers``."""

    kind: Literal["full"] = "full"


class LastLayers(Config):
    """Train the last layers only, whatever ``frozen_layers`` says."""

    kind: Literal["last_layers"] = "last_layers"
    layers: int = Field(1, ge=1, description="Number of layers.")


class LoraTuning(Config):
    """Train low-rank additions to the weights (LoRA), which are merged into them at the end."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, le=512, description="Rank of an addition.")
    alpha: int = Field(16, ge=1, description="Scale of an addition, divided by the rank.")
    modules: tuple[str, ...] = Field(
        (), description="Names of the layers that get one; empty: what peft chooses for the architecture."
    )


TuningMode = Annotated[FullTuning | LastLayers | LoraTuning, Field(discriminator="kind")]


class SoftLabels(Config):
    """The teacher's answers alone."""

    kind: Literal["soft_labels"] = "soft_labels"


class Relations(Config):
    """Also which tokens belong together, as the teacher's last layer sees it (MiniLMv2): more work a row."""

    kind: Literal["relations"] = "relations"
    heads: int | None = Field(
        None, ge=1, description="Relation heads; empty: as many as the teacher has attention heads."
    )
    weight: float = Field(1.0, gt=0, description="Weight of the relations beside that of the answers.")


ObjectiveConfig = Annotated[SoftLabels | Relations, Field(discriminator="kind")]


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
