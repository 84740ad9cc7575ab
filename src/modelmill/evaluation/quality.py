"""How a model does on labelled rows, whatever the kind of label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.options import LabelKind

Logits = npt.NDArray[np.float32]
Measures = Mapping[str, float]
"""Values by name. The first one is what epochs and candidates are chosen by: more is better."""


def measure(target: LabelKind, logits: Logits, targets: npt.NDArray[Any]) -> Measures:
    """Measure a model.

    :param target: kind of label.
    :param logits: ``(rows, outputs)``; at least one row.
    :param targets: as in :class:`~modelmill.datasets.examples.LabelledData`.
    :return: ``accuracy`` and ``macro_f1`` for a class a row, ``micro_f1`` and ``macro_f1`` for sets of
        classes, ``r2`` and ``rmse`` for numbers.
    """
    return _MEASURES[target](logits, targets)


def _one_class(logits: Logits, targets: npt.NDArray[np.int64]) -> Measures:
    answers = logits.argmax(axis=1)
    scores = []
    for number in np.union1d(answers, targets):
        hit = int(((answers == number) & (targets == number)).sum())
        scores.append(2 * hit / int((answers == number).sum() + (targets == number).sum()))
    return {"accuracy": float((answers == targets).mean()), "macro_f1": float(np.mean(scores))}


def _many_classes(logits: Logits, targets: npt.NDArray[np.float32]) -> Measures:
    answers, truth = logits > 0, targets > 0
    hits = (answers & truth).sum(0)
    named = answers.sum(0) + truth.sum(0)
    each = 2 * hits / np.maximum(named, 1)
    return {
        "micro_f1": float(2 * hits.sum() / max(named.sum(), 1)),
        "macro_f1": float(each[named > 0].mean()) if (named > 0).any() else 0.0,
    }


def _number(logits: Logits, targets: npt.NDArray[np.float32]) -> Measures:
    squared = np.square(logits[:, 0].astype(np.float64) - targets)
    spread = np.square(targets - targets.mean(dtype=np.float64)).sum()
    return {
        "r2": float(1 - squared.sum() / spread) if spread else 0.0,
        "rmse": float(np.sqrt(squared.mean())),
    }


_MEASURES: Mapping[LabelKind, Callable[[Logits, npt.NDArray[Any]], Measures]] = {
    "class": _one_class,
    "classes": _many_classes,
    "number": _number,
}
