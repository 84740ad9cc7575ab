"""Logits of models for a split: aligned with its rows, and computed once."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.evaluation import logits
from modelmill.evaluation.logits import Logits
from modelmill.models.bundle import BundleInfo
from modelmill.system.digests import seal

WORDS = {"goal": "sport", "team": "sport", "bank": "trade"}
ROWS = [
    ("goal", "sport", "test"),
    ("team bank bank", "trade", "test"),
    ("nothing of note", None, "test"),
    ("bank", "sport", "test"),
    ("goal goal", "sport", "train"),
]


def cached_logits(model: ModelRef, dataset: DatasetRef, split: str, context: StepContext) -> Logits:
    """Return the logits of a model that ``make_model`` has made."""
    folder = context.cache / "models" / model.digest
    return logits.cached_logits(model, folder, dataset, split, context)


@pytest.fixture
def dataset(make_dataset: Callable[..., DatasetRef]) -> DatasetRef:
    return make_dataset(ROWS)


def test_logits_are_aligned_with_the_rows(dataset: DatasetRef, make_model, spoken: StepContext) -> None:
    model = make_model(WORDS)
    assert cached_logits(model, dataset, "test", spoken).tolist() == [[1, 0], [1, 2], [0, 0], [0, 1]]
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
    seal(kept)
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


def test_no_flipped_bit_of_kept_logits_goes_unseen(
    dataset: DatasetRef, make_model, spoken: StepContext
) -> None:
    model = make_model(WORDS)
    first = cached_logits(model, dataset, "test", spoken)
    (kept,) = (spoken.cache / "logits").glob("[!.]*")
    content = kept.read_bytes()
    for position in range(0, len(content), max(1, len(content) // 6)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        kept.write_bytes(flipped)
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


def test_another_decoder_of_images_is_another_key(
    dataset: DatasetRef, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of the same file may change with the library that decodes it, and logits with them."""
    text = BundleInfo.load(make_bundle("words"))
    image, photos = text.model_copy(update={"content": "image"}), dataset.model_copy(update={"image": "text"})
    before = [logits._rows_digest(photos, "test", info) for info in (text, image)]
    versions = {"pillow": "99.0"}
    found = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or found(name))
    after = [logits._rows_digest(photos, "test", info) for info in (text, image)]
    assert after[0] == before[0]  # a text has no decoder
    assert after[1] != before[1]
