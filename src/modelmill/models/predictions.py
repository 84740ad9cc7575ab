"""Answers to texts and images, some of which may be missing; and those of many models, computed together."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.artifacts import ContentKind
from modelmill.models.bundle import BundleInfo
from modelmill.tasks.calibration import FloatArray, Temperature, plain_probabilities
from modelmill.tokens.contents import CONTENTS, Content

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer


def read_column(names: Collection[Hashable], trained: str, kind: ContentKind = "text") -> str | None:
    """Return the column that a model reads.

    :param names: the columns that there are.
    :param trained: the one that the model was trained on, see :attr:`BundleInfo.text`.
    :param kind: what it reads, see :attr:`BundleInfo.content`.
    :return: that one, else the one that every model of this kind takes; None if there is neither.
    """
    return next((name for name in (trained, CONTENTS[kind].common) if name in names), None)


def or_null(answer: Any, score: float) -> tuple[Any, float | None]:
    """Return an answer and its score; both None if the score is not a finite number."""
    return (answer, score) if math.isfinite(score) else (None, None)


def answers_to(scorer: Scorer, contents: Sequence[Content | None]) -> tuple[list[Any], list[float | None]]:
    """Return what a model answers.

    :param scorer: the model.
    :param contents: any number of texts, or of the files of images.
    :return: of each what :meth:`~modelmill.tasks.base.Task.answers` gives; None and None where there is
        nothing, or nothing that can be read.
    """
    kind = CONTENTS[scorer.info.content]
    present = {index: one for index, one in enumerate(contents) if one is not None and kind.readable(one)}
    answers: list[Any] = [None] * len(contents)
    scores: list[float | None] = [None] * len(contents)
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
