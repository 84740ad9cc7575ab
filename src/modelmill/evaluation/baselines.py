"""What a model has to beat: the majority class, and TF-IDF with a linear support vector machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.errors import DatasetError
from modelmill.evaluation.rows import split_rows

MAJORITY = "majority class"
TFIDF_SVM = "TF-IDF + linear SVM"
MEAN = "mean"
TFIDF_RIDGE = "TF-IDF + ridge regression"

_HALF = 0.5

_LARGE = 1000
"""Rows from which on words that occur in a single row are left out."""


def dataset_baselines(dataset: DatasetRef, *, label: str, texts: Sequence[str]) -> dict[str, list[str]]:
    """Fit the baselines on a dataset's train and validation rows, and answer other texts.

    :param dataset: the dataset.
    :param label: label column.
    :param texts: what to answer: the test split's texts.
    :return: see :func:`baseline_predictions`.
    :raises DatasetError: if there are no labelled train or validation rows.
    """
    parts = [split_rows(dataset, split, label) for split in ("train", "validation")]
    known_texts = [text for part_texts, _ in parts for text in part_texts]
    known_labels = [name for _, part_labels in parts for name in part_labels]
    if not known_labels:
        raise DatasetError(
            "baselines need labelled train or validation rows",
            got=str(dataset),
            remedy="change the dataset's split, or set baselines: false",
        )
    return baseline_predictions(known_texts, known_labels, texts)


def baseline_predictions(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]
) -> dict[str, list[str]]:
    """Fit the baselines and answer texts.

    :param train_texts: texts to fit on; at least one.
    :param train_labels: their classes.
    :param test_texts: texts to answer.
    :return: the answers by name of the baseline; :data:`TFIDF_SVM` is missing where it cannot be fitted: with
        one class only, or texts without a word of two letters.
    """
    counts = Counter(train_labels)
    majority = min(counts, key=lambda name: (-counts[name], name))
    found = {MAJORITY: [majority] * len(test_texts)}
    words = _tfidf_svm(train_texts, train_labels, test_texts) if len(counts) > 1 and test_texts else None
    return found if words is None else {**found, TFIDF_SVM: words}


def set_baselines(
    train_texts: Sequence[str], train: npt.NDArray[np.float64], test_texts: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Fit the baselines of sets of classes, each class by itself, and answer texts.

    :param train_texts: texts to fit on; at least one.
    :param train: 1 for each of their classes, ``(rows, classes)``.
    :param test_texts: texts to answer.
    :return: the answers by name of the baseline, ``(texts, classes)``.
    """
    from sklearn.svm import LinearSVC

    majority = np.tile((train.mean(0) > _HALF).astype(np.float64), (len(test_texts), 1))
    found = {MAJORITY: majority}
    features = _tfidf(train_texts, test_texts)
    if features is not None:
        answers = majority.copy()
        for number, column in enumerate(train.T):
            if 0 < column.sum() < len(column):
                model = LinearSVC(random_state=0).fit(features[0], column)
                answers[:, number] = model.predict(features[1])
        found[TFIDF_SVM] = answers
    return found


def number_baselines(
    train_texts: Sequence[str], train: npt.NDArray[np.float64], test_texts: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Fit the baselines of numbers, and answer texts.

    :param train_texts: texts to fit on; at least one.
    :param train: their numbers, ``(rows, 1)``.
    :param test_texts: texts to answer.
    :return: the answers by name of the baseline, ``(texts, 1)``.
    """
    from sklearn.linear_model import Ridge

    found = {MEAN: np.full((len(test_texts), 1), train.mean())}
    features = _tfidf(train_texts, test_texts)
    if features is not None:
        model = Ridge(random_state=0).fit(features[0], train[:, 0])
        found[TFIDF_RIDGE] = model.predict(features[1])[:, None]
    return found


def _tfidf_svm(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]
) -> list[str] | None:
    from sklearn.svm import LinearSVC

    features = _tfidf(train_texts, test_texts)
    if features is None:
        return None
    model = LinearSVC(random_state=0).fit(features[0], list(train_labels))
    return [str(name) for name in model.predict(features[1])]


def _tfidf(train_texts: Sequence[str], test_texts: Sequence[str]) -> tuple[Any, Any] | None:
    """Return the features of train and test texts; None if there is no word of two letters."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Words and pairs of words. In a large collection those that occur once are most of them, and of no use.
    rarest = 2 if len(train_texts) >= _LARGE else 1
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=rarest)
    try:
        features = vectorizer.fit_transform(train_texts)
    except ValueError:  # an empty vocabulary
        return None
    return features, vectorizer.transform(test_texts)
