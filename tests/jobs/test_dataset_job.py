"""The dataset job on the embedded engine: every row ends in one state, and splits do not leak."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.report import DatasetReport
from modelmill.datasets.request import BuildDatasetRequest, BuildDatasetResult
from modelmill.errors import DatasetError
from modelmill.tables.reading import read_arrow
from modelmill_jobs import build_dataset

Row = dict[str, Any]
SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("topic", pa.string()), ("part", pa.string())]
)
BY_COLUMN = BuildOptions.model_validate(
    {"key": "id", "text": "text", "labels": ["topic"], "split": {"column": "part", "validation": 0}}
)
BASE: list[Row] = [
    {"id": "a1", "text": "alpha", "topic": "x", "part": "train"},
    {"id": "a2", "text": "beta", "topic": "y", "part": "train"},
    {"id": "a3", "text": "gamma", "topic": "x", "part": "test"},
    {"id": "a4", "text": "delta", "topic": "y", "part": "test"},
]


class Built:
    """The result of the job, read back."""

    def __init__(self, result: BuildDatasetResult) -> None:
        self.report = DatasetReport.of(result.build).model_dump()
        self.ref = result.dataset
        self.table = read_arrow(self.ref)
        self.rows = {row["example_key"]: row for row in self.table.to_pylist()}
        refused = read_arrow(result.quarantine).to_pylist()
        self.reasons = sorted((row["id"], row["quarantine_reason"]) for row in refused)
        self.refused = refused


class Builder:
    """Writes rows to a table and makes a dataset of it."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self.spark, self.folder = spark, folder

    def __call__(
        self,
        rows: list[Row],
        options: BuildOptions = BY_COLUMN,
        *,
        schema: pa.Schema = SCHEMA,
        to: str = "dataset",
        key: str = "k",
    ) -> Built:
        source = self.folder / "source"
        write_deltalake(str(source), pa.Table.from_pylist(rows, schema=schema), mode="overwrite")
        version = DeltaTable(str(source)).version()
        request = BuildDatasetRequest(
            table=TableRef(uri=str(source), version=version),
            options=options,
            to=str(self.folder / to),
            transaction=key,
        )
        return Built(build_dataset.main(request, self.spark))


@pytest.fixture
def build(sail: Any, tmp_path: Path) -> Builder:
    return Builder(sail, tmp_path)


def many(count: int, **more: Any) -> list[Row]:
    return [
        {"id": f"m{number:04d}", "text": f"text {number}", "topic": "xy"[number % 2], "part": None, **more}
        for number in range(count)
    ]


def test_columns_and_order(build: Builder) -> None:
    built = build(list(reversed(BASE)))
    assert built.table.column_names == ["example_key", "text", "topic", "split"]
    assert built.table["example_key"].to_pylist() == ["a1", "a2", "a3", "a4"]
    assert built.report["splits"] == {"train": 2, "validation": 0, "test": 2}
    assert built.report["classes"] == {"topic": {"x": {"test": 1, "train": 1}, "y": {"test": 1, "train": 1}}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": None}, "text is empty"),
        ({"text": " \t\n\u00a0\u2003\ufeff"}, "text is empty"),
        ({"text": "\u200f\u202e \u2060\u00ad"}, "text is empty"),
        ({"topic": None}, "no label"),
        ({"topic": "  "}, "no label"),
        ({"id": None}, "key is null"),
        ({"part": None}, "split is null"),
    ],
)
def test_rows_that_cannot_be_used_are_quarantined_as_they_were(build: Builder, row: Row, reason: str) -> None:
    bad = {"id": "bad", "text": "bad text", "topic": "x", "part": "train", **row}
    built = build([*BASE, bad])
    assert built.refused == [{**bad, "quarantine_reason": reason}]
    assert built.report["reasons"] == {reason: 1}
    assert (built.report["rows_in"], built.report["rows_out"]) == (5, 4)


def test_a_shared_key_is_quarantined_and_a_copy_of_a_row_is_dropped(build: Builder) -> None:
    built = build(
        [
            *BASE,
            {"id": "same", "text": "one", "topic": "x", "part": "train"},
            {"id": "same", "text": "two", "topic": "x", "part": "train"},
            BASE[0],
            BASE[2],
        ]
    )
    assert built.reasons == [("same", "key is not unique")] * 2
    assert built.report["duplicates"] == 2
    assert sorted(built.rows) == ["a1", "a2", "a3", "a4"]


