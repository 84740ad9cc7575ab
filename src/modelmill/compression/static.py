"""Fitting static students: a convex problem over counts of tokens, solved in seconds.

The targets are the teacher's softened answers mixed with the labels, as in distillation (Hinton et al. 2015,
arXiv 1503.02531); the features are those of :mod:`modelmill.models.static`; the loss is cross-entropy (of
numbers the squared error) with an L2 penalty, minimised by L-BFGS (D. C. Liu and J. Nocedal, 1989). Like
model2vec it replaces the encoder by a table of tokens; but with labelled rows the table can hold a weight for
each token and class, and needs no embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.options import LabelKind
from modelmill.models.static import Table, pair_counts, token_counts, weigh
from modelmill.tasks.base import Targets, Task
from modelmill.tasks.calibration import plain_probabilities
from modelmill.tokens.token_ids import Tokens

Floats = npt.NDArray[np.float32]

_ITERATIONS = 200
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class StaticModel:
    """The tables of a static model."""

    tables: tuple[Table, ...]
    """Tokens, and pairs if it has them."""
    bias: Floats
    """``(outputs,)``."""


def soft_targets(
    teacher: Floats, labels: Targets, *, task: Task, temperature: float, soft_weight: float
) -> npt.NDArray[np.float64]:
    """Mix the teacher's softened answers with the labels.

    :param teacher: the teacher's logits, ``(rows, outputs)``.
    :param labels: of the same rows, as the task has them.
    :param task: the kind of label.
    :param temperature: softens the teacher's distribution; numbers have none.
    :param soft_weight: weight of the teacher, from 0 to 1.
    :return: probabilities or numbers, ``(rows, outputs)``.
    """
    soft = teacher.astype(np.float64)
    if task.has_classes:
        soft = plain_probabilities(soft / temperature, exclusive=task.exclusive)
    return soft_weight * soft + (1 - soft_weight) * task.indicators(labels, soft.shape[1])


_PENALTIES: Mapping[LabelKind, float] = {"class": 0.003, "classes": 0.003, "number": 1.0}
"""Weight of the squared norm, in units of one row. Of numbers it is that of scikit-learn's ridge regression:
their error does not level off as a probability does."""


def fit_static(
    tokens: Tokens,
    targets: npt.NDArray[np.float64],
    *,
    vocabulary: int,
    pairs: int = 0,
    kind: LabelKind = "class",
) -> StaticModel:
    """Fit a static model.

    :param tokens: the rows; at least one.
    :param targets: what each row's answer should be, ``(rows, outputs)``, see :func:`soft_targets`.
    :param vocabulary: number of token ids.
    :param pairs: buckets of pairs: a power of two, or 0 for none.
    :param kind: kind of label.
    :return: the model.
    """
    joined, idfs, seen = _features(tokens, vocabulary, pairs)
    mean, spread = (targets.mean(), targets.std() or 1.0) if kind == "number" else (0.0, 1.0)
    weight, bias = _minimise(joined, (targets - mean) / spread, _PENALTIES[kind], kind)
    return StaticModel(_tables(idfs, seen, weight * spread), (bias * spread + mean).astype(np.float32))


def fit_static_signals(
    tokens: Tokens,
    targets: npt.NDArray[np.float64],
    *,
    vocabulary: int,
    penalty: float,
) -> list[StaticModel]:
    """Fit static models of many signals at once, on the same features.

    :param tokens: the rows; at least one.
    :param targets: how probable each signal should be, ``(rows, signals)``: a model's probability, or 1 where
        that is above the rules' threshold and 0 elsewhere, which is all that a decision depends on.
    :param vocabulary: number of token ids.
    :param penalty: weight of the squared norm, in units of one row.
    :return: a model of two classes for each signal, no and yes.
    """
    joined, idfs, seen = _features(tokens, vocabulary, 0)
    weight, bias = _minimise(joined, targets, penalty, "classes")
    found = []
    for signal in range(targets.shape[1]):
        two = np.stack([np.zeros(len(weight)), weight[:, signal]], axis=1)
        found.append(StaticModel(_tables(idfs, seen, two), np.array([0, bias[signal]], np.float32)))
    return found


def _features(tokens: Tokens, vocabulary: int, pairs: int) -> tuple[Any, list[Floats], list[Any]]:
    """Return the features that occur, ``(rows, features)``, and of each table the idfs and what occurs."""
    from scipy.sparse import csr_matrix, hstack

    counts = [token_counts(tokens, vocabulary=vocabulary)]
    if pairs:
        counts.append(pair_counts(tokens, buckets=pairs))
    idfs = [_smoothed_idf(matrix) for matrix in counts]
    features = weigh(counts, idfs)
    seen = [np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1])) for matrix in features]
    joined = csr_matrix(
        hstack([matrix[:, columns] for matrix, columns in zip(features, seen, strict=True)]), dtype=np.float64
    )
    return joined, idfs, seen


def _tables(
    idfs: Sequence[Floats], seen: Sequence[Any], weight: npt.NDArray[np.float64]
) -> tuple[Table, ...]:
    tables, start = [], 0
    for idf, columns in zip(idfs, seen, strict=True):
        whole = np.zeros((len(idf), weight.shape[1]), dtype=np.float32)
        whole[columns] = weight[start : start + len(columns)]
        tables.append(Table(idf, whole))
        start += len(columns)
    return tuple(tables)


def _smoothed_idf(counts: object) -> Floats:
    """Return scikit-learn's smoothed inverse document frequency, ``(features,)``."""
    from scipy.sparse import csr_matrix

    matrix = csr_matrix(counts)
    rows = np.bincount(matrix.indices, minlength=matrix.shape[1])
    idf: Floats = (np.log((1 + matrix.shape[0]) / (1 + rows)) + 1).astype(np.float32)
    return idf


def _minimise(
    features: object, targets: npt.NDArray[np.float64], penalty: float, kind: LabelKind
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return weights and bias, ``(features, outputs)`` and ``(outputs,)``."""
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix
    from scipy.special import expit, log_softmax

    rows = csr_matrix(features)
    columns = csr_matrix(rows.T)
    shape = (rows.shape[1] + 1, targets.shape[1])

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight = flat.reshape(shape)
        logits = rows @ weight[:-1] + weight[-1]  # (rows, classes)
        if kind == "number":
            error = logits - targets  # (rows, 1)
            surprise = float(np.square(error).sum()) / 2
        elif kind == "classes":
            error = expit(logits) - targets  # (rows, classes)
            surprise = float((np.logaddexp(0, logits) - targets * logits).sum())
        else:
            logs = log_softmax(logits, axis=1)
            error = np.exp(logs) - targets  # (rows, classes)
            surprise = -float((targets * logs).sum())
        gradient = np.vstack([columns @ error + penalty * weight[:-1], error.sum(0)])
        value = surprise + penalty / 2 * float(np.square(weight[:-1]).sum())
        return value / len(targets), gradient.ravel() / len(targets)

    options = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE / len(targets)}
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options).x
    weight = found.reshape(shape)
    return weight[:-1], weight[-1]
