"""Answers of models to a split: aligned with its rows, and scored once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError, TableError
from modelmill.evaluation.rows import cached_answers, cached_logits, judged_label, split_rows
from modelmill.models.bundle import BundleInfo

WORDS = {"goal": "sport", "team": "sport", "bank": "trade"}
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
    assert split_rows(dataset, "test", "topic") == (
        ["goal", "team bank bank", "bank"],
        ["sport", "trade", "sport"],
    )
    assert split_rows(dataset, "validation", "topic") == ([], [])
    with pytest.raises(TableError, match="did you mean 'topic'"):
        split_rows(dataset, "test", "topics")


def test_logits_are_aligned_with_the_rows(dataset: DatasetRef, make_model, spoken: StepContext) -> None:
    model = make_model(WORDS)
    logits = cached_logits(model, dataset, "test", spoken)
    assert logits.tolist() == [[1, 0], [1, 2], [0, 1]]
    assert cached_answers(model, dataset, "test", spoken, label="topic") == ["sport", "trade", "trade"]
    assert cached_logits(model, dataset, "validation", spoken).shape == (0, 2)


def test_rows_are_scored_once(
    dataset: DatasetRef, make_model, spoken: StepContext, log_lines: list[str]
) -> None:
    model = make_model(WORDS)
    first = cached_logits(model, dataset, "test", spoken)
    assert [line for line in log_lines if "scoring" in line] == ["teacher: scoring 4 rows"]
    said = len(log_lines)
    assert (cached_logits(model, dataset, "test", spoken) == first).all()
    assert len(log_lines) == said
    (kept,) = (spoken.cache / "logits").glob("[!.]*")
    changed = np.load(kept) + 1
    np.save(kept, changed)
    assert (cached_logits(model, dataset, "test", spoken) == first + 1).all(), "not read from the cache"


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01", b"\x80\x04K\x01."], ids=["empty", "cut", "pickle"]
)
def test_a_damaged_file_is_made_again(
    dataset: DatasetRef, make_model, spoken: StepContext, content: bytes
) -> None:
    model = make_model(WORDS)
    first = cached_logits(model, dataset, "test", spoken)
    (kept,) = (spoken.cache / "logits").glob("[!.]*")
    kept.write_bytes(content)
    assert (cached_logits(model, dataset, "test", spoken) == first).all()


def test_other_models_splits_and_versions_are_scored_again(
    dataset: DatasetRef, make_model, spoken: StepContext, log_lines: list[str]
) -> None:
    from deltalake import write_deltalake

    from modelmill.tables.reading import read_arrow

    model, other = make_model(WORDS), make_model({"goal": "trade"}, role="student")
    write_deltalake(dataset.uri, read_arrow(dataset), mode="overwrite")
    newer = dataset.model_copy(update={"version": 1})
    cached_logits(model, dataset, "test", spoken)
    cached_logits(other, dataset, "test", spoken)
    cached_logits(model, dataset, "train", spoken)
    cached_logits(model, newer, "test", spoken)
    assert [line for line in log_lines if "scoring" in line] == [
        "teacher: scoring 4 rows",
        "student: scoring 4 rows",
        "teacher: scoring 1 rows",
        "teacher: scoring 4 rows",
    ]


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


def test_a_second_process_waits_for_the_first(
    dataset: DatasetRef, make_model, spoken: StepContext, tmp_path: Path
) -> None:
    import fcntl
    import threading

    model = make_model(WORDS)
    first = cached_logits(model, dataset, "test", spoken)
    (lock,) = (spoken.cache / "logits").glob(".*.lock")
    found: list[np.ndarray] = []
    thread = threading.Thread(
        target=lambda: found.append(cached_logits(model, dataset, "test", spoken)), daemon=True
    )
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.5)
        assert not found
    thread.join(10)
    assert (found[0] == first).all()
