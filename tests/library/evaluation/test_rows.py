"""The rows that models are judged on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelmill.artifacts import DatasetRef
from modelmill.errors import ConfigError, DatasetError, ModelError, TableError
from modelmill.evaluation.rows import judged_label, judged_rows, labelled_rows
from modelmill.models.bundle import BundleInfo
from modelmill.tasks.baselines import MAJORITY, TFIDF_SVM

ROWS = [
    ("goal", "sport", "test"),
    ("team bank bank", "trade", "test"),
    ("nothing of note", None, "test"),
    ("bank", "sport", "test"),
    ("goal goal", "sport", "train"),
]


@pytest.fixture
def dataset(make_dataset: Callable[..., DatasetRef]) -> DatasetRef:
    return make_dataset(ROWS)


def info(label: str) -> BundleInfo:
    return BundleInfo(format="onnx", label=label, classes=("a", "b"), text="body", max_tokens=8, parameters=1)


def test_a_split_has_its_labelled_rows(dataset: DatasetRef) -> None:
    found = labelled_rows(dataset, "test", "topic")
    assert found.texts == ["goal", "team bank bank", "bank"]
    assert found.values == ["sport", "trade", "sport"]
    assert found.labelled.tolist() == [True, True, False, True]
    assert labelled_rows(dataset, "validation", "topic").texts == []
    with pytest.raises(TableError, match="did you mean 'topic'"):
        labelled_rows(dataset, "test", "topics")


def test_the_label_is_the_one_that_the_models_learned(dataset: DatasetRef) -> None:
    both = dataset.model_copy(update={"labels": ("mood", "topic")})
    assert judged_label(both, [info("topic"), info("topic")]) == "topic"
    assert judged_label(both, [info("subject")], "topic") == "topic"
    with pytest.raises(ModelError, match="same label; got 'mood, topic'"):
        judged_label(both, [info("topic"), info("mood")])
    with pytest.raises(ConfigError, match="did you mean 'topic'"):
        judged_label(both, [info("topic")], "topics")
    with pytest.raises(ModelError, match=r"got 'subject'; add config: \{label: topic\}"):
        judged_label(dataset, [info("subject")])


def test_validation_rows_are_learned_from_and_test_rows_are_not(
    make_dataset: Callable[..., DatasetRef],
) -> None:
    rows = [("goal", "sport", "train"), ("bank", "trade", "train")]
    rows += [("yacht", "sport", "validation")] * 3 + [("bond", "sport", "test")] * 9 + [("x", None, "train")]
    rows += [("yacht", "sport", "test"), ("bank", "trade", "test")]
    dataset = make_dataset(rows)
    found = judged_rows(dataset, "topic", [info("topic")]).baselines(dataset)
    answers = {name: given[-2:].tolist() for name, given in found.items()}
    assert answers == {MAJORITY: ["sport", "sport"], f"{TFIDF_SVM} (words)": ["sport", "trade"]}


def test_a_dataset_with_nothing_to_fit_on_is_refused(make_dataset: Callable[..., DatasetRef]) -> None:
    dataset = make_dataset([("goal", "sport", "test")])
    rows = judged_rows(dataset, "topic", [info("topic")])
    with pytest.raises(DatasetError, match="baselines: false"):
        rows.baselines(dataset)
