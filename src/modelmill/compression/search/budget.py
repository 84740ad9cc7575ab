"""The limits of a budget, and whether a model keeps them.

Size, latency and throughput are measured. The drop of the metric is estimated from rows, so it is judged by a
bound: the largest drop that as many *new* rows will show, with a given confidence. New rows exceed a point
estimate half of the time. Of the accuracy only those rows say something that the teacher alone got right, or
the model alone (the counts of McNemar's test): with Jeffreys' prior over the three outcomes the counts that
new rows will show follow a Dirichlet-multinomial distribution (A. Gelman et al., *Bayesian Data Analysis*,
2013, section 3.4). For other metrics each row is an outcome of its own, which is the Bayesian bootstrap (D.
Rubin, "The Bayesian Bootstrap", 1981), and as many rows are drawn from each of its distributions; the same
prior, half a row, stands for those that only the teacher answers well, and those that only the model does.

Several models are judged on the same rows in a fixed order, from the one most like the teacher to the
fastest, and the first one that fails ends it. So the probability that *any* model passes wrongly is at most
one minus the confidence (fixed sequence testing, A. Angelopoulos et al., "Learn then Test", 2021, arXiv
2110.01052).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelmill.compression.options import Budget
from modelmill.tasks.base import Answers
from modelmill.tasks.metrics import Metric

Flags = npt.NDArray[np.bool_]

_DRAWS = 20_000
_PRIOR = 0.5
_BOOTSTRAP_CHUNKS, _CHUNK_DRAWS = 20, 100
"""Few draws at a time: each has a number for each row."""


@dataclass(frozen=True)
class Drop:
    """How far a model is below its teacher, on the same rows."""

    rows: int
    value: float
    """The teacher's metric minus the model's; positive where the model is worse."""
    bound: float
    """Largest drop that as many new rows will show, with the given confidence."""


def points(drop: float, metric: Metric) -> str:
    """Return a drop in words: in points of a share, or as a number."""
    return f"{100 * drop:+.2f} points" if metric.is_share else f"{drop:+.4f} {metric.name}"


def metric_drop(
    metric: Metric, truth: Answers, teacher: Answers, model: Answers, *, confidence: float
) -> Drop:
    """Bound the drop of a metric that new rows will show.

    :param metric: of the label's task; more of it is better.
    :param truth: the labels, see :data:`modelmill.tasks.base.Answers`; at least one row.
    :param teacher: the teacher's answers to the same rows.
    :param model: the model's.
    :param confidence: above 0.5 and below 1.
    :return: the drop.
    """
    if metric.right is not None:
        right = metric.right
        return accuracy_drop(right(truth, teacher), right(truth, model), confidence=confidence)
    rows = len(truth)
    # What a model answers that knows nothing: no class, or the mean.
    poor = np.zeros_like(truth) if metric.is_share else np.full_like(truth, truth.mean())
    pooled = metric.rows(
        np.concatenate([truth, truth, truth]),
        np.concatenate([teacher, truth, poor]),
        np.concatenate([model, poor, truth]),
    )
    weights = np.concatenate([np.ones(rows), np.full(2 * rows, _PRIOR / rows)])
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(_BOOTSTRAP_CHUNKS):
        shares = random.dirichlet(weights, size=_CHUNK_DRAWS)  # (draws, 3 * rows)
        counts = random.multinomial(rows, shares).astype(np.float64)
        drawn.append(pooled.values(0, counts) - pooled.values(1, counts))
    value = metric.of(truth, teacher) - metric.of(truth, model)
    return Drop(rows, value, float(np.quantile(np.concatenate(drawn), confidence)))


def accuracy_drop(teacher_right: Flags, model_right: Flags, *, confidence: float) -> Drop:
    """Bound the drop of the accuracy that new rows will show.

    :param teacher_right: whether the teacher's answer is each row's label, ``(rows,)``.
    :param model_right: the same for the model, on the same rows.
    :param confidence: above 0.5 and below 1.
    :return: the drop.
    :raises ValueError: if the two are not of one length, or empty.
    """
    if teacher_right.shape != model_right.shape or not teacher_right.size:
        raise ValueError(f"rows must be the same; got {teacher_right.shape} and {model_right.shape}")
    rows = teacher_right.size
    worse, better = int((teacher_right & ~model_right).sum()), int((model_right & ~teacher_right).sum())
    random = np.random.default_rng(0)
    shares = random.dirichlet(
        (worse + _PRIOR, better + _PRIOR, rows - worse - better + _PRIOR), size=_DRAWS
    )  # (draws, 3)
    drawn = random.multinomial(rows, shares)  # (draws, 3)
    bound = np.quantile((drawn[:, 0] - drawn[:, 1]) / rows, confidence)
    return Drop(rows, (worse - better) / rows, float(bound))


@dataclass(frozen=True)
class Limit:
    """One limit, and a model's value."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False
    """Whether the limit is the smallest value allowed, instead of the largest."""

    @property
    def kept(self) -> bool:
        """Whether the model keeps it."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def excess(self) -> float:
        """How far the value is beyond the limit, as a share of it; 0 or less if the limit is kept."""
        over, under = (self.limit, self.value) if self.at_least else (self.value, self.limit)
        return over / under - 1 if under else float("inf")

    def __str__(self) -> str:
        missed, where = abs(self.value - self.limit), "below" if self.at_least else "above"
        return (
            f"{self.name}: {self.value:.4g} {self.unit}, {missed:.3g} {where} the limit of {self.limit:.4g}"
        )


def hard_limits(
    budget: Budget, *, latency_ms: float, throughput_ratio: float, size_mb: float
) -> tuple[Limit, ...]:
    """Return those limits on latency, throughput and size that the budget sets.

    :param budget: the budget.
    :param latency_ms: 95th percentile of the time for one text.
    :param throughput_ratio: documents per second over the teacher's.
    :param size_mb: size of weights and graph, in millions of bytes.
    :return: each limit with the model's value.
    """
    asked: Mapping[str, tuple[float, float | None, str, bool]] = {
        "max_latency_ms": (latency_ms, budget.max_latency_ms, "ms", False),
        "min_throughput_ratio": (throughput_ratio, budget.min_throughput_ratio, "times the teacher's", True),
        "max_size_mb": (size_mb, budget.max_size_mb, "MB", False),
    }
    return tuple(
        Limit(name, value, limit, unit, at_least)
        for name, (value, limit, unit, at_least) in asked.items()
        if limit is not None
    )
