"""From logits to what a model says: probabilities, classes, numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from modelmill.models.bundle import BundleInfo
from modelmill.models.calibration import FloatArray, Temperature, plain_probabilities

_LIKELY = 0.5


def answers(info: BundleInfo, logits: FloatArray) -> tuple[list[str], list[float]]:
    """Return what a bundle answers, as a table holds it.

    :param info: what the bundle says of itself.
    :param logits: ``(rows, outputs)``.
    :return: for each row the class and its probability; where a row has a set of classes, those that are
        more probable than not as a JSON array, and the probability of the likeliest; where it has a number,
        the number twice, as text and as it is.
    """
    found = class_scores(info, logits)
    if info.target == "number":
        return [str(value) for value in found[:, 0]], found[:, 0].tolist()
    if info.target == "classes":
        sets = [[name for name, p in zip(info.classes, row, strict=True) if p > _LIKELY] for row in found]
        return [json.dumps(names) for names in sets], found.max(axis=1, initial=0.0).tolist()
    # The class of the highest logit: a calibration may make two probabilities equal.
    best = logits.argmax(axis=1)
    return [info.classes[index] for index in best], found[np.arange(len(best)), best].tolist()


def answers_of_many(
    infos: Mapping[str, BundleInfo], logits: Mapping[str, FloatArray]
) -> dict[str, tuple[list[str], list[float]]]:
    """Return what many bundles answer to the same rows: what :func:`answers` returns for each of them.

    Those with as many classes are computed together: for one row and fifty signals, fifty small computations
    take a tenth of the trunk's time.

    :param infos: what the bundles say of themselves, by name.
    :param logits: ``(rows, outputs)`` each.
    :return: classes and probabilities, by name.
    """
    found: dict[str, tuple[list[str], list[float]]] = {}
    alike: dict[int, list[str]] = {}
    for name, values in logits.items():
        info = infos[name]
        if info.target == "class" and (info.calibration is None or isinstance(info.calibration, Temperature)):
            alike.setdefault(values.shape[1], []).append(name)
        else:
            found[name] = answers(info, values)
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


def class_scores(info: BundleInfo, logits: FloatArray) -> FloatArray:
    """Return what a bundle's logits say: a probability for each class, or the number itself.

    :param info: what the bundle says of itself.
    :param logits: ``(rows, outputs)``.
    :return: ``(rows, outputs)``.
    """
    if info.target == "number":
        return logits
    exclusive, wide = info.target == "class", logits.astype(np.float64)
    if info.calibration is None:
        return plain_probabilities(wide, exclusive=exclusive).astype(np.float32)
    return info.calibration.apply(wide, exclusive=exclusive).astype(np.float32)
