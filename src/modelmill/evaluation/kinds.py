"""Metrics of sets of classes and of numbers, with confidence intervals, and two models on the same rows.

Each metric is a function of sums over the rows, so a bootstrap resample (see
:mod:`modelmill.evaluation.metrics`) is a weighted sum: how often each row was drawn, times what it adds. Two
models are compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelmill.errors import DatasetError
from modelmill.evaluation.metrics import Interval

Floats = npt.NDArray[np.float64]
Kind = Literal["classes", "number"]

_EPSILON = 1e-12
_CHUNK = 4_000_000
"""Counts that are held in memory at a time."""


@dataclass(frozen=True)
class KindMetric:
    """A metric of one kind of label."""

    name: str
    sums: Callable[[Floats, Floats], Floats]
    """From answers and truth, ``(rows, outputs)``, to what each row adds, ``(rows, terms)``."""
    value: Callable[[Floats], Floats]
    """From sums over rows, ``(resamples, terms)``, to values, ``(resamples,)``."""
    more_is_better: bool = True
    is_share: bool = True
    """Whether it is a share, shown in percent."""

    def of(self, answers: Floats, truth: Floats) -> float:
        """Return the metric.

        :param answers: 1 for each class that was answered, or the number, ``(rows, outputs)``.
        :param truth: the same of the labels.
        :return: the value.
        """
        return float(self.value(self.sums(answers, truth).sum(0, keepdims=True))[0])


@dataclass(frozen=True)
class KindDifference(Interval):
    """How much better one model is than another on the same rows."""

    beyond: float
    """Share of the resamples in which it is better."""


def kind_interval(
    metric: KindMetric, answers: Floats, truth: Floats, *, confidence: float, resamples: int, seed: int = 0
) -> Interval:
    """Return a metric with its percentile bootstrap interval.

    :param metric: which.
    :param answers: ``(rows, outputs)``; at least one row.
    :param truth: ``(rows, outputs)``.
    :param confidence: above 0.5 and below 1.
    :param resamples: bootstrap resamples.
    :param seed: of the resamples.
    :return: value, low and high.
    :raises DatasetError: if there are no rows.
    """
    drawn = np.concatenate(
        [
            metric.value(counts @ metric.sums(answers, truth))
            for counts in _resampled(len(truth), resamples, seed)
        ]
    )
    return Interval(metric.of(answers, truth), *_percentiles(drawn, confidence))


def kind_difference(
    metric: KindMetric,
    first: Floats,
    second: Floats,
    truth: Floats,
    *,
    confidence: float,
    resamples: int,
    seed: int = 0,
) -> KindDifference:
    """Compare two models on the same rows, by a paired bootstrap.

    :param metric: which.
    :param first: the first model's answers, ``(rows, outputs)``.
    :param second: the second model's.
    :param truth: ``(rows, outputs)``.
    :param confidence: above 0.5 and below 1.
    :param resamples: bootstrap resamples.
    :param seed: of the resamples.
    :return: how much better the first one is, whichever way the metric counts: positive where it is.
    :raises DatasetError: if there are no rows.
    """
    sign = 1.0 if metric.more_is_better else -1.0
    sums = [metric.sums(answers, truth) for answers in (first, second)]
    drawn = np.concatenate(
        [
            metric.value(counts @ sums[0]) - metric.value(counts @ sums[1])
            for counts in _resampled(len(truth), resamples, seed)
        ]
    )
    value = metric.of(first, truth) - metric.of(second, truth)
    # Sums of floats: level with each other must not count as better by chance.
    beyond = float((sign * drawn > _EPSILON).mean())
    return KindDifference(sign * value, *_percentiles(sign * drawn, confidence), beyond)


def _resampled(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    if not rows:
        raise DatasetError("a metric needs at least one row", got=0, remedy="add labelled test rows")
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // rows)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield random.multinomial(rows, np.full(rows, 1 / rows), size=size).astype(np.float64)


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _hits(answers: Floats, truth: Floats) -> Floats:
    """Twice the right classes and all named ones, of each class, ``(rows, 2 x classes)``."""
    return np.hstack([2 * answers * truth, answers + truth])


def _micro_f1(sums: Floats) -> Floats:
    half = sums.shape[1] // 2
    found: Floats = sums[:, :half].sum(1) / np.maximum(sums[:, half:].sum(1), 1)
    return found


def _macro_f1(sums: Floats) -> Floats:
    half = sums.shape[1] // 2
    named = sums[:, half:]
    found: Floats = (sums[:, :half] / np.maximum(named, 1)).sum(1) / np.maximum((named > 0).sum(1), 1)
    return found


def _same(answers: Floats, truth: Floats) -> Floats:
    same = (answers == truth).all(axis=1)
    return np.column_stack([same, np.ones(len(truth))]).astype(np.float64)


def _mean(sums: Floats) -> Floats:
    found: Floats = sums[:, 0] / sums[:, 1]
    return found


def _squares(answers: Floats, truth: Floats) -> Floats:
    """Squared error, truth and its square from its mean, and one."""
    shifted = truth[:, 0] - truth.mean()
    errors = np.square(answers - truth)[:, 0]
    return np.column_stack([errors, np.ones(len(truth)), shifted, np.square(shifted)])


def _r2(sums: Floats) -> Floats:
    spread = sums[:, 3] - np.square(sums[:, 2]) / sums[:, 1]
    found: Floats = np.where(spread > 0, 1 - sums[:, 0] / np.where(spread > 0, spread, 1), 0.0)
    return found


def _rmse(sums: Floats) -> Floats:
    return np.sqrt(_mean(sums))


def _absolute(answers: Floats, truth: Floats) -> Floats:
    return np.column_stack([np.abs(answers - truth)[:, 0], np.ones(len(truth))])


KIND_METRICS: Mapping[Kind, tuple[KindMetric, ...]] = {
    "classes": (
        KindMetric("micro_f1", _hits, _micro_f1),
        KindMetric("macro_f1", _hits, _macro_f1),
        KindMetric("exact", _same, _mean),
    ),
    "number": (
        KindMetric("r2", _squares, _r2, is_share=False),
        KindMetric("rmse", _squares, _rmse, more_is_better=False, is_share=False),
        KindMetric("mae", _absolute, _mean, more_is_better=False, is_share=False),
    ),
}
"""Of each kind of label; the first is what models are compared with baselines by. ``exact``: share of rows
whose whole set is right; ``mae``: mean absolute error, in the label's units, as ``rmse``."""