def test_equal_texts_in_train_and_validation_stand_once(build: Builder) -> None:
    rows = [
        *BASE,
        {"id": "b1", "text": "echo", "topic": "x", "part": "train"},
        {"id": "b2", "text": "echo", "topic": "x", "part": "Dev"},
        {"id": "b3", "text": "alpha", "topic": "x", "part": "training"},
    ]
    built = build(rows)
    assert sorted(built.rows) == ["a1", "a2", "a3", "a4", "b2"]
    assert built.rows["b2"]["split"] == "validation"
    assert built.report["duplicates"] == 2


def test_equal_texts_with_other_labels_are_quarantined(build: Builder) -> None:
    rows = [
        *BASE,
        {"id": "c1", "text": "clash", "topic": "x", "part": "train"},
        {"id": "c2", "text": "clash", "topic": "y", "part": "validation"},
    ]
    built = build(rows)
    reason = "conflicting labels: topic is 'x' and 'y'"
    assert built.reasons == [("c1", reason), ("c2", reason)]
    assert built.report["reasons"] == {"conflicting labels": 2}


def test_the_shipped_test_split_is_kept_whole_and_its_texts_leave_train(build: Builder) -> None:
    rows = [
        *BASE,
        {"id": "t1", "text": "gamma", "topic": "y", "part": "test"},
        {"id": "l1", "text": "gamma", "topic": "x", "part": "train"},
        {"id": "l2", "text": "delta", "topic": "x", "part": "validation"},
    ]
    built = build(rows)
    tests = {key for key, row in built.rows.items() if row["split"] == "test"}
    assert tests == {"a3", "a4", "t1"}
    assert built.rows["t1"]["topic"] == "y"
    assert sorted(built.rows) == ["a1", "a2", "a3", "a4", "t1"]
    assert (built.report["leaks"], built.report["quarantined"]) == (2, 0)


def test_labels_of_copies_complete_each_other(build: Builder) -> None:
    schema = pa.schema([*SCHEMA, ("tone", pa.int64())])
    options = BuildOptions.model_validate(
        {**BY_COLUMN.model_dump(), "labels": ["topic", "tone"], "keep": ["part", "text"]}
    )
    rows = [{**row, "tone": number % 2} for number, row in enumerate(BASE)]
    rows += [
        {"id": "d1", "text": "twice", "topic": "x", "tone": None, "part": "train"},
        {"id": "d2", "text": "twice", "topic": None, "tone": 1, "part": "train"},
        {"id": "d3", "text": "half", "topic": None, "tone": 0, "part": "train"},
    ]
    built = build(rows, options, schema=schema)
    assert built.table.column_names == ["example_key", "text", "topic", "tone", "split", "part"]
    assert (built.rows["d1"]["topic"], built.rows["d1"]["tone"]) == ("x", "1")
    assert (built.rows["d3"]["topic"], built.rows["d3"]["tone"]) == (None, "0")
    assert "d2" not in built.rows


def test_without_a_key_the_text_is_the_key(build: Builder) -> None:
    options = BuildOptions.model_validate({**BY_COLUMN.model_dump(), "key": None})
    rows = [
        *BASE,
        {"id": "e1", "text": "alpha", "topic": "x", "part": "train"},
        {"id": "e2", "text": "gamma", "topic": "x", "part": "test"},
    ]
    built = build(rows, options)
    digest = hashlib.sha256(b"gamma").hexdigest()
    tests = sorted(key for key, row in built.rows.items() if row["text"] == "gamma")
    assert tests == [digest, f"{digest}-2"]
    assert len(built.rows) == 5


def by_hash(**split: Any) -> BuildOptions:
    return BuildOptions.model_validate(
        {"key": "id", "text": "text", "labels": ["topic"], "split": split, "keep": ["part"]}
    )


def test_the_hash_splits_by_share_and_a_row_keeps_its_split_when_others_come(build: Builder) -> None:
    built = build(many(1000), by_hash(validation=0.1, test=0.2))
    assert built.report["splits"]["test"] == pytest.approx(200, abs=40)
    assert built.report["splits"]["validation"] == pytest.approx(80, abs=27)
    later = build(many(1500), by_hash(validation=0.1, test=0.2), key="later")
    assert all(later.rows[key]["split"] == row["split"] for key, row in built.rows.items())


