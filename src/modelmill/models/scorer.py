"""What every loaded model bundle can do, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from modelmill.models.bundle import BundleInfo
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.contents import Content, Reader
from modelmill.tokens.images import IMAGES_AT_ONCE
from modelmill.tokens.token_ids import Tokens


class Scorer(ABC):
    """A loaded model bundle.

    :param info: what the bundle says of itself.
    :param reader: makes rows of texts or images.
    """

    def __init__(self, info: BundleInfo, reader: Reader) -> None:
        self.info = info
        self._reader = reader

    @abstractmethod
    def score(self, tokens: Tokens) -> FloatArray:
        """Return the score of each class before the softmax.

        :param tokens: any number of rows, as the bundle's reader makes them of contents.
        :return: ``(rows, classes)``, in the order of the rows.
        """

    def logits(self, contents: Sequence[Content]) -> FloatArray:
        """Return the score of each class before the softmax.

        :param contents: any number of texts, or of the files of images; an empty list included.
        :return: ``(rows, classes)``, in their order.
        """
        if self.info.content == "text" or len(contents) <= IMAGES_AT_ONCE:
            return self.score(self._reader.encode(contents))
        starts = range(0, len(contents), IMAGES_AT_ONCE)
        parts = (contents[start : start + IMAGES_AT_ONCE] for start in starts)
        return np.concatenate([self.score(self._reader.encode(part)) for part in parts])

    def probabilities(self, contents: Sequence[Content]) -> FloatArray:
        """Return a probability for each class, calibrated where the bundle says how.

        :param contents: any number of texts, or of the files of images.
        :return: ``(rows, classes)``; each row sums to 1 where it has one class. Numbers come as they are,
            ``(rows, 1)``.
        """
        return self.info.probabilities(self.logits(contents))

    def predict(self, contents: Sequence[Content]) -> list[str]:
        """Return the class of the highest logit; the first of equals."""
        return [self.info.classes[index] for index in self.logits(contents).argmax(axis=1)]
