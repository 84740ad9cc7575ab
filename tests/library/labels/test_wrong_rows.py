"""The rows that a gate's report names are found in their dataset, whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.errors import DatasetError, shorten
from modelmill.labels.wrong_rows import WrongRow, wrong_rows


def test_they_are_found_whole(tmp_path: Path) -> None:
    texts = ["first\nline " + "long " * 100, "it's short", "right", "it's short, too"]
    rows = {
        "key": ["a", "b", "c", "d"],
        "text": texts,
        "topic": ["sport", "trade", "art", None],
        "split": ["test", "test", "train", "train"],
    }
    place = str(tmp_path / "dataset")
    write_deltalake(place, pa.table(rows))
    dataset = DatasetRef(uri=place, version=0, key="key", text="text", labels=("topic",), split="split")
    named = [WrongRow(shorten(text, limit=60), "sport", "trade") for text in (texts[1], texts[0], texts[3])]
    found, classes = wrong_rows(dataset, "topic", named, letters=60)
    # In the report's order; the last one is no test row.
    assert [row.key for row in found] == [texts[1], texts[0]]
    assert {(row.label, row.suggestion, row.why) for row in found} == {
        ("sport", "trade", "the model answers trade")
    }
    assert classes == ["art", "sport", "trade"]
    with pytest.raises(DatasetError, match="must have the rows of the report"):
        wrong_rows(dataset, "topic", [WrongRow("elsewhere", "a", "b")], letters=60)
