"""Baselines learn what is there to learn, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from modelmill.tasks.baselines import MAJORITY, TFIDF_SVM
from modelmill.tasks.class_metrics import ACCURACY
from modelmill.tasks.single_label import SingleLabel


def baselines(texts: list[str], labels: list[str], new_texts: list[str]) -> dict[str, list[str]]:
    """Fit the baselines, and answer new texts."""
    truth = np.array(labels, dtype=object)
    return {name: list(found) for name, found in SingleLabel().baselines(texts, truth, new_texts).items()}


def test_words_give_the_topic_away(topic_rows: Callable[..., list[tuple[str, str]]]) -> None:
    train, test = topic_rows(60), topic_rows(40, seed=1)
    texts, labels = map(list, zip(*train, strict=True))
    labels[0] = labels[1]  # an odd one, so that the majority is clear
    found = baselines(texts, labels, [text for text, _ in test])
    assert found[MAJORITY] == ["trade"] * 40
    assert ACCURACY.of([topic for _, topic in test], found[TFIDF_SVM]) > 0.95


def test_a_tie_goes_to_the_first_name() -> None:
    found = baselines(["bb", "aa"], ["zebra", "ant"], ["cc"])
    assert found[MAJORITY] == ["ant"]


@pytest.mark.parametrize(
    ("texts", "labels"), [(["one", "two"], ["a", "a"]), (["!", "?"], ["a", "b"])], ids=["class", "words"]
)
def test_what_cannot_be_fitted_is_left_out(texts: list[str], labels: list[str]) -> None:
    assert baselines(texts, labels, ["one"]) == {MAJORITY: ["a"]}
