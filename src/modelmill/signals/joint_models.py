"""Models in memory: one pass answers all that stand on one trunk, and equal inputs are read once.

A model reads token ids, or pixels. Two texts with the same ids have the same answer, so a row is looked
up by its ids: that covers equal texts and those that the tokenizer makes equal (case, white space, what lies
beyond the longest input), and no others.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.signals.pinned_models import PinnedModel
from modelmill.tokens.images import IMAGES_AT_ONCE

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer
    from modelmill.models.static import StaticStack
    from modelmill.tasks.calibration import FloatArray
    from modelmill.tokens.contents import Content
    from modelmill.tokens.token_ids import Tokens

_REMEMBERED = 65_536
"""Inputs whose answers are kept from chunk to chunk."""

_loading = threading.Lock()


class JointModels:
    """Bundles that one pass answers: heads on a trunk, static models with the same features, or one model.

    Loaded once for each process.

    :param bundles: folders of the bundles, by digest.
    """

    def __init__(self, bundles: Mapping[str, Path]) -> None:
        from modelmill.models.heads import load_head
        from modelmill.models.scorers import load_scorer
        from modelmill.models.static import StaticStack
        from modelmill.models.trunk import Trunk, TrunkHeads
        from modelmill.system.cpu import usable_cores
        from modelmill.tokens.contents import load_reader

        self.infos = {digest: BundleInfo.load(folder) for digest, folder in bundles.items()}
        first, folder = next(iter(bundles.items()))
        place = trunk_folder(folder, self.infos[first])
        self._reader = load_reader(place, max_tokens=BundleInfo.load(place).max_tokens)
        self._scorer: Scorer | StaticStack | None = None
        if len(bundles) > 1 and self.infos[first].format == "static":
            self._scorer = StaticStack([(bundles[digest], info) for digest, info in self.infos.items()])
        elif self.infos[first].trunk is None:
            self._scorer = load_scorer(folder)
        else:
            heads = {
                digest: (self.infos[digest], load_head(one, self.infos[digest]))
                for digest, one in bundles.items()
            }
            self._heads = TrunkHeads(Trunk(place, threads=usable_cores()), heads)
        ends = np.cumsum([info.outputs for info in self.infos.values()])
        self._columns = {
            name: slice(int(end) - info.outputs, int(end))
            for (name, info), end in zip(self.infos.items(), ends, strict=True)
        }
        self._known: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._lock = threading.Lock()
        self.rows_read = 0
        """Rows that a model has really read."""

    def logits(self, contents: Sequence[Content]) -> dict[str, FloatArray]:
        """Return what every bundle says of texts or images.

        :param contents: any number of what they read.
        :return: by the bundle's digest, ``(rows, outputs)`` each.
        """
        content = next(iter(self.infos.values())).content
        if content == "image" and len(contents) > IMAGES_AT_ONCE:
            starts = range(0, len(contents), IMAGES_AT_ONCE)
            parts = [self.logits(contents[start : start + IMAGES_AT_ONCE]) for start in starts]
            return {name: np.concatenate([part[name] for part in parts]) for name in self._columns}
        tokens = self._reader.encode(contents)
        keys = [
            hashlib.blake2b(tokens.raw(row).tobytes(), digest_size=16).digest() for row in range(len(tokens))
        ]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        fresh = {key: row for row, key in reversed(list(enumerate(keys))) if key not in known}
        if fresh:
            places = np.array(list(fresh.values()), np.int64)
            known |= dict(zip(fresh, self._read(tokens.take(places)), strict=True))
        self._remember(known)
        table = np.stack([known[key] for key in keys])  # (rows, outputs of all bundles)
        return {name: table[:, columns] for name, columns in self._columns.items()}

    def forget(self) -> None:
        """Forget what has been read: for measurements, in which a repeated text must not be free."""
        with self._lock:
            self._known.clear()

    def _read(self, tokens: Tokens) -> FloatArray:
        self.rows_read += len(tokens)
        if self._scorer is not None:
            found: FloatArray = self._scorer.score(tokens)
            return found
        scores = self._heads.score(tokens)
        return np.concatenate([scores[name] for name in self._columns], axis=1)

    def _remember(self, known: Mapping[bytes, FloatArray]) -> None:
        with self._lock:
            for key, values in known.items():
                self._known[key] = values
                self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


@functools.lru_cache(maxsize=64)
def _cached(bundles: tuple[tuple[str, Path], ...]) -> JointModels:
    return JointModels(dict(bundles))


def load_models(pins: Iterable[PinnedModel]) -> JointModels:
    """Load models that one pass answers, or return them if this process has done so before."""
    bundles = {pin.digest: pin.bundle() for pin in pins}
    with _loading:
        return _cached(tuple(bundles.items()))
