"""What a model has to beat: the majority class, and TF-IDF with a linear support vector machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from modelmill.artifacts import DatasetRef
from modelmill.errors import DatasetError
from modelmill.evaluation.rows import split_rows

MAJORITY = "majority class"
TFIDF_SVM = "TF-IDF + linear SVM"

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


def _tfidf_svm(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]
) -> list[str] | None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    # Words and pairs of words. In a large collection those that occur once are most of them, and of no use.
    rarest = 2 if len(train_texts) >= _LARGE else 1
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=rarest)
    try:
        features = vectorizer.fit_transform(train_texts)
    except ValueError:  # an empty vocabulary
        return None
    model = LinearSVC(random_state=0).fit(features, list(train_labels))
    return [str(name) for name in model.predict(vectorizer.transform(test_texts))]
