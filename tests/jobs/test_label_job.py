"""The labelling job: votes, labels, gold first, what a person should see; the same on every engine."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import DatasetError, ExpressionError
from modelmill.labels.labelling import LabelRowsRequest, LabelRowsResult
from modelmill.labels.options import LabellingOptions
from modelmill.tables.reading import read_arrow
from modelmill_jobs import label_rows

OPTIONS = LabellingOptions.model_validate(
    {
        "label": "topic",
        "gold": "hand",
        "functions": {
            "goal": {"when": "contains(text, 'goal')", "label": "sport"},
            "match": {"when": "text RLIKE '\\bmatch\\b' AND n >= 0", "label": "sport"},
            "bank": {"when": "text LIKE '%bank%'", "label": "trade"},
            "price": {
                "when": "CASE WHEN n > 100 THEN NULL ELSE contains(lower(text), 'price') END",
                "label": "trade",
            },
            "never": {"when": "text IS NULL AND n = 1", "label": "trade"},
        },
    }
)

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "goal in the match", "n": 1, "hand": None},
    {"id": 2, "text": "bank price", "n": 1, "hand": "trade"},
    {"id": 3, "text": "bank goal", "n": 1, "hand": None},  # a tie
    {"id": 4, "text": "goal match bank", "n": 1, "hand": None},  # a conflict that is settled
    {"id": 5, "text": "nothing", "n": 1, "hand": None},
    {"id": 6, "text": None, "n": None, "hand": None},
    {"id": 7, "text": "match", "n": None, "hand": "trade"},  # unknown, so no vote
    {"id": 8, "text": "match goal", "n": 1, "hand": "trade "},  # gold differs; blanks around it are no part
    {"id": 9, "text": "nothing", "n": 1, "hand": "weather"},  # gold that no function knows
    {"id": 10, "text": "price", "n": 1000, "hand": " \u00a0"},  # a blank is no label
    {"id": 11, "text": "PRICE", "n": 1, "hand": None},
    {"id": 12, "text": "goal bank", "n": 1, "hand": "weather"},  # the functions do not say otherwise
]


def label(
    spark: Any, folder: Path, options: LabellingOptions = OPTIONS, *, key: str = "k", version: int = 0
) -> LabelRowsResult:
    request = LabelRowsRequest(
        table=TableRef(uri=str(folder / "in"), version=version),
        options=options,
        to=str(folder / "out"),
        transaction=key,
    )
    return label_rows.main(request, spark)


def write(folder: Path, rows: list[dict[str, Any]], *, files: int = 1) -> None:
    table = pa.Table.from_pylist(rows)
    step = -(-len(rows) // files)
    for start in range(0, len(rows), step):
        write_deltalake(str(folder / "in"), table.slice(start, step), mode="append")


def tables(result: LabelRowsResult) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    labelled = read_arrow(result.table).sort_by("id").to_pylist()
    review = read_arrow(result.disagreements).to_pylist()
    return labelled, review


def test_rules_vote_gold_wins_and_silence_stays_silence(sail: Any, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    result = label(sail, tmp_path)
    labelled, _ = tables(result)
    assert [(row["id"], row["topic"], row["topic_source"], row["topic_probability"]) for row in labelled] == [
        (1, "sport", "rule", 1.0),
        (2, "trade", "gold", 1.0),
        (3, None, None, None),
        (4, "sport", "rule", pytest.approx(2 / 3)),
        (5, None, None, None),
        (6, None, None, None),
        (7, "trade", "gold", 1.0),
        (8, "trade", "gold", 1.0),
        (9, "weather", "gold", 1.0),
        (10, None, None, None),
        (11, "trade", "rule", 1.0),
        (12, "weather", "gold", 1.0),
    ]
    assert list(labelled[0]) == ["id", "text", "n", "hand", "topic", "topic_source", "topic_probability"]
    report = result.report.model_dump(mode="json")
    assert report["rows"] == 12
    assert (report["rows_gold"], report["rows_by_rule"], report["rows_unlabelled"]) == (5, 3, 4)
    assert report["labels"] == {"sport": 2, "trade": 4, "weather": 2}
    assert report["gold_without_functions"] == ["weather"]
    assert report["functions_without_gold"] == ["sport"]
    goal = report["functions"][0]
    assert (goal["coverage"], goal["overlaps"], goal["conflicts"]) == pytest.approx((5 / 12, 5 / 12, 3 / 12))
    assert (goal["gold_accuracy"]["value"], goal["gold_accuracy"]["rows"]) == (0.0, 2)
    assert report["functions"][4]["coverage"] == 0
    assert report["model"] == "majority_vote"


def test_what_a_person_should_see_comes_ranked_with_the_votes(sail: Any, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    result = label(sail, tmp_path)
    _, review = tables(result)
    assert [(row["id"], row["topic_reason"], row["topic_rank"]) for row in review] == [
        (8, "gold differs", 1),
        (3, "unsure", 2),
        (4, "conflict", 3),
    ]
    assert dict(review[2]["topic_votes"]) == {"goal": "sport", "match": "sport", "bank": "trade"}
    assert [row["topic_suggested"] for row in review] == ["sport"] * 3
    assert [row["topic_uncertainty"] for row in review] == pytest.approx([0, 1, 0.918296], abs=1e-6)
    assert result.report.review == {"conflict": 1, "gold differs": 1, "unsure": 1}
    few = label(sail, tmp_path, OPTIONS.model_copy(update={"review_rows": 2}), key="few")
    assert [row["id"] for row in tables(few)[1]] == [8, 3]
    none = label(sail, tmp_path, OPTIONS.model_copy(update={"review_rows": 0}), key="none")
    assert tables(none)[1] == []


def test_the_label_column_may_be_the_gold_column(sail: Any, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    options = OPTIONS.model_copy(update={"label": "hand", "threshold": 0.7})
    labelled, review = tables(label(sail, tmp_path, options))
    assert list(labelled[0]) == ["id", "text", "n", "hand", "hand_source", "hand_probability"]
    assert [row["hand"] for row in labelled] == [
        *["sport", "trade", None, None, None, None],
        *["trade", "trade", "weather", None, "trade", "weather"],
    ]
    assert [row["hand"] for row in review] == ["trade ", None, None]  # as the row has it
    assert [row["hand_reason"] for row in review] == ["gold differs", "unsure", "unsure"]


def planted(count: int) -> list[dict[str, Any]]:
    """Rows of three classes whose features f0 to f8 fire as functions of known accuracy."""
    random = Random(7)
    rows = []
    for number in range(count):
        truth = random.choices("abc", [0.5, 0.3, 0.2])[0]
        row: dict[str, Any] = {"id": number, "truth": truth, "hand": truth if number % 10 == 0 else None}
        for place, (own, other) in enumerate(RATES):
            row[f"f{place}"] = random.random() < (own if "abc"[place % 3] == truth else other)
        rows.append(row)
    return rows


RATES = [(0.7, 0.05), (0.7, 0.05), (0.7, 0.05), *[(0.45, 0.25)] * 6]
PLANTED = LabellingOptions.model_validate(
    {
        "gold": "hand",
        "functions": {f"f{place}": {"when": f"f{place}", "label": "abc"[place % 3]} for place in range(9)},
    }
)


def test_the_same_labels_whatever_the_partitions_and_the_order(sail: Any, tmp_path: Path) -> None:
    rows = planted(3000)
    shuffled = Random(1).sample(rows, len(rows))
    found = []
    for name, content, files in (("one", rows, 1), ("eight", rows, 8), ("shuffled", shuffled, 3)):
        write(tmp_path / name, content, files=files)
        version = DeltaTable(str(tmp_path / name / "in")).version()
        options = PLANTED.model_copy(update={"review_rows": 500})
        result = label(sail, tmp_path / name, options, version=version)
        found.append((*tables(result), {**result.report.model_dump(mode="json"), "source": ""}))
    assert found[0] == found[1]
    assert found[0] == found[2]
    report = found[0][2]
    # Three good functions among six weak ones: a majority vote cannot tell them apart.
    assert report["model"] == "weighted"
    assert report["difference"]["low"] > 0
    labelled = [row for row in found[0][0] if row["label_source"] == "rule"]
    right = sum(row["label"] == row["truth"] for row in labelled)
    assert right / len(labelled) > 0.8
    assert len(found[0][1]) == 500


def test_a_retry_writes_nothing_anew(sail: Any, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    first = label(sail, tmp_path)
    assert label(sail, tmp_path) == first
    assert label(sail, tmp_path, key="other").table.version == 1


def test_wrong_input_is_refused_and_nothing_is_written(sail: Any, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    silent = {
        "a": {"when": "text = 'never'", "label": "x"},
        "b": {"when": "n IS NULL AND n > 0", "label": "y"},
    }
    options = LabellingOptions.model_validate({"functions": silent})
    with pytest.raises(DatasetError, match="a labelling function must vote on a row"):
        label(sail, tmp_path, options)
    broken = {**silent, "b": {"when": "txt = 1", "label": "y"}}
    with pytest.raises(ExpressionError, match="b: a column must exist; got 'txt'; did you mean 'text'"):
        label(sail, tmp_path, LabellingOptions.model_validate({"functions": broken}))
    empty = pa.Table.from_pylist(ROWS).slice(0, 0)
    write_deltalake(str(tmp_path / "empty" / "in"), empty)
    with pytest.raises(DatasetError, match="must have rows"):
        label(sail, tmp_path / "empty")
    assert not (tmp_path / "out").exists()


@pytest.mark.jvm
def test_a_jvm_spark_makes_the_same_tables(sail: Any, jvm: Any, tmp_path: Path) -> None:
    for name in ("sail", "jvm"):
        write(tmp_path / name, ROWS)
        write(tmp_path / name / "planted", planted(500))
    for folder, options in (("", OPTIONS), ("planted", PLANTED)):
        embedded = label(sail, tmp_path / "sail" / folder, options)
        on_jvm = label(jvm, tmp_path / "jvm" / folder, options)
        assert tables(embedded) == tables(on_jvm)
        assert embedded.report.model_copy(update={"source": ""}) == on_jvm.report.model_copy(
            update={"source": ""}
        )
