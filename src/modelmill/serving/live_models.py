"""The versions that answer at one moment. A lineup never changes: a swap puts another one in its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelmill.models.predictions import answers_of_many
from modelmill.models.signal_scorer import SignalScorer

Answers = list[tuple[str, float]]
"""Prediction and score of each text."""


@dataclass(frozen=True)
class Served:
    """One version of a registered model, fetched and verified."""

    name: str
    version: int
    digest: str
    """SHA-256 over its files."""
    folder: Path
    """Its bundle."""


class Team:
    """Versions that are loaded together, one for each signal.

    :param models: by registered model.
    :param reuse: what has been loaded already and need not be loaded again.
    :raises ModelError: if one cannot be loaded.
    """

    def __init__(self, models: Mapping[str, Served], *, reuse: Team | None = None) -> None:
        self.models = dict(models)
        bundles = {name: served.folder for name, served in models.items()}
        # One thread: the rows of a batch are what runs side by side.
        self.scorer: SignalScorer = SignalScorer(bundles, threads=1, reuse=reuse.scorer if reuse else None)
        self.passes = self.scorer.passes

    def warm_up(self, names: Collection[str]) -> None:
        """Answer a few texts: the first ones of a model are slow, and memory is laid out for the longest.

        :param names: the signals that are new.
        """
        longest = max((self.scorer.infos[name].max_tokens for name in names), default=0)
        self.scorer.logits(["", "warm", "warm " * longest], names)

    def answer(self, texts: Sequence[str], names: Collection[str]) -> dict[str, Answers]:
        """Return what some signals say; each trunk runs once.

        :param texts: any number of texts; one that comes twice is scored once.
        :param names: the signals.
        :return: by signal, in the order of the texts.
        """
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        logits = self.scorer.logits(list(places), names)
        distinct = answers_of_many(self.scorer.infos, logits)
        rows = [places[text] for text in texts]
        return {name: [(distinct[name][0][row], distinct[name][1][row]) for row in rows] for name in names}


@dataclass(frozen=True)
class Lineup:
    """Who answers which signal."""

    champions: Team = field(default_factory=lambda: Team({}))
    challengers: Team = field(default_factory=lambda: Team({}))
    """Versions that are scored beside the champions, off the way of the answers."""
