"""The result of a search: the content of its JSON report."""

from __future__ import annotations

from typing import Literal

from modelmill.artifacts import ModelFormat
from modelmill.options import Record


class Point(Record):
    """A candidate that was made and measured, as the file that serves."""

    name: str
    """The recipe in words."""
    family: Literal["teacher", "transformer", "static"]
    layers: int | None
    tokens: int | None
    """Tokens that its encoder reads; None for static models."""
    width: float | None
    """Share of each layer's inner units that stayed."""
    heads: float | None
    """Share of the attention heads that stayed."""
    vocabulary: Literal["seen", "all"]
    quantization: str
    format: ModelFormat
    parameters: int
    uri: str
    """``models:/m-…``."""
    size_mb: float
    """Size of weights and graph, in millions of bytes."""
    metric: str
    """What models are judged by: ``accuracy``, ``micro_f1`` or ``r2``."""
    quality: float
    """That metric on the rows for judging, with its bootstrap interval."""
    quality_low: float
    quality_high: float
    drop: float
    """The teacher's metric minus its own, on the same rows."""
    drop_bound: float
    """Largest drop that as many new rows will show, with the report's confidence."""
    agreement: float
    """How alike it and the teacher answer on the rows for judging: see
    :meth:`modelmill.tasks.base.Task.agreement`."""
    latency_p50_ms: float
    latency_p95_ms: float
    documents_per_second: float
    documents_per_cpu_second: float
    speed_ratio: float
    """Documents per second over the teacher's, measured side by side, with its interval: of CPU time where
    both run on the CPU."""
    speed_ratio_low: float
    speed_ratio_high: float
    size_ratio: float
    """Size of the teacher over its own."""
    broken: tuple[str, ...]
    """The limits that it breaks, in words; empty if it keeps the budget."""
    pareto: bool
    """Whether no other point is at least as good, fast and small, and better in one of them."""
    chosen: bool

    @property
    def metrics(self) -> dict[str, float]:
        """What is measured of it, by name."""
        return {
            name.replace("quality", self.metric): float(value)
            for name, value in self.model_dump().items()
            if isinstance(value, float) and name not in ("width", "heads")
        }


class CompressionReport(Record):
    """A search."""

    dataset: str
    """``uri@version``; empty without a dataset."""
    label: str
    teacher: str
    """URI or folder of the teacher."""
    metric: str
    is_share: bool
    """Whether the metric is shown in percent."""
    teacher_quality: float
    teacher_size_mb: float
    teacher_documents_per_second: float
    teacher_latency_p95_ms: float
    judging_rows: int
    """Validation rows that finalists are judged on; no choice was made on them before."""
    choosing_rows: int
    """Validation rows that candidates are ranked on."""
    confidence: float
    budget: dict[str, float | None]
    candidates: int
    """Recipes that were considered."""
    trained: int
    """Students of which at least one round was trained."""
    cpu_seconds: float
    """CPU time of the search, all threads together."""
    points: tuple[Point, ...]
    """The fastest first."""
