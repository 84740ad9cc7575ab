"""What a model has to beat: what every baseline of the tasks shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAJORITY = "majority class"
TFIDF_SVM = "TF-IDF + linear SVM"
MEAN = "mean"
TFIDF_RIDGE = "TF-IDF + ridge regression"

_LARGE = 1000
"""From this many rows on, words that occur in a single row are left out."""


def tfidf(texts: Sequence[str], new_texts: Sequence[str]) -> tuple[Any, Any] | None:
    """Return TF-IDF features of words and pairs of words.

    :param texts: texts to learn the vocabulary from; at least one.
    :param new_texts: other texts.
    :return: features of both, sparse; None if no text has a word of two letters.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    # In a large collection the words that occur once are most of them, and of no use.
    rarest = 2 if len(texts) >= _LARGE else 1
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=rarest)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # an empty vocabulary
        return None
    return features, vectorizer.transform(new_texts)
