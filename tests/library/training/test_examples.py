"""Reading what there is to learn."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.errors import ConfigError, DatasetError
from modelmill.training.examples import choose_label, read_labelled, read_texts


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
    assert (found.train.texts, found.train.targets.tolist()) == (["one", "two"], [1, 0])
    assert (found.validation.texts, found.validation.targets.tolist()) == (["three"], [1])


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    rows = [("one", "b", "train"), ("two", None, "train"), ("three", "a", "train")]
    found = read_labelled(dataset(tmp_path, rows), label="topic")
    assert found.train.texts == ["one", "three"]
    assert len(found.validation) == 0


def test_texts_of_a_split_come_in_the_order_of_their_keys(tmp_path: Path) -> None:
    rows = [("one", "b", "train"), ("two", None, "validation"), ("three", "a", "validation")]
    data = dataset(tmp_path, rows)
    assert read_texts(data, split="validation") == ["two", "three"]
    assert read_texts(data, split="validation", limit=1) == ["two"]


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
