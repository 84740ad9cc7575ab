"""What a model has to beat: a linear model of words or characters, whichever does better on validation rows.

Words suit scripts with spaces between them, characters those without (Chinese, Japanese, Thai); L. Zhang and
others find so for Chinese and English, *Which Encoding is the Best for Text Classification in Chinese,
English, Japanese and Korean?* (2017, arXiv 1708.02657).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelmill.tasks.character_counts import CharacterCounts

MAJORITY = "majority class"
TFIDF = "TF-IDF"
LINEAR_SVM = "linear SVM"
MEAN = "mean"
RIDGE = "ridge regression"
TFIDF_SVM, TFIDF_RIDGE = f"{TFIDF} + {LINEAR_SVM}", f"{TFIDF} + {RIDGE}"
"""What the baselines of texts are called, but for what is counted."""

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
_MOST_CHARACTERS = (1_000_000, 10_000_000)
"""Characters that features are counted in, for the choice and for the baseline: longer texts are cut.

Counting takes most of the time. On Reuters-21578 R8 (3,300,000 characters) the choice in all of them took ten
times the CPU of the baseline itself, and its answer was the same.
"""
_RESAMPLES = 100
_SURE = 0.84
"""Share of resamples of the validation rows in which characters must beat words: one standard error.

On a tie, words are cheaper to count in all rows. On a few hundred validation rows the better of two equally
good ones is a matter of chance.
"""


@dataclass(frozen=True)
class _Features:
    """What is counted in a text."""

    name: str
    analyzer: Literal["word", "char"]
    sizes: tuple[int, int]

    def counted(self, texts: Sequence[str], new_texts: Sequence[str]) -> tuple[Any, Any] | None:
        """Return TF-IDF features of texts to learn the vocabulary from and of others; None without any."""
        # In a large collection the words that occur once are most of them, and of no use.
        rarest = 2 if len(texts) >= _LARGE else 1
        vectorizer = self._vectorizer(rarest)
        try:
            counts, new_counts = vectorizer.fit_transform(texts), vectorizer.transform(new_texts)
        except ValueError:  # an empty vocabulary
            return None
        from sklearn.feature_extraction.text import TfidfTransformer

        weights = TfidfTransformer(sublinear_tf=True)
        return weights.fit_transform(counts), weights.transform(new_counts)

    def _vectorizer(self, rarest: int) -> Any:
        if self.analyzer == "char":
            return CharacterCounts(self.sizes, rarest)
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(ngram_range=self.sizes, min_df=rarest)


_WORDS = _Features("words", "word", (1, 2))
_CHARACTERS = (
    _Features("characters 1 to 3", "char", (1, 3)),
    _Features("characters 2 to 5", "char", (2, 5)),
)
_WEAKER = (0.3,)
"""Strengths that are tried beside 1 where characters are chosen."""


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
    """Return what does best on validation rows, and its strength; words unless others surely do better."""
    rows = np.arange(len(texts))
    held = rows >= len(rows) - validation if validation >= _FEWEST_ROWS else rows % _HELD_OUT == 1
    parts = [_spread(rows[chosen], most) for chosen, most in zip((~held, held), _MOST_ROWS, strict=True)]
    if len(parts[1]) < _FEWEST_ROWS:
        return (_WORDS if _WORDS.counted(texts, texts[:1]) else _CHARACTERS[0]), 1.0
    columns = truth if truth.ndim == 1 else truth[:, np.argsort(-truth.sum(0), kind="stable")[:_MOST_CLASSES]]
    short = _cut([texts[row] for part in parts for row in part], _MOST_CHARACTERS[0])
    train, other = short[: len(parts[0])], short[len(parts[0]) :]
    known, wanted = columns[parts[0]], columns[parts[1]]
    counted = {one: found for one in (_WORDS, *_CHARACTERS) if (found := one.counted(train, other))}
    if not counted:
        return _WORDS, 1.0
    answers = {one: fit(found[0], known, found[1], 1.0) for one, found in counted.items()}
    best = max(answers, key=lambda one: score(wanted, answers[one]))
    if best is _WORDS or (_WORDS in answers and not _beats(answers[best], answers[_WORDS], wanted, score)):
        return _WORDS, 1.0
    # Other strengths are tried for the best features alone: fits take the rest of the time.
    found, of = counted[best], {1.0: score(wanted, answers[best])}
    of |= {one: score(wanted, fit(found[0], known, found[1], one)) for one in _WEAKER}
    return best, max(of, key=lambda strength: of[strength])


def _beats(answers: _Truth, other: _Truth, truth: _Truth, score: Callable[[_Truth, _Truth], float]) -> bool:
    """Return whether answers are better than others by more than chance, on the same rows."""
    random, count = np.random.default_rng(0), len(truth)
    samples = [random.integers(0, count, count) for _ in range(_RESAMPLES)]
    better = [score(truth[rows], answers[rows]) > score(truth[rows], other[rows]) for rows in samples]
    return bool(np.mean(better) >= _SURE)


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
