"""Splits by hash: no group crosses them, and no example ever changes its own, night after night."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.datasets.build_record import build_of
from modelmill.datasets.incremental import update
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.errors import DatasetError
from modelmill.tables.reading import read_arrow

NIGHTS = 6
WORDS = [f"word{number}" for number in range(400)]
SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("topic", pa.string()), ("team", pa.string())]
)
CONFIGS = {
    "key": {"key": "id", "split": {"validation": 0.2, "test": 0.3}},
    "content": {"split": {"validation": 0.2, "test": 0.3}},
    "group": {"key": "id", "split": {"group": "team", "validation": 0.2, "test": 0.3}},
}


def rows_of_night(random_: random.Random, night: int, count: int, known: list[dict[str, Any]]) -> pa.Table:
    """Fresh rows, copies and near copies of earlier ones, some in other groups or in none."""
    rows = []
    for number in range(count):
        words = random_.choices(WORDS, k=20)
        if known and random_.random() < 0.3:
            words = random_.choice(known)["text"].split()
            for _ in range(random_.randint(0, 2)):
                words[random_.randrange(20)] = random_.choice(WORDS)
        rows.append(
            {
                "id": f"k{1000 * night + number}",
                "text": " ".join(words),
                "topic": random_.choice("xy") if night or number > 40 else "xy"[number % 2],
                "team": random_.choice([None, *(f"t{team}" for team in range(40))]),
            }
        )
    known += rows
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.mark.parametrize("incremental", [True, False], ids=["incremental", "full"])
@pytest.mark.parametrize("by", CONFIGS)
def test_an_example_never_changes_its_split(
    make_dataset: Callable[..., Any], tmp_path: Path, by: str, *, incremental: bool
) -> None:
    config = {**CONFIGS[by], "text": "text", "labels": ["topic"], "keep": ["team", "id"]}
    checked = BuildOptions.model_validate(config)
    source, random_ = str(tmp_path / "source"), random.Random(11)
    known: list[dict[str, Any]] = []
    of_example: dict[str, str] = {}
    of_group: dict[str, str] = {}
    for night in range(NIGHTS):
        rows = rows_of_night(random_, night, 150 if night == 0 else 15, known)
        write_deltalake(source, rows, mode="append", configuration={"delta.enableChangeDataFeed": "true"})
        place = tmp_path / "dataset"
        if incremental and night:
            request = BuildDatasetRequest(
                table=TableRef(uri=source, version=DeltaTable(source).version()),
                options=checked,
                to=str(place),
                transaction=f"night-{night}",
            )
            version = update(request, log=print)
            assert version is not None
            assert build_of(str(place), version).mode == "incremental"
            table = read_arrow(TableRef(uri=str(place), version=version))
        else:
            table = make_dataset(source, config, transaction=f"night-{night}").dataset
        before = dict(of_example)
        for row in table.to_pylist():
            assert of_example.setdefault(row["example_key"], row["split"]) == row["split"]
            if by == "group" and row["team"] is not None:
                assert of_group.setdefault(row["team"], row["split"]) == row["split"]
        if by != "content":  # a key counts up, so of copies the example that was there first stays
            gone = set(before) - set(table["example_key"].to_pylist())
            conflicts = read_arrow(
                TableRef(uri=f"{place}_quarantine", version=DeltaTable(f"{place}_quarantine").version())
            )
            assert gone <= set(conflicts["id"].to_pylist())
    assert set(of_example.values()) == {"train", "validation", "test"}
    assert len(of_group) > 30 or by != "group"


def test_a_group_that_is_null_is_the_row_by_itself(make_dataset: Callable[..., Any]) -> None:
    rows = rows_of_night(random.Random(1), 0, 300, [])
    alone = rows.set_column(3, "team", pa.nulls(300, pa.string()))
    config = {**CONFIGS["group"], "text": "text", "labels": ["topic"]}
    by_key = make_dataset(alone, {**config, "split": CONFIGS["key"]["split"]}, to="by_key")
    assert make_dataset(alone, config, to="by_group").splits == by_key.splits


def test_too_few_groups_are_said_as_they_are(make_dataset: Callable[..., Any]) -> None:
    rows = rows_of_night(random.Random(1), 0, 300, [])
    rows = rows.set_column(3, "team", pa.array([f"g{number % 2}" for number in range(300)]))
    with pytest.raises(DatasetError, match="must have train rows") as caught:
        make_dataset(rows, {**CONFIGS["group"], "text": "text", "labels": ["topic"]})
    # The hash puts one group into each; their rows are not refused one by one, which would hide it.
    assert "0 train, 150 validation, 150 test" in str(caught.value)
