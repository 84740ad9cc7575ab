"""The versions that answer at one moment. A lineup never changes: a swap puts another one in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelmill.serving.runtime import FloatArray, Scorer


@dataclass(frozen=True)
class Served:
    """One version of a registered model, loaded and verified."""

    name: str
    version: int
    digest: str
    """SHA-256 over its files."""
    scorer: Scorer


@dataclass(frozen=True)
class Lineup:
    """Who answers which signal."""

    champions: Mapping[str, Served] = field(default_factory=dict)
    """By registered model."""
    challengers: Mapping[str, Served] = field(default_factory=dict)
    """Versions that are scored beside the champions, off the way of the answers."""


def probabilities(models: Mapping[str, Served], wanted: Mapping[str, Sequence[str]]) -> dict[str, FloatArray]:
    """Score texts with several models.

    :param models: by name.
    :param wanted: texts to score by name of a model; a text that comes twice is scored once.
    :return: ``(texts, classes)`` by name of the model.
    """
    found: dict[str, FloatArray] = {}
    for name, texts in wanted.items():
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        scored = models[name].scorer.probabilities(list(places))  # (distinct texts, classes)
        found[name] = scored[np.fromiter((places[text] for text in texts), np.intp, len(texts))]
    return found
