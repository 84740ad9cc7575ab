"""What a model has to beat: a linear model of words or characters, whichever does better on validation rows.

Words suit scripts with spaces between them, characters those without (Chinese, Japanese, Thai); L. Zhang and
others find so for Chinese and English, *Which Encoding is the Best for Text Classification in Chinese,
English, Japanese and Korean?* (2017, arXiv 1708.02657).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

MAJORITY = "majority class"
TFIDF_SVM = "TF-IDF + linear SVM"
MEAN = "mean"
TFIDF_RIDGE = "TF-IDF + ridge regression"

_Truth = npt.NDArray[Any]
Fit = Callable[[Any, _Truth, Any, float], _Truth]
"""Fits features to labels and answers other features; the number is the strength C, more is less regular."""

_LARGE = 1000
"""From this many rows on, words that occur in a single row are left out."""
_FEWEST_ROWS = 20
"""Validation rows that a choice needs; with fewer, every fifth row is held out."""
_HELD_OUT = 5
_MOST_ROWS = (5000, 2000)
"""Rows that the choice is fitted to and measured on."""
_MOST_CLASSES = 8
"""Classes that a choice for sets of classes looks at: the most frequent ones."""
_MOST_CHARACTERS = (4_000_000, 10_000_000)
"""Characters that features are counted in, for the choice and for the baseline: longer texts are cut."""


@dataclass(frozen=True)
class _Features:
    """What is counted in a text."""

    name: str
    analyzer: Literal["word", "char"]
    sizes: tuple[int, int]
    strengths: tuple[float, ...]

    def counted(self, texts: Sequence[str], new_texts: Sequence[str]) -> tuple[Any, Any] | None:
        """Return TF-IDF features of texts to learn the vocabulary from and of others; None without any."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        # In a large collection the words that occur once are most of them, and of no use.
        rarest = 2 if len(texts) >= _LARGE else 1
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, analyzer=self.analyzer, ngram_range=self.sizes, min_df=rarest
        )
        try:
            features = vectorizer.fit_transform(texts)
        except ValueError:  # an empty vocabulary
            return None
        return features, vectorizer.transform(new_texts)


_WORDS = _Features("words", "word", (1, 2), (1.0,))
_CHARACTERS = (
    _Features("characters 1 to 3", "char", (1, 3), (1.0, 0.3)),
    _Features("characters 2 to 5", "char", (2, 5), (1.0, 0.3)),
)


def linear_baseline(
    texts: Sequence[str],
    truth: _Truth,
    new_texts: Sequence[str],
    *,
    validation: int,
    fit: Fit,
    score: Callable[[_Truth, _Truth], float],
) -> tuple[str, _Truth] | None:
    """Choose words or characters, fit a linear model of their TF-IDF to all rows, and answer other texts.

    :param texts: texts to fit on; at least one.
    :param truth: their labels, ``(rows,)`` or ``(rows, classes)``.
    :param new_texts: texts to answer.
    :param validation: so many of the texts, the last ones, are validation rows.
    :param fit: the linear model.
    :param score: from labels and answers how good these are.
    :return: name of the features and the answers; None if no text has any feature.
    """
    features, strength = _choose(texts, truth, validation, fit, score)
    if features is not _WORDS:
        texts, new_texts = _cut(texts, _MOST_CHARACTERS[1]), _cut(new_texts, _MOST_CHARACTERS[1])
    counted = features.counted(texts, new_texts)
    if counted is None:
        return None
    return features.name, fit(counted[0], truth, counted[1], strength)


def _choose(
    texts: Sequence[str],
    truth: _Truth,
    validation: int,
    fit: Fit,
    score: Callable[[_Truth, _Truth], float],
) -> tuple[_Features, float]:
    """Return the features and the strength that do best on validation rows; words if none does better."""
    rows = np.arange(len(texts))
    held = rows >= len(rows) - validation if validation >= _FEWEST_ROWS else rows % _HELD_OUT == 1
    parts = [_spread(rows[chosen], most) for chosen, most in zip((~held, held), _MOST_ROWS, strict=True)]
    if len(parts[1]) < _FEWEST_ROWS:
        return (_WORDS if _WORDS.counted(texts, texts[:1]) else _CHARACTERS[0]), 1.0
    columns = truth if truth.ndim == 1 else truth[:, np.argsort(-truth.sum(0), kind="stable")[:_MOST_CLASSES]]
    short = _cut([texts[row] for part in parts for row in part], _MOST_CHARACTERS[0])
    train, other = short[: len(parts[0])], short[len(parts[0]) :]

    def scores() -> Iterator[tuple[float, _Features, float]]:
        for features in (_WORDS, *_CHARACTERS):
            counted = features.counted(train, other)
            if counted is None:
                continue
            for strength in features.strengths:
                answers = fit(counted[0], columns[parts[0]], counted[1], strength)
                yield score(columns[parts[1]], answers), features, strength

    best = max(scores(), key=lambda found: found[0], default=(0.0, _WORDS, 1.0))
    return best[1:]


def _spread(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _cut(texts: Sequence[str], most: int) -> list[str]:
    """Return the texts cut to one length, the largest at which they have no more characters together."""
    lengths = np.sort(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    # Cut to lengths[i]: the shorter ones stay whole.
    total = np.cumsum(lengths) + lengths * np.arange(len(lengths) - 1, -1, -1)
    fitting = int(np.searchsorted(total, most, side="right"))
    if fitting == len(lengths):
        return list(texts)
    whole = int(lengths[:fitting].sum())
    limit = max(1, (most - whole) // (len(lengths) - fitting))
    return [text[:limit] for text in texts]
