"""Accuracy and macro-F1 with confidence intervals, and the difference of two models on the same rows.

Intervals are percentile bootstrap intervals (B. Efron and R. J. Tibshirani, *An Introduction to the
Bootstrap*, 1993, chapter 13): rows are drawn with replacement, and the metric is taken again. Rows with the
same truth and the same answers are interchangeable, so what is drawn is how often each such group comes up, a
multinomial: exactly the distribution of drawing rows, at a cost that does not grow with their number.

Where every resample gives the same value (a model without a single error) the interval is that point: the
bootstrap cannot tell of errors that the rows do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from modelmill.errors import DatasetError

Metric = Literal["accuracy", "macro_f1"]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_CHUNK = 4_000_000
"""Counts that are held in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval; all from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How far two models are apart on the same rows."""

    metric: Metric
    first: float
    """The metric of the first model."""
    second: float
    """The metric of the second model."""
    difference: float
    """First minus second: positive where the first model is better."""
    low: float
    """Lower end of the difference's confidence interval."""
    high: float
    """Upper end of the difference's confidence interval."""
    limit: float
    """What the resamples are compared with."""
    beyond: float
    """Share of resamples whose difference is larger than ``limit``."""


@dataclass(frozen=True)
class ClassQuality:
    """How well one class is told from the others."""

    name: str
    rows: int
    """Rows of this class."""
    precision: float
    """Right answers among the rows answered with this class; 0 if there are none."""
    recall: float
    """Right answers among the rows of this class; 0 if there are none."""
    f1: float
    """Harmonic mean of the two; 0 if both are 0."""


def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Return the share of right answers.

    :param truth: class of each row; at least one row.
    :param predicted: the model's answer to each row.
    :return: from 0 to 1.
    """
    return _point("accuracy", truth, predicted)


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Return the mean over the classes of their F1.

    It is taken over the classes that occur in the truth or among the answers: a class that a model knows, but
    that neither has, does not count. (So does scikit-learn's ``f1_score(average="macro")``.)

    :param truth: class of each row; at least one row.
    :param predicted: the model's answer to each row.
    :return: from 0 to 1.
    """
    return _point("macro_f1", truth, predicted)


