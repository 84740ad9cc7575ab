"""The models that answer at one moment. They never change: a swap puts other ones in their place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelmill.models.predictions import answers_of_many
from modelmill.models.signal_scorer import SignalScorer
from modelmill.tokens.contents import CONTENTS, Content

Answers = list[tuple[Any, float]]
"""Prediction and score of each row."""


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
        """Score a few rows: a model's first rows are slow, and its memory is allocated for the longest one.

        :param names: the signals that are new.
        """
        infos = self.scorer.infos
        for kind, content in CONTENTS.items():
            own = [name for name in names if infos[name].content == kind]
            if own:
                longest = max(infos[name].max_tokens for name in own)
                self.scorer.logits(content.examples(longest), own)

    def answer(self, contents: Sequence[Content], names: Collection[str]) -> dict[str, Answers]:
        """Return the answers of some signals; each trunk runs once.

        :param contents: any number of texts, or of the files of images; equal ones are scored once.
        :param names: the signals, which read them.
        :return: by signal, in their order.
        """
        places = {one: place for place, one in enumerate(dict.fromkeys(contents))}
        logits = self.scorer.logits(list(places), names)
        distinct = answers_of_many(self.scorer.infos, logits)
        rows = [places[one] for one in contents]
        return {name: [(distinct[name][0][row], distinct[name][1][row]) for row in rows] for name in names}


@dataclass(frozen=True)
class ActiveVersions:
    """The loaded models of a service, by role."""

    champions: LoadedVersions = field(default_factory=lambda: LoadedVersions({}))
    challengers: LoadedVersions = field(default_factory=lambda: LoadedVersions({}))
    """Versions that are scored beside the champions, without delaying the answers."""
