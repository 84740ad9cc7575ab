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
