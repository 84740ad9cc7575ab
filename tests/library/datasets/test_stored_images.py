"""Images outside memory: the same ones, in the same order, as a table in memory has them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.datasets.stored_images import stored_images
from modelmill.evaluation.rows import labelled_rows
from modelmill.tables.reading import read_arrow


@pytest.fixture
def photos(tmp_path: Path) -> DatasetRef:
    """700 rows in three files, not in the order of their keys; some without a label or an image."""
    uri, chance = str(tmp_path / "photos"), random.Random(0)
    keys = [f"{number:04d}" for number in range(700)]
    chance.shuffle(keys)
    table = pa.table(
        {
            "id": keys,
            "photo": pa.array(
                [None if key.endswith("7") else chance.randbytes(chance.randrange(900)) for key in keys]
            ).cast(pa.binary()),
            "kind": [None if key.endswith("3") else key[-1] for key in keys],
            "split": [("train", "validation", "test")[chance.randrange(3)] for _ in keys],
        }
    )
    for start in (0, 100, 500):
        write_deltalake(uri, table.slice(start, 400 if start == 100 else 200)[: 700 - start], mode="append")
    labels = ("kind",)
    return DatasetRef(uri=uri, version=2, key="id", text=None, image="photo", labels=labels, split="split")


def test_they_are_what_the_table_has(photos: DatasetRef) -> None:
    table = read_arrow(photos)
    for split in ("train", "validation", "test", "none"):
        rows = table.filter(pc.equal(table.column("split"), split))
        expected = rows.column("photo").to_pylist()
        images = stored_images(photos, split)
        assert list(images) == expected
        assert images[2:5] == expected[2:5]
        kept = np.arange(len(expected)) % 3 == 1
        assert list(images.keep(kept)) == [one for one, stays in zip(expected, kept, strict=True) if stays]
        if expected:
            assert images[-1] == expected[-1]
        with pytest.raises(IndexError):
            images[len(expected)]


def test_labelled_rows_have_their_images(photos: DatasetRef) -> None:
    rows = labelled_rows(photos, "test", "kind", content="image")
    table = read_arrow(photos).filter(pc.is_valid(pc.field("kind")) & (pc.field("split") == "test"))
    assert list(rows.texts) == table.column("photo").to_pylist()
    assert rows.values == table.column("kind").to_pylist()
    kept = np.arange(len(rows.texts)) % 2 == 0
    assert list(rows.keep(kept).texts) == table.column("photo").to_pylist()[::2]
    both = stored_images(photos, "train") + stored_images(photos, "validation")
    every = [*stored_images(photos, "train"), *stored_images(photos, "validation")]
    assert list(both) == every
    last = len(stored_images(photos, "train")) + 3
    assert both[last] == every[last]


def test_nothing_is_left_behind(photos: DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    before = len([*Path("/proc/self/fd").iterdir()])
    images = stored_images(photos, "train")
    assert len(images) > 100
    assert len([*Path("/proc/self/fd").iterdir()]) == before + 1
    assert list(place.iterdir()) == []
    del images
    assert len([*Path("/proc/self/fd").iterdir()]) == before
