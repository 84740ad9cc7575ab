"""What a gate compares, and how far a challenger may be below."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN
from modelmill.options import Options


class _Proposed(Options):
    """What a challenger is proposed for."""

    name: str = Field(
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model it is proposed for.",
    )


class GateLimits(Options):
    """How far a challenger may be below other models and the floors, whatever it is proposed for."""

    metric: Literal["accuracy", "macro_f1"] = Field("accuracy", description="Metric that is compared.")
    max_drop: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="Largest accepted drop of the metric (0.005: half a point), against the champion and "
        "against the model that the chain starts with.",
    )
    max_drift: float | None = Field(
        0.01,
        gt=0,
        lt=1,
        description="Largest drop of the metric since a person last approved a champion, or since the first "
        "one; the challenger has to show that it keeps it. Empty: any.",
    )
    min_recall: float | None = Field(
        0.2, gt=0, lt=1, description="Floor: smallest recall of each class with enough test rows; empty: any."
    )
    max_calibration_error: float | None = Field(
        0.1, gt=0, lt=1, description="Floor: largest calibration error of classes; empty: any."
    )
    max_bias: float | None = Field(
        0.25,
        gt=0,
        description="Floor: how far numbers may be off on the average, in standard deviations of the labels; "
        "empty: any.",
    )
    max_class_drop: float | None = Field(
        0.1, ge=0, lt=1, description="Largest accepted drop of the recall of a class; empty: any."
    )
    proof: bool = Field(
        False,
        description="Also refuse where the rows are too few to show that the metric drops by no more than "
        "max_drop: the whole confidence interval has to lie within it.",
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Confidence of all comparisons together: an equal challenger is refused less often than "
        "in one minus this.",
    )
    min_rows: int = Field(
        20,
        ge=1,
        description="Test rows that must be left where some are left out because a model learnt from them.",
    )
    lost_datasets: Literal["refuse", "compare"] = Field(
        "refuse",
        description="Where a dataset that a model learnt from is gone: refuse to judge, or compare on "
        "all test rows and say so.",
    )
    may_lose_classes: bool = Field(
        False, description="Whether a class that the champion answers may be one that the challenger cannot."
    )
    resamples: int = Field(2000, ge=200, description="Bootstrap resamples.")


class GateOptions(GateLimits, _Proposed):
    """The gate's limits."""

    beat_majority: bool = Field(
        True, description="Floor: it has to be shown better than the majority class, or than the mean."
    )
    max_below_baseline: float = Field(
        0.0, ge=0, lt=1, description="How far the metric may lie below the best baseline."
    )
