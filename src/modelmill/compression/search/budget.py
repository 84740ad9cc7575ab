"""The limits of a budget, and whether a model keeps them.

Size, latency and throughput are measured. The drop of the metric is estimated from rows, so it is judged by a
bound: the largest drop that as many *new* rows will show, with a given confidence. Rows on which both models
are right, or both wrong, say nothing about it. What counts is how many rows the teacher alone got right and
how many the model alone (the counts of McNemar's test). With Jeffreys' prior over the three outcomes the
counts that new rows will show follow a Dirichlet-multinomial distribution (A. Gelman et al., *Bayesian Data
Analysis*, 2013, section 3.4); the bound is its quantile. New rows exceed a point estimate half of the time.

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

Flags = npt.NDArray[np.bool_]

_DRAWS = 20_000
_PRIOR = 0.5


@dataclass(frozen=True)
class Drop:
    """How far a model's accuracy is below its teacher's, on the same rows."""

    rows: int
    teacher_alone: int
    """Rows that only the teacher got right."""
    model_alone: int
    """Rows that only the model got right."""
    bound: float
    """Largest drop that as many new rows will show, with the given confidence."""

    @property
    def value(self) -> float:
        """Accuracy of the teacher minus that of the model; positive where the model is worse."""
        return (self.teacher_alone - self.model_alone) / self.rows if self.rows else 0.0


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
    return Drop(rows, worse, better, float(bound))


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
