"""The configuration of signals that a model answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from modelmill.options import Options
from modelmill.signals.kinds import ColumnName, Signal


class SignalCalibration(Options):
    """How logits become probabilities."""

    temperature: PositiveFloat = Field(1.0, description="Logits are divided by it before the softmax.")


class Band(Options):
    """Probabilities that say too little: the signal is unknown there."""

    low: float = Field(ge=0, le=1, description="First probability of the band.")
    high: float = Field(ge=0, le=1, description="First probability above the band.")

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low >= self.high:
            raise ValueError(f"low is below high: {self.low:g}, {self.high:g}")
        return self


class Doubt(Options):
    """Where a cheap model cannot tell on which side of a threshold a signal lies."""

    threshold: float = Field(ge=0, le=1, description="What the rules compare the signal with.")
    low: float = Field(ge=0, le=1, description="Below it, the signal is taken to be below the threshold.")
    high: float = Field(
        ge=0, le=1, description="From it on, the signal is taken to be above the threshold; 1: never."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Doubt:
        if self.low > self.high:
            raise ValueError(f"low is not above high: {self.low:g}, {self.high:g}")
        return self


class FirstTier(Options):
    """A cheap model that answers the rows that it settles; the others the model itself does."""

    model: str = Field(min_length=1, description="A model of the same class, such as a static student.")
    doubts: tuple[Doubt, ...] = Field(
        min_length=1, description="For each threshold of the rules, probabilities that tell nothing."
    )

    @model_validator(mode="after")
    def _ascending(self) -> FirstTier:
        thresholds = [doubt.threshold for doubt in self.doubts]
        if thresholds != sorted(set(thresholds)):
            raise ValueError(f"thresholds ascend, each once: {', '.join(map(str, thresholds))}")
        return self


class ModelSignal(Signal):
    """What a registered model says of a text, or of an image."""

    kind: Literal["model"] = "model"
    column: ColumnName
    model: str = Field(
        min_length=1,
        description="models:/NAME@ALIAS, models:/NAME/VERSION, a folder, or signals:NAME of an earlier step.",
        json_schema_extra={"format": "model"},
    )
    output: Literal["probability", "label"] = Field(
        "probability", description="Probability of one class, or the most probable class."
    )
    label: str | None = Field(None, description="The class, for its probability.")
    calibration: SignalCalibration = SignalCalibration()
    first: FirstTier | None = Field(
        None, description="A cheap model to ask first; empty: every answer is the model's own."
    )
    abstain: Band | None = Field(
        None, description="Unknown where the probability (for a label: of that label) is in the band."
    )

    @model_validator(mode="after")
    def _one_class(self) -> ModelSignal:
        if (self.label is None) != (self.output == "label"):
            raise ValueError("a probability is that of one class under label; the output label has none")
        if self.first is not None and self.output == "label":
            raise ValueError("a first tier answers with probabilities; leave out first, or name a label")
        return self

    def models(self) -> list[str]:
        """Return the names of the models that it asks: its own, and the cheap one that is asked first."""
        return [self.model, *([self.first.model] if self.first else [])]
