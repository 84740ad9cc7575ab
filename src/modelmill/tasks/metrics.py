"""Metrics with confidence intervals, and the difference of two models on the same rows.

Intervals are percentile bootstrap intervals (B. Efron and R. J. Tibshirani, *An Introduction to the
Bootstrap*, 1993, chapter 13): rows are drawn with replacement, and the metric is computed again. Two models
are compared on the same draws. Rows that count alike can be put into groups: then what is drawn is how often
each group comes up, a multinomial, which is exactly the distribution of drawing rows.

If every resample gives the same value (a model without a single error), the interval is that point: the
bootstrap knows nothing of errors that the rows do not show.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelmill.errors import DatasetError

Floats = npt.NDArray[np.float64]

_TITLES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "r2": "R²"}
_EPSILON = 1e-12
"""Values are sums of floats: models that are level must not count as better by chance."""
_CHUNK = 4_000_000
"""Counts that are held in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """How much better one model is than another on the same rows: positive where it is better."""

    first: float
    """The metric of the first model."""
    second: float
    """The metric of the second model."""
    beyond: float
    """Share of the resamples in which the first model is better."""


class MetricRows(ABC):
    """Labelled rows and the answers of one or two models to them, ready for one metric.

    :param sizes: number of rows in each group of rows that count alike, ``(groups,)``.
    """

    def __init__(self, sizes: npt.NDArray[np.int64]) -> None:
        self.sizes = sizes

    @abstractmethod
    def value(self, model: int) -> float:
        """Return the metric of a model on all rows.

        :param model: its place among the answers.
        :return: the value.
        """

    @abstractmethod
    def values(self, model: int, counts: Floats) -> Floats:
        """Return the metric of a model on resamples.

        :param model: its place among the answers.
        :param counts: how often each group was drawn, ``(resamples, groups)``.
        :return: ``(resamples,)``.
        """

    def resamples(self, count: int, *, seed: int) -> Iterator[Floats]:
        """Draw rows with replacement.

        :param count: number of resamples.
        :param seed: of the draws.
        :yield: how often each group was drawn, ``(resamples of this chunk, groups)``.
        """
        random = np.random.default_rng(seed)
        rows = int(self.sizes.sum())
        step = max(1, _CHUNK // len(self.sizes))
        for start in range(0, count, step):
            size = min(step, count - start)
            yield random.multinomial(rows, self.sizes / rows, size=size).astype(np.float64)


@dataclass(frozen=True)
class Metric:
    """A metric of one task."""

    name: str
    rows: Callable[..., MetricRows]
    """From the labels and the answers of one or more models, as the task has them, to :class:`MetricRows`."""
    more_is_better: bool = True
    is_share: bool = True
    """Whether it is from 0 to 1, and shown in percent."""
    right: Callable[[npt.NDArray[np.object_], npt.NDArray[np.object_]], npt.NDArray[np.bool_]] | None = None
    """From labels and answers to which rows are right, if the metric is their share; None otherwise."""

    @property
    def title(self) -> str:
        """The name as people write it."""
        return _TITLES.get(self.name, self.name)

    def of(self, truth: npt.ArrayLike, answers: npt.ArrayLike) -> float:
        """Return the metric.

        :param truth: labels, as the task has them; at least one row.
        :param answers: of a model to the same rows.
        :return: the value.
        :raises DatasetError: if there are no rows.
        """
        return self._rows(truth, answers).value(0)

    def interval(
        self,
        truth: npt.ArrayLike,
        answers: npt.ArrayLike,
        *,
        confidence: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> Interval:
        """Return the metric with its bootstrap interval.

        :param truth: labels, as the task has them; at least one row.
        :param answers: of a model to the same rows.
        :param confidence: above 0.5 and below 1.
        :param resamples: bootstrap resamples.
        :param seed: of the resamples.
        :return: value, low and high.
        :raises DatasetError: if there are no rows.
        """
        rows = self._rows(truth, answers)
        drawn = np.concatenate([rows.values(0, counts) for counts in rows.resamples(resamples, seed=seed)])
        return Interval(rows.value(0), *_percentiles(drawn, confidence))

    def difference(
        self,
        truth: npt.ArrayLike,
        first: npt.ArrayLike,
        second: npt.ArrayLike,
        *,
        confidence: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> Difference:
        """Compare two models on the same rows, by a paired bootstrap.

        :param truth: labels, as the task has them; at least one row.
        :param first: answers of the first model.
        :param second: answers of the second model.
        :param confidence: above 0.5 and below 1.
        :param resamples: bootstrap resamples.
        :param seed: of the resamples.
        :return: how much better the first one is, whichever way the metric counts.
        :raises DatasetError: if there are no rows.
        """
        sign = 1.0 if self.more_is_better else -1.0
        rows = self._rows(truth, first, second)
        drawn = sign * np.concatenate(
            [
                rows.values(0, counts) - rows.values(1, counts)
                for counts in rows.resamples(resamples, seed=seed)
            ]
        )
        values = rows.value(0), rows.value(1)
        low, high = _percentiles(drawn, confidence)
        return Difference(
            value=sign * (values[0] - values[1]),
            low=low,
            high=high,
            first=values[0],
            second=values[1],
            beyond=float((drawn > _EPSILON).mean()),
        )

    def _rows(self, truth: npt.ArrayLike, *answers: npt.ArrayLike) -> MetricRows:
        # Names of classes as objects: numpy's own texts are all as wide as the longest one.
        columns = [
            column if isinstance(column, np.ndarray) else np.array(column, dtype=object)
            for column in (truth, *answers)
        ]
        if not len(columns[0]):
            raise DatasetError("a metric needs at least one row", got=0, remedy="add labelled test rows")
        if len({len(column) for column in columns}) > 1:
            lengths = ", ".join(str(len(column)) for column in columns)
            raise ValueError(f"labels and answers need the same rows; got {lengths}")
        return self.rows(*columns)


class SummedRows(MetricRows):
    """Rows of a metric that is a function of sums over the rows.

    :param sums: what each row adds, ``(rows, terms)``, for each model.
    :param value: from sums, ``(resamples, terms)``, to values, ``(resamples,)``.
    """

    def __init__(self, sums: list[Floats], value: Callable[[Floats], Floats]) -> None:
        super().__init__(np.ones(len(sums[0]), dtype=np.int64))
        self._sums, self._value = sums, value

    def value(self, model: int) -> float:
        """See :meth:`MetricRows.value`."""
        return float(self._value(self._sums[model].sum(0, keepdims=True))[0])

    def values(self, model: int, counts: Floats) -> Floats:
        """See :meth:`MetricRows.values`."""
        return self._value(counts @ self._sums[model])


def summed(
    name: str,
    sums: Callable[[Floats, Floats], Floats],
    value: Callable[[Floats], Floats],
    *,
    more_is_better: bool = True,
    is_share: bool = True,
) -> Metric:
    """Return a metric that is a function of sums over the rows.

    :param name: of the metric.
    :param sums: from labels and answers, ``(rows, outputs)``, to what each row adds, ``(rows, terms)``.
    :param value: from sums, ``(resamples, terms)``, to values, ``(resamples,)``.
    :param more_is_better: whether the larger value is the better one.
    :param is_share: whether it is from 0 to 1.
    :return: the metric.
    """

    def rows(truth: Floats, *answers: Floats) -> MetricRows:
        return SummedRows([sums(truth, one) for one in answers], value)

    return Metric(name, rows, more_is_better=more_is_better, is_share=is_share)


def mean_of_rows(sums: Floats) -> Floats:
    """Return a mean over rows.

    :param sums: the sum of the values and the number of rows, ``(resamples, 2)``.
    :return: ``(resamples,)``.
    """
    found: Floats = sums[:, 0] / sums[:, 1]
    return found


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
