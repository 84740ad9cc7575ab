"""The models of many signals as one: texts are tokenised once, and each trunk runs once for all its heads.

Bundles that share nothing go through the same interface, so that a rule set can mix both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.models.heads import load_head
from modelmill.models.scorer import Scorer
from modelmill.models.scorers import load_scorer
from modelmill.models.trunk import Trunk, TrunkHeads
from modelmill.system.cpu import usable_cores
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.contents import Content, load_reader, reader_digest


class SignalScorer:
    """The models of many signals, loaded together.

    :param bundles: the bundle of each signal, by a name of the caller's choice. A head's trunk lies beside
        it, as :func:`modelmill.registry.bundles.fetch_bundle` puts it.
    :param threads: rows that are scored at the same time; None: one per core that this process may use.
    :param reuse: another one, with the same number of threads; what both have need not be loaded again.
    :raises ModelError: if a bundle cannot be loaded.
    """

    def __init__(
        self,
        bundles: Mapping[str, Path],
        *,
        threads: int | None = None,
        reuse: SignalScorer | None = None,
    ) -> None:
        count = threads or usable_cores()
        self._bundles = dict(bundles)
        self.infos: dict[str, BundleInfo] = {name: BundleInfo.load(path) for name, path in bundles.items()}
        """What each signal's bundle says of itself, by name."""
        self._trunks: dict[str, TrunkHeads] = {}
        self._alone: dict[str, Scorer] = {}
        by_trunk: dict[str, list[str]] = {}
        for name, info in self.infos.items():
            if info.trunk is None:
                known = reuse._scorer_of(bundles[name]) if reuse else None  # noqa: SLF001 (its own class)
                self._alone[name] = known or load_scorer(bundles[name], threads=count)
            else:
                by_trunk.setdefault(info.trunk, []).append(name)
        for digest, names in by_trunk.items():
            before = reuse._trunks.get(digest) if reuse else None  # noqa: SLF001 (its own class)
            place = trunk_folder(bundles[names[0]], self.infos[names[0]])
            trunk = before.trunk if before else Trunk(place, threads=count)
            heads = {name: (self.infos[name], load_head(bundles[name], self.infos[name])) for name in names}
            self._trunks[digest] = TrunkHeads(trunk, heads)
        places = {name: trunk_folder(path, self.infos[name]) for name, path in bundles.items()}
        # What decides how contents become rows: signals with the same share them.
        self._readers = {
            name: (reader_digest(place), BundleInfo.load(place).max_tokens) for name, place in places.items()
        }
        self._encoders = {
            key: load_reader(places[name], max_tokens=key[1]) for name, key in self._readers.items()
        }

    def _scorer_of(self, folder: Path) -> Scorer | None:
        return next((self._alone[name] for name in self._alone if self._bundles[name] == folder), None)

    @property
    def passes(self) -> tuple[tuple[str, ...], ...]:
        """Names of the signals that one pass of a model answers together."""
        shared = [tuple(heads.infos) for heads in self._trunks.values()]
        return (*shared, *((name,) for name in self._alone))

    def logits(
        self, contents: Sequence[Content], signals: Collection[str] | None = None
    ) -> Mapping[str, FloatArray]:
        """Return what each signal says before calibration.

        :param contents: any number of texts, or of the files of images: what the signals read.
        :param signals: the signals that are wanted; None: all. Trunks that none of them needs do not run.
        :return: by name, in the order of the bundles, ``(rows, outputs)`` each.
        :raises ConfigError: if a signal is unknown.
        """
        wanted = list(self.infos if signals is None else signals)
        for name in wanted:
            if name not in self.infos:
                raise ConfigError("a signal must be one that is loaded", got=name, choices=self.infos)
        readers = {self._readers[name] for name in wanted}
        tokens = {key: self._encoders[key].encode(contents) for key in readers}
        found: dict[str, FloatArray] = {}
        for heads in self._trunks.values():
            names = [name for name in heads.infos if name in wanted]
            if names:
                found |= heads.score(tokens[self._readers[names[0]]], names)
        for name, scorer in self._alone.items():
            if name in wanted:
                found[name] = scorer.score(tokens[self._readers[name]])
        return {name: found[name] for name in self.infos if name in found}

    def scores(
        self, contents: Sequence[Content], signals: Collection[str] | None = None
    ) -> Mapping[str, FloatArray]:
        """Return what each signal says: calibrated probabilities, or numbers.

        :param contents: any number of texts, or of the files of images: what the signals read.
        :param signals: the signals that are wanted; None: all.
        :return: by name ``(rows, classes)``, a probability for each class; ``(rows, 1)`` for numbers.
        :raises ConfigError: if a signal is unknown.
        """
        found = self.logits(contents, signals)
        return {name: self.infos[name].probabilities(logits) for name, logits in found.items()}
