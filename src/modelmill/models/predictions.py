"""Answers to texts, some of which may be missing; and those of many models, computed together."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from modelmill.datasets.preparation import BLANKS
from modelmill.models.bundle import BundleInfo
from modelmill.tasks.calibration import FloatArray, Temperature, plain_probabilities

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer

COMMON_COLUMN = "text"
"""Name under which every model takes its text, besides that of the column that it was trained on."""


def text_column(names: Collection[Hashable], trained: str) -> str | None:
    """Return the column that a model reads.

    :param names: the columns that there are.
    :param trained: the one that the model was trained on, see :attr:`BundleInfo.text`.
    :return: that one, else :data:`COMMON_COLUMN`; None if there is neither.
    """
    return next((name for name in (trained, COMMON_COLUMN) if name in names), None)


def is_text(text: str | None) -> TypeGuard[str]:
    """Return whether there is anything to read; the answer to what is missing or blank is null."""
    return text is not None and bool(text.strip(BLANKS))


def or_null(answer: Any, score: float) -> tuple[Any, float | None]:
    """Return an answer and its score; both None if the score is not a finite number."""
    return (answer, score) if math.isfinite(score) else (None, None)


def answers_to(scorer: Scorer, texts: Sequence[str | None]) -> tuple[list[Any], list[float | None]]:
    """Return what a model answers to texts.

    :param scorer: the model.
    :param texts: any number of texts.
    :return: of each text what :meth:`~modelmill.tasks.base.Task.answers` gives; None and None where it
        is not :func:`is_text`.
    """
    present = {index: text for index, text in enumerate(texts) if is_text(text)}
    answers: list[Any] = [None] * len(texts)
    scores: list[float | None] = [None] * len(texts)
    if present:
        logits = scorer.logits(list(present.values()))  # (rows, outputs)
        for index, answer, score in zip(present, *scorer.info.answers(logits), strict=True):
            answers[index], scores[index] = or_null(answer, score)
    return answers, scores


def answer_text(answer: Any) -> str | None:
    """Return an answer as a text, for a column that holds answers of models of all kinds.

    :param answer: a class, a list of classes, a number, or None.
    :return: the class, or JSON; None for None.
    """
    return answer if answer is None or isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def answers_of_many(
    infos: Mapping[str, BundleInfo], logits: Mapping[str, FloatArray]
) -> dict[str, tuple[list[Any], list[float]]]:
    """Return what many bundles answer to the same rows: each as
    :meth:`~modelmill.models.bundle.BundleInfo.answers` does.

    Those with as many classes are computed together: for one row and fifty signals, fifty small computations
    take a tenth of the trunk's time.

    :param infos: what the bundles say of themselves, by name.
    :param logits: ``(rows, outputs)`` each.
    :return: classes and probabilities, by name.
    """
    found: dict[str, tuple[list[Any], list[float]]] = {}
    alike: dict[int, list[str]] = {}
    for name, values in logits.items():
        info = infos[name]
        if info.task.exclusive and (info.calibration is None or isinstance(info.calibration, Temperature)):
            alike.setdefault(values.shape[1], []).append(name)
        else:
            found[name] = info.answers(values)
    for names in alike.values():
        known = [infos[name].calibration for name in names]
        temperatures = [one.temperature if isinstance(one, Temperature) else 1.0 for one in known]
        every = np.stack([logits[name] for name in names])  # (names, rows, classes)
        scaled = every.astype(np.float64) / np.array(temperatures)[:, None, None]
        flat = plain_probabilities(scaled.reshape(-1, every.shape[2]), exclusive=True).astype(np.float32)
        best = every.argmax(axis=2)  # (names, rows)
        chosen = flat[np.arange(len(flat)), best.ravel()].reshape(best.shape).tolist()
        for name, places, scores in zip(names, best.tolist(), chosen, strict=True):
            classes = infos[name].classes
            found[name] = ([classes[place] for place in places], scores)
    return found
