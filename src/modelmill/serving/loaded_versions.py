"""The models that answer at one moment. They never change: a swap puts other ones in their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelmill.models.predictions import answers_of_many
from modelmill.models.signal_scorer import SignalScorer

Answers = list[tuple[Any, float]]
"""Prediction and score of each text."""


@dataclass(frozen=True)
class ServedVersion:
    """One version of a registered model, fetched and verified."""

    name: str
    version: int
    digest: str
    """SHA-256 over its files."""
    folder: Path
    """Its bundle."""


class LoadedVersions:
    """Versions of models that are loaded together, one for each signal.

    :param models: by registered model.
    :param reuse: models that are loaded already; those of them that stay the same are not loaded again.
    :raises ModelError: if one cannot be loaded.
    """

    def __init__(self, models: Mapping[str, ServedVersion], *, reuse: LoadedVersions | None = None) -> None:
        self.models = dict(models)
        bundles = {name: served.folder for name, served in models.items()}
        # One thread: batches run side by side, not the parts of one.
        self.scorer: SignalScorer = SignalScorer(bundles, threads=1, reuse=reuse.scorer if reuse else None)
        self.passes = self.scorer.passes

    def warm_up(self, names: Collection[str]) -> None:
        """Score a few texts: a model's first texts are slow, and its memory is allocated for the longest one.

        :param names: the signals that are new.
        """
        longest = max((self.scorer.infos[name].max_tokens for name in names), default=0)
        self.scorer.logits(["", "warm", "warm " * longest], names)

    def answer(self, texts: Sequence[str], names: Collection[str]) -> dict[str, Answers]:
        """Return the answers of some signals; each trunk runs once.

        :param texts: any number of texts; equal ones are scored once.
        :param names: the signals.
        :return: by signal, in the order of the texts.
        """
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        logits = self.scorer.logits(list(places), names)
        distinct = answers_of_many(self.scorer.infos, logits)
        rows = [places[text] for text in texts]
        return {name: [(distinct[name][0][row], distinct[name][1][row]) for row in rows] for name in names}


@dataclass(frozen=True)
class ActiveVersions:
    """The loaded models of a service, by role."""

    champions: LoadedVersions = field(default_factory=lambda: LoadedVersions({}))
    challengers: LoadedVersions = field(default_factory=lambda: LoadedVersions({}))
    """Versions that are scored beside the champions, without delaying the answers."""