def confidence_interval(
    truth: Sequence[str],
    predicted: Sequence[str],
    *,
    metric: Metric,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a metric with its percentile bootstrap interval.

    :param truth: class of each row; at least one row.
    :param predicted: the model's answer to each row.
    :param metric: ``accuracy`` or ``macro_f1``.
    :param confidence: above 0.5 and below 1.
    :param resamples: bootstrap resamples.
    :param seed: of the resamples.
    :return: value, low and high.
    :raises DatasetError: if there are no rows.
    """
    groups = _Groups.of(truth, predicted)
    drawn = np.concatenate(
        [groups.metric(metric, counts, 0) for counts in groups.resampled(resamples, seed=seed)]
    )
    low, high = _percentiles(drawn, confidence)
    return Interval(value=float(groups.metric(metric, groups.sizes[None, :], 0)[0]), low=low, high=high)


def paired_difference(
    truth: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    metric: Metric,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    limit: float = 0.0,
) -> Difference:
    """Compare two models on the same rows: each resample takes both metrics on the rows that it drew.

    :param truth: class of each row; at least one row.
    :param first: the first model's answer to each row.
    :param second: the second model's answer to each row.
    :param metric: ``accuracy`` or ``macro_f1``.
    :param confidence: above 0.5 and below 1.
    :param resamples: bootstrap resamples.
    :param seed: of the resamples.
    :param limit: difference that :attr:`Difference.beyond` counts from.
    :return: first minus second.
    :raises DatasetError: if there are no rows.
    """
    groups = _Groups.of(truth, first, second)
    drawn = np.concatenate(
        [
            groups.metric(metric, counts, 0) - groups.metric(metric, counts, 1)
            for counts in groups.resampled(resamples, seed=seed)
        ]
    )
    low, high = _percentiles(drawn, confidence)
    values = [float(groups.metric(metric, groups.sizes[None, :], answer)[0]) for answer in (0, 1)]
    return Difference(
        metric=metric,
        first=values[0],
        second=values[1],
        difference=values[0] - values[1],
        low=low,
        high=high,
        limit=limit,
        # Sums of floats: a difference that equals the limit must not land on either side by chance.
        beyond=float((drawn > limit + 1e-12).mean()),
    )


def confusion_matrix(
    truth: Sequence[str], predicted: Sequence[str], *, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Count the rows of each class by the answer to them.

    :param truth: class of each row.
    :param predicted: the model's answer to each row.
    :param classes: every class that occurs in either.
    :return: ``(classes, classes)``; a row for each true class, a column for each answer.
    """
    numbers = {name: index for index, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, ([numbers[name] for name in truth], [numbers[name] for name in predicted]), 1)
    return matrix


def class_quality(truth: Sequence[str], predicted: Sequence[str]) -> list[ClassQuality]:
    """Return precision, recall and F1 of each class that occurs in the truth or among the answers.

    :param truth: class of each row.
    :param predicted: the model's answer to each row.
    :return: one for each class, sorted by name.
    """
    classes = sorted({*truth, *predicted})
    matrix = confusion_matrix(truth, predicted, classes=classes)
    right, rows, answers = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return [
        ClassQuality(
            name=name,
            rows=int(rows[index]),
            precision=float(right[index] / max(answers[index], 1)),
            recall=float(right[index] / max(rows[index], 1)),
            f1=float(2 * right[index] / (rows[index] + answers[index])),
        )
        for index, name in enumerate(classes)
    ]


@dataclass(frozen=True)
class _Groups:
    """Rows grouped by truth and answers: the rows of a group are interchangeable."""

    truth: Codes
    """Number of the class of each group, ``(groups,)``."""
    answers: tuple[Codes, ...]
    """For each model the number of its answer to each group, ``(groups,)``."""
    sizes: Codes
    """Rows of each group, ``(groups,)``."""
    classes: int

    @classmethod
    def of(cls, truth: Sequence[str], *answers: Sequence[str]) -> _Groups:
        if not len(truth):
            raise DatasetError("a metric needs at least one row", got=0, remedy="add labelled test rows")
        if {len(column) for column in answers} != {len(truth)}:
            raise ValueError(
                f"truth and answers need the same rows; got {len(truth)} and {[*map(len, answers)]}"
            )
        names = sorted(set(truth).union(*answers))
        numbers = {name: index for index, name in enumerate(names)}
        table = np.array(
            [[numbers[name] for name in column] for column in (truth, *answers)], dtype=np.int64
        )  # (1 + models, rows)
        groups, sizes = np.unique(table, axis=1, return_counts=True)
        return cls(
            truth=groups[0],
            answers=tuple(groups[1:]),
            sizes=sizes.astype(np.int64),
            classes=len(names),
        )

    def resampled(self, resamples: int, *, seed: int) -> Iterator[Codes]:
        """Yield how often each group comes up, ``(resamples in this chunk, groups)``."""
        rng = np.random.default_rng(seed)
        rows = int(self.sizes.sum())
        step = max(1, _CHUNK // len(self.sizes))
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            yield rng.multinomial(rows, self.sizes / rows, size=size)

    def metric(self, metric: Metric, counts: Codes, answer: int) -> Floats:
        """Return a metric of one model for each resample, ``(resamples,)``."""
        return _METRICS[metric](self, counts, answer)

    def right(self, answer: int) -> npt.NDArray[np.bool_]:
        same: npt.NDArray[np.bool_] = self.answers[answer] == self.truth
        return same

    def by_class(self, counts: Codes, codes: Codes) -> Floats:
        """Sum counts over the groups of each class, ``(resamples, classes)``."""
        from scipy.sparse import csr_matrix

        groups = np.arange(len(codes))
        belongs = csr_matrix((np.ones(len(codes)), (groups, codes)), shape=(len(codes), self.classes))
        summed: Floats = counts @ belongs
        return summed


def _accuracy(groups: _Groups, counts: Codes, answer: int) -> Floats:
    shares: Floats = counts[:, groups.right(answer)].sum(1) / counts.sum(1)
    return shares


def _macro_f1(groups: _Groups, counts: Codes, answer: int) -> Floats:
    right = groups.by_class(counts * groups.right(answer), groups.truth)  # (resamples, classes)
    # True and answered rows of a class: 2 tp + fn + fp.
    both = groups.by_class(counts, groups.truth) + groups.by_class(counts, groups.answers[answer])
    f1 = 2 * right / np.maximum(both, 1)
    mean: Floats = f1.sum(1) / (both > 0).sum(1)
    return mean


_METRICS: Mapping[Metric, Callable[[_Groups, Codes, int], Floats]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
}


def _point(metric: Metric, truth: Sequence[str], predicted: Sequence[str]) -> float:
    groups = _Groups.of(truth, predicted)
    return float(groups.metric(metric, groups.sizes[None, :], 0)[0])


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def holm(p_values: Iterable[float]) -> list[float]:
    """Adjust p-values for their number.

    S. Holm, "A simple sequentially rejective multiple test procedure" (1979).

    :param p_values: any number.
    :return: adjusted ones in the same order: those up to alpha err in any of them with chance alpha at most.
    """
    values = list(p_values)
    result, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        result[place] = highest
    return result


_SHARE_CONFIDENCE = 0.95


class Share(BaseModel):
    """Rows that have something, among some rows, with a 95 % confidence interval.

    The interval is that of E. B. Wilson, *Probable inference, the law of succession, and statistical
    inference*, Journal of the American Statistical Association 22 (1927): it holds for few rows, and near 0
    and 1.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    rows: int
    """How many rows it is a share of."""

    @classmethod
    def of(cls, having: int, rows: int) -> Share | None:
        """Return the share; None of no rows."""
        from scipy.stats import binomtest

        if rows == 0:
            return None
        ends = binomtest(having, rows).proportion_ci(_SHARE_CONFIDENCE, method="wilson")
        return cls(value=having / rows, low=float(ends.low), high=float(ends.high), rows=rows)
