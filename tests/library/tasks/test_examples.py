"""Labelled rows of a dataset, as a training reads them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.errors import ConfigError, DatasetError
from modelmill.tasks.examples import choose_label, read_labelled, split_places


def dataset(folder: Path, rows: list[tuple[str, str | None, str]]) -> DatasetRef:
    texts, labels, splits = zip(*rows, strict=True)
    table = pa.table(
        {
            "id": [f"{n:02d}" for n in range(len(rows))],
            "text": list(texts),
            "topic": pa.array(labels, pa.string()),
            "split": list(splits),
        }
    )
    write_deltalake(str(folder), table)
    return DatasetRef(uri=str(folder), version=0, key="id", text="text", labels=("topic",), split="split")


def test_classes_are_the_sorted_labels_of_the_train_split(tmp_path: Path) -> None:
    rows = [("one", "b", "train"), ("two", "a", "train"), ("three", "b", "validation"), ("x", "z", "test")]
    found = read_labelled(dataset(tmp_path, rows), label=None)
    assert (found.label, found.classes) == ("topic", ("a", "b"))
    assert (found.train.places.tolist(), found.train.targets.tolist()) == ([0, 1], [1, 0])
    assert (found.validation.places.tolist(), found.validation.targets.tolist()) == ([2], [1])


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    rows = [("one", "b", "train"), ("two", None, "train"), ("three", "a", "train")]
    found = read_labelled(dataset(tmp_path, rows), label="topic")
    assert found.train.places.tolist() == [0, 2]
    assert len(found.validation) == 0


def test_places_are_in_the_order_of_the_keys_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    keys, splits = ["d", "b", "a", "c"], ["train", None, "test", "train"]
    table = {"id": keys, "text": keys, "topic": [4, 2, 1, 3], "split": splits}
    write_deltalake(str(tmp_path), pa.table(table))
    data = DatasetRef(uri=str(tmp_path), version=0, key="id", text="text", labels=("topic",), split="split")
    assert split_places(data, "train").tolist() == [2, 3]
    assert split_places(data, "test").tolist() == [0]
    assert split_places(data, "validation").tolist() == []
    found = read_labelled(data, label=None)
    assert (found.classes, found.train.targets.tolist()) == (("3", "4"), [0, 1])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array([True, False, None]), ("False", "True")),
        (pa.array([10, 9, None]), ("10", "9")),
        (pa.array(["b", "a", None]), ("a", "b")),
    ],
)
def test_labels_of_any_type_of_class_are_classes_by_their_python_names(
    tmp_path: Path, labels: pa.Array, classes: tuple[str, ...]
) -> None:
    keys = ["a", "b", "c"]
    write_deltalake(str(tmp_path), pa.table({"id": keys, "text": keys, "n": labels, "split": ["train"] * 3}))
    data = DatasetRef(uri=str(tmp_path), version=0, key="id", text="text", labels=("n",), split="split")
    found = read_labelled(data, label="n")
    assert found.classes == classes
    assert [found.classes[target] for target in found.train.targets] == [
        str(labels[n].as_py()) for n in (0, 1)
    ]


@pytest.mark.parametrize(
    ("labels", "target", "classes", "targets"),
    [
        (pa.array([1.0, 0.5, None]), "number", (), [1.0, 0.5]),
        (pa.array([["x"], ["y", "x"], None]), "classes", ("x", "y"), [[1, 0], [1, 1]]),
    ],
)
def test_numbers_and_lists_have_tasks_of_their_own(
    tmp_path: Path, labels: pa.Array, target: str, classes: tuple[str, ...], targets: list[object]
) -> None:
    keys = ["a", "b", "c"]
    write_deltalake(str(tmp_path), pa.table({"id": keys, "text": keys, "n": labels, "split": ["train"] * 3}))
    data = DatasetRef(uri=str(tmp_path), version=0, key="id", text="text", labels=("n",), split="split")
    found = read_labelled(data, label="n")
    assert (found.target, found.classes, found.train.targets.tolist()) == (target, classes, targets)


def test_a_dataset_of_images_has_no_texts() -> None:
    data = DatasetRef(
        uri="/d", version=0, key="k", text=None, image="photo", labels=("topic",), split="split"
    )
    with pytest.raises(ConfigError, match="the dataset has none; got '/d@0'; name a text column"):
        data.text_column  # noqa: B018 (asking for it is what fails)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("one", "a", "test")], "the train split must have labelled rows; got '{place}@0'; see the "),
        (
            [("one", "a", "train"), ("two", "b", "test")],
            "label column 'topic' must have at least two classes in the train split; got 'a'; add rows of ",
        ),
        (
            [("one", "a", "train"), ("two", "b", "train"), ("three", "c", "validation")],
            "a class of 'topic' outside the train split must also stand in it; unknown: 'c'; add train rows",
        ),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    tmp_path: Path, rows: list[tuple[str, str | None, str]], message: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        read_labelled(dataset(tmp_path, rows), label=None)
    assert str(caught.value).startswith(message.format(place=tmp_path))


def test_the_label_must_be_one_of_the_dataset() -> None:
    data = DatasetRef(uri="/x", version=0, key="id", text="t", labels=("spam", "topic"), split="split")
    assert choose_label(data, "spam") == "spam"
    with pytest.raises(
        ConfigError, match=r"label must name one of the dataset's label columns: spam, topic;"
    ):
        choose_label(data, None)
    with pytest.raises(ConfigError, match=r"got 'topik'; did you mean 'topic'\?"):
        choose_label(data, "topik")
