"""Choices that several trainings share, each a small configuration whose type selects the algorithm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelmill.pipeline.component import Config


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
