"""What is measured of models side by side."""

from __future__ import annotations

from pydantic import Field

from modelmill.options import Options


class EvaluationOptions(Options):
    """How models are measured."""

    label: str | None = Field(None, description="Label column to judge by; empty: the dataset's only one.")
    baselines: bool = Field(True, description="Also measure the majority class and TF-IDF + linear SVM.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    resamples: int = Field(2000, ge=100, description="Bootstrap resamples.")
    throughput_rows: int = Field(512, ge=32, description="Test rows used to measure documents per second.")
