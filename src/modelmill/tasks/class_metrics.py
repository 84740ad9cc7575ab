"""Metrics of one class a row: accuracy, macro-F1, and how well each class is told from the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.tasks.metrics import Floats, Metric, MetricRows

Codes = npt.NDArray[np.int64]
Names = npt.NDArray[Any]
"""Names of classes, ``(rows,)``."""


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


def confusion_matrix(truth: npt.ArrayLike, answers: npt.ArrayLike, *, classes: list[str]) -> Codes:
    """Count the rows of each class by the answer to them.

    :param truth: class of each row.
    :param answers: the model's answer to each row.
    :param classes: every class that occurs in either.
    :return: ``(classes, classes)``; a row for each true class, a column for each answer.
    """
    numbers = {name: index for index, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    places = [[numbers[str(name)] for name in np.asarray(column)] for column in (truth, answers)]
    np.add.at(matrix, tuple(places), 1)
    return matrix


def class_quality(truth: npt.ArrayLike, answers: npt.ArrayLike) -> list[ClassQuality]:
    """Return precision, recall and F1 of each class that occurs in the truth or among the answers.

    :param truth: class of each row.
    :param answers: the model's answer to each row.
    :return: one for each class, sorted by name.
    """
    classes = sorted({*map(str, np.asarray(truth)), *map(str, np.asarray(answers))})
    matrix = confusion_matrix(truth, answers, classes=classes)
    right, rows, answered = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return [
        ClassQuality(
            name=name,
            rows=int(rows[index]),
            precision=float(right[index] / max(answered[index], 1)),
            recall=float(right[index] / max(rows[index], 1)),
            f1=float(2 * right[index] / (rows[index] + answered[index])),
        )
        for index, name in enumerate(classes)
    ]


class _GroupedRows(MetricRows):
    """Rows with the same truth and the same answers are a group: few, however many rows there are."""

    def __init__(self, metric: _GroupMetric, truth: Names, *answers: Names) -> None:
        names = sorted({*truth}.union(*answers))
        numbers = {name: index for index, name in enumerate(names)}
        table = np.array(
            [[numbers[name] for name in column] for column in (truth, *answers)], dtype=np.int64
        )  # (1 + models, rows)
        groups, sizes = np.unique(table, axis=1, return_counts=True)
        super().__init__(sizes.astype(np.int64))
        self.truth: Codes = groups[0]
        """Number of the class of each group, ``(groups,)``."""
        self.answers: tuple[Codes, ...] = tuple(groups[1:])
        """For each model the number of its answer to each group, ``(groups,)``."""
        self._classes, self._metric = len(names), metric

    def value(self, model: int) -> float:
        """See :meth:`MetricRows.value`."""
        return float(self._metric(self, self.sizes[None, :].astype(np.float64), model)[0])

    def values(self, model: int, counts: Floats) -> Floats:
        """See :meth:`MetricRows.values`."""
        return self._metric(self, counts, model)

    def right(self, model: int) -> npt.NDArray[np.bool_]:
        """Return which groups a model answers right, ``(groups,)``."""
        same: npt.NDArray[np.bool_] = self.answers[model] == self.truth
        return same

    def by_class(self, counts: Floats, codes: Codes) -> Floats:
        """Sum counts over the groups of each class, ``(resamples, classes)``."""
        from scipy.sparse import csr_matrix

        groups = np.arange(len(codes))
        belongs = csr_matrix((np.ones(len(codes)), (groups, codes)), shape=(len(codes), self._classes))
        sums: Floats = counts @ belongs
        return sums


_GroupMetric = Callable[[_GroupedRows, Floats, int], Floats]


def _accuracy(rows: _GroupedRows, counts: Floats, model: int) -> Floats:
    shares: Floats = counts[:, rows.right(model)].sum(1) / counts.sum(1)
    return shares


def _macro_f1(rows: _GroupedRows, counts: Floats, model: int) -> Floats:
    right = rows.by_class(counts * rows.right(model), rows.truth)  # (resamples, classes)
    # True and answered rows of a class: 2 tp + fn + fp.
    both = rows.by_class(counts, rows.truth) + rows.by_class(counts, rows.answers[model])
    f1 = 2 * right / np.maximum(both, 1)
    mean: Floats = f1.sum(1) / (both > 0).sum(1)
    return mean


def _grouped(metric: _GroupMetric) -> Callable[..., MetricRows]:
    return lambda truth, *answers: _GroupedRows(metric, truth, *answers)


ACCURACY = Metric("accuracy", _grouped(_accuracy), right=lambda truth, answers: truth == answers)
"""Share of right answers."""
MACRO_F1 = Metric("macro_f1", _grouped(_macro_f1))
"""Mean over the classes of their F1. Classes count that occur in the truth or among the answers: one that a
model knows, but that neither has, does not. (So does scikit-learn's ``f1_score(average="macro")``.)"""
