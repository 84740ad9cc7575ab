"""What an evaluation finds: the content of the JSON report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import ModelFormat


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quality(_Record):
    """Metrics with the ends of their confidence intervals; all from 0 to 1."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float


class BaselineResult(Quality):
    """A baseline."""

    name: str


class SideBySide(_Record):
    """What a report says of a model, whatever it answers."""

    name: str
    """Role and short id, unique in the report."""
    role: str
    uri: str
    format: ModelFormat
    size_mb: float
    """Size of weights and graph, in millions of bytes."""
    parameters: int
    documents_per_second: float
    """Measured side by side with the other models, tokenisation included."""
    documents_per_cpu_second: float
    """The same, by the time of all cores together."""
    size_ratio: float
    """Size of the first model over that of this one: above 1 it is smaller."""
    speed_ratio: float
    """Documents per second over those of the first model: above 1 it is faster."""
    agreement: float
    """With the first model, see :meth:`modelmill.tasks.base.Task.agreement`."""
    beats_baseline: bool | None
    """Whether its first metric is better than that of the best baseline; None without baselines."""
    unknown_classes: tuple[str, ...]
    """Classes of the test rows that the model does not know; it misses them all."""
    sentence: str
    """All that in words."""


class ModelResult(SideBySide, Quality):
    """A model."""


class ClassResult(_Record):
    """How well one model tells one class from the others."""

    model: str
    """Name of the model."""
    name: str
    """The class."""
    rows: int
    """Test rows of this class."""
    precision: float
    recall: float
    f1: float


class EvaluationReport(_Record):
    """An evaluation."""

    dataset: str
    """``uri@version``."""
    label: str
    rows: int
    """Test rows."""
    throughput_rows: int
    """Test rows that documents per second were measured on."""
    confidence: float
    models: tuple[ModelResult, ...]
    """In the order of the step's inputs: ratios are taken to the first."""
    baselines: tuple[BaselineResult, ...]
    per_class: tuple[ClassResult, ...]


class Score(_Record):
    """A metric with the ends of its confidence interval."""

    metric: str
    """``micro_f1``, ``macro_f1``, ``exact``; ``r2``, ``rmse``, ``mae``."""
    value: float
    low: float
    high: float


class KindBaseline(_Record):
    """A baseline."""

    name: str
    scores: tuple[Score, ...]


class KindModel(SideBySide):
    """A model of sets of classes, or of numbers."""

    scores: tuple[Score, ...]
    over_baseline: Score | None
    """By how much its first metric is better than the best baseline's; None without baselines."""


class KindReport(_Record):
    """An evaluation of models of sets of classes, or of numbers."""

    dataset: str
    """``uri@version``."""
    label: str
    target: Literal["classes", "number"]
    rows: int
    """Test rows."""
    throughput_rows: int
    confidence: float
    models: tuple[KindModel, ...]
    """In the order of the step's inputs: ratios are taken to the first."""
    baselines: tuple[KindBaseline, ...]