def test_groups_stay_together(build: Builder) -> None:
    rows = [{**row, "part": f"g{number // 10}"} for number, row in enumerate(many(300))]
    built = build(rows, by_hash(group="part", validation=0.2, test=0.3))
    groups: dict[str, set[str]] = {}
    for row in built.rows.values():
        groups.setdefault(row["part"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in groups.values())
    assert set.union(*groups.values()) == {"train", "validation", "test"}


def test_validation_is_carved_from_train_only_where_none_is_shipped(build: Builder) -> None:
    options = BuildOptions.model_validate(
        {**BY_COLUMN.model_dump(), "split": {"column": "part", "validation": 0.2}}
    )
    built = build([*BASE[2:], *many(500, part="train")], options)
    assert built.report["splits"]["validation"] == pytest.approx(100, abs=30)
    assert built.report["splits"]["test"] == 2
    shipped = [{**BASE[0], "id": "v", "text": "shipped", "part": "val"}]
    built = build([*BASE[2:], *many(500, part="train"), *shipped], options, key="shipped")
    assert built.report["splits"] == {"train": 500, "validation": 1, "test": 2}


def test_a_class_that_the_hash_takes_out_of_train_is_quarantined(build: Builder) -> None:
    built = build(many(200), by_hash(validation=0, test=0.3))
    away = next(key for key, row in built.rows.items() if row["split"] == "test")
    rows = [{**row, "topic": "rare"} if row["id"] == away else row for row in many(200)]
    again = build(rows, by_hash(validation=0, test=0.3), key="again")
    # Moved to train it would come back to test as soon as the class has another row: a split never changes.
    assert again.reasons == [(away, "class has no train rows")]
    assert {key: row["split"] for key, row in again.rows.items()} == {
        key: row["split"] for key, row in built.rows.items() if key != away
    }
    assert again.report["rows_in"] == 200 == again.report["rows_out"] + again.report["quarantined"]


def test_a_class_whose_train_rows_would_all_validate_stays_in_train(build: Builder) -> None:
    split = {"column": "part", "validation": 0.3}
    options = BuildOptions.model_validate({**BY_COLUMN.model_dump(), "split": split})
    rows = [{**row, "part": "test" if number < 20 else "train"} for number, row in enumerate(many(200))]
    built = build(rows, options)
    away = next(key for key, row in built.rows.items() if row["split"] == "validation")
    rows = [{**row, "topic": "rare"} if row["id"] == away else row for row in rows]
    again = build(rows, options, key="again")
    moved = [key for key, row in again.rows.items() if row["split"] != built.rows[key]["split"]]
    assert (moved, again.rows[away]["split"]) == ([away], "train")


def test_the_same_input_gives_the_same_content_and_a_retry_no_version(build: Builder) -> None:
    first = build(many(3000), by_hash())
    again = build(many(3000), by_hash())
    assert again.ref == first.ref
    assert again.report == first.report
    other = build(list(reversed(many(3000))), by_hash(), to="other")
    assert other.report["content_hash"] == first.report["content_hash"]
    assert other.table == first.table
    changed = build([{**many(1)[0], "topic": "y"}, *many(3000)[1:]], by_hash(), to="changed")
    assert changed.report["content_hash"] != first.report["content_hash"]
    renewed = build(many(10), by_hash(), key="another")
    assert (renewed.ref.version, renewed.table.num_rows) == (1, 10)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "the table must have rows"),
        ([{**row, "text": " "} for row in BASE], "must have texts; got '4 of 4 rows"),
        ([{**row, "topic": None} for row in BASE], "some rows must be usable"),
        ([{**row, "topic": "x"} for row in BASE], "must have two classes or more; got \"'x'\""),
        ([*BASE, {**BASE[2], "id": "n", "text": "new", "topic": "z"}], "must have train rows, or no model"),
        ([{**row, "part": "test"} for row in BASE], "the dataset must have train rows"),
        ([{**row, "part": "train"} for row in BASE], "the dataset must have test rows"),
        ([*BASE, {**BASE[0], "id": "h", "part": "holdout"}], "must say train, validation"),
    ],
)
def test_rows_that_nothing_can_be_learnt_from_are_refused(
    build: Builder, tmp_path: Path, rows: list[Row], said: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        build(rows)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
