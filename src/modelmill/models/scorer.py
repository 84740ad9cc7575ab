"""What every loaded model bundle can do, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelmill.models.bundle import BundleInfo
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Scorer(ABC):
    """A loaded model bundle.

    :param info: what the bundle says of itself.
    :param tokenizer: see :func:`load_tokenizer`.
    """

    def __init__(self, info: BundleInfo, tokenizer: Tokenizer) -> None:
        self.info = info
        self._tokenizer = tokenizer

    @abstractmethod
    def score(self, tokens: Tokens) -> FloatArray:
        """Return the score of each class before the softmax.

        :param tokens: any number of rows, as the bundle's tokenizer makes them of texts.
        :return: ``(rows, classes)``, in the order of the rows.
        """

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return the score of each class before the softmax.

        :param texts: any number of texts, an empty list included.
        :return: ``(rows, classes)``, in the order of the texts.
        """
        return self.score(encode(self._tokenizer, texts))

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Return a probability for each class, calibrated where the bundle says how.

        :param texts: any number of texts.
        :return: ``(rows, classes)``; each row sums to 1 where it has one class. Numbers come as they are,
            ``(rows, 1)``.
        """
        return self.info.probabilities(self.logits(texts))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the class of the highest logit; the first of equals."""
        return [self.info.classes[index] for index in self.logits(texts).argmax(axis=1)]
