"""Baselines learn what is there to learn, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelmill.artifacts import DatasetRef
from modelmill.errors import DatasetError
from modelmill.evaluation.baselines import MAJORITY, TFIDF_SVM, baseline_predictions, dataset_baselines
from modelmill.evaluation.metrics import accuracy


def test_words_give_the_topic_away(topic_rows: Callable[..., list[tuple[str, str]]]) -> None:
    train, test = topic_rows(60), topic_rows(40, seed=1)
    texts, labels = map(list, zip(*train, strict=True))
    labels[0] = labels[1]  # an odd one, so that the majority is clear
    found = baseline_predictions(texts, labels, [text for text, _ in test])
    assert found[MAJORITY] == ["trade"] * 40
    assert accuracy([topic for _, topic in test], found[TFIDF_SVM]) > 0.95


def test_a_tie_goes_to_the_first_name() -> None:
    found = baseline_predictions(["bb", "aa"], ["zebra", "ant"], ["cc"])
    assert found[MAJORITY] == ["ant"]


@pytest.mark.parametrize(
    ("texts", "labels"), [(["one", "two"], ["a", "a"]), (["!", "?"], ["a", "b"])], ids=["class", "words"]
)
def test_what_cannot_be_fitted_is_left_out(texts: list[str], labels: list[str]) -> None:
    assert baseline_predictions(texts, labels, ["one"]) == {MAJORITY: ["a"]}


def test_validation_rows_are_learned_from_and_test_rows_are_not(
    make_dataset: Callable[..., DatasetRef],
) -> None:
    rows = [("goal", "sport", "train"), ("bank", "trade", "train")]
    rows += [("yacht", "sport", "validation")] * 3 + [("bond", "sport", "test")] * 9 + [("x", None, "train")]
    found = dataset_baselines(make_dataset(rows), label="topic", texts=["yacht", "bank"])
    assert found == {MAJORITY: ["sport", "sport"], TFIDF_SVM: ["sport", "trade"]}


def test_a_dataset_with_nothing_to_fit_on_is_refused(make_dataset: Callable[..., DatasetRef]) -> None:
    with pytest.raises(DatasetError, match="baselines: false"):
        dataset_baselines(make_dataset([("goal", "sport", "test")]), label="topic", texts=["goal"])
