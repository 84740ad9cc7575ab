"""The steps that label rows and check labels, as a pipeline runs them: MLflow, reuse, refusals, real rows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import ConfigError, DatasetError, ExpressionError, InputError, TableError
from modelmill.pipeline.request import StepResult
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow

Step = Callable[..., StepResult]


def runs(settings: Settings) -> list[Any]:
    client = tracking_client(settings.tracking_uri)
    return list(client.search_runs([item.experiment_id for item in client.search_experiments()]))


def artifacts(settings: Settings, run: Any) -> set[str]:
    return {item.path for item in tracking_client(settings.tracking_uri).list_artifacts(run.info.run_id)}


@pytest.fixture
def news(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> TableRef:
    rows = [
        {"id": number, "body": text, "topic": topic if number % 4 == 0 else None, "parts": [number]}
        for number, (text, topic) in enumerate(topic_rows(200))
    ]
    write_deltalake(str(tmp_path / "news"), pa.Table.from_pylist(rows))
    return TableRef(uri=str(tmp_path / "news"), version=0)


FUNCTIONS = {
    "game": {"when": "contains(body, 'match') OR contains(body, 'goal')", "label": "sport"},
    "team": {"when": "body RLIKE '\\b(team|coach|score)\\b'", "label": "sport"},
    "money": {"when": "contains(body, 'bank') OR contains(body, 'loan')", "label": "trade"},
    "stock": {"when": "body RLIKE '\\b(share|profit|price)\\b'", "label": "trade"},
}


def test_a_table_is_labelled_logged_and_reused(step: Step, settings: Settings, news: TableRef) -> None:
    config = {"functions": FUNCTIONS, "label": "topic", "gold": "topic"}
    result = step("label_rows", config, table=news)
    place = settings.home / "labels/news/label_rows"
    assert result.outputs["table"] == TableRef(uri=str(place), version=0)
    assert result.outputs["disagreements"] == TableRef(uri=f"{place}_disagreements", version=0)
    labelled = read_arrow(result.outputs["table"])  # type: ignore[arg-type]
    assert labelled.num_rows == 200
    assert labelled.column("topic").null_count < 40
    (run,) = runs(settings)
    assert artifacts(settings, run) == {"labels.json", "labelling_functions.png"}
    metrics = run.data.metrics
    assert (
        metrics["rows"] == metrics["rows_gold"] + metrics["rows_by_rule"] + metrics["rows_unlabelled"] == 200
    )
    assert metrics["gold_accuracy.majority_vote"] == 1.0
    assert metrics["rows_for_review"] == 0
    assert step("label_rows", config, table=news).reused
    built = step("build_dataset", {"text": "body", "labels": ["topic"]}, table=result.outputs["table"])
    assert isinstance(built.outputs["dataset"], DatasetRef)


def test_signals_of_a_language_model_are_labels_of_one_dataset_and_votes_of_rules(
    step: Step, news: TableRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"sport": ["goal", "match", "team"], "trade": ["bank", "share"], "new": ["new"], "old": ["said"]}
    config = {
        "columns": ["body"],
        "signals": {
            "topic": {"labels": {"sport": "", "trade": ""}, "gold": "topic"},
            "age": {"labels": {"new": "", "old": ""}},
        },
        "asking": {"model": "stub-2026-11-01"},
        "budget": {"tokens": 10_000_000},
    }
    with LanguageModelStub(Behaviour(words=words)) as stub:
        monkeypatch.setenv("MODELMILL_LLM_URL", stub.url)
        labelled = step("label_by_llm", config, table=news)
        assert stub.bill.billed <= 250  # 200 rows, of which 50 with a label by hand in two orders
    found = read_arrow(labelled.outputs["table"])  # type: ignore[arg-type]
    assert found.column("age").null_count > 0
    assert step("label_by_llm", config, table=news).reused
    functions = {
        "model": {"when": "topic_answer = 'sport'", "label": "sport"},
        "money": {"when": "topic_answer = 'trade'", "label": "trade"},
    }
    voted = step("label_rows", {"label": "vote", "functions": functions}, table=labelled.outputs["table"])
    votes = read_arrow(voted.outputs["table"])  # type: ignore[arg-type]
    assert votes.column("vote").to_pylist() == votes.column("topic_answer").to_pylist()
    built = step("build_dataset", {"text": "body", "labels": ["topic", "age"]}, table=voted.outputs["table"])
    rows = read_arrow(built.outputs["dataset"])  # type: ignore[arg-type]
    assert set(rows.column("topic").to_pylist()) >= {"sport", "trade"}
    assert set(rows.column("age").to_pylist()) == {"new", "old", None}


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"gold": "topics"}, TableError, "did you mean 'topic'"),
        ({"gold": "parts"}, TableError, "the gold column has simple values"),
        ({"label": "topic"}, ConfigError, "must not be in the table"),
        ({"label": "Topic"}, ConfigError, "must not be in the table"),
        (
            {"functions": {**FUNCTIONS, "bad": {"when": "bdy = 1 AND lowr(body) = 'x'", "label": "sport"}}},
            ExpressionError,
            "labelling functions: 2 problems: 1:1: bad: a column must exist; got 'bdy'; did you mean 'body'",
        ),
        ({"functions": {"one": FUNCTIONS["game"]}}, ConfigError, "two labels or more"),
        ({"class_balance": {"sport": 1.0}}, ConfigError, "gives each label a share above 0: sport, trade"),
        ({"class_balance": {"sport": 0.9, "trade": 0.9}}, ConfigError, "add up to 1, not 1.8"),
    ],
)
def test_a_wrong_configuration_is_refused_and_leaves_nothing(
    step: Step, settings: Settings, news: TableRef, change: dict[str, Any], kind: type[InputError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        step("label_rows", {"functions": FUNCTIONS, **change}, table=news)
    assert said in str(caught.value)
    assert runs(settings) == []
    assert not (settings.home / "labels").exists()


def test_the_log_shows_where_an_expression_is_wrong(
    step: Step, news: TableRef, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"when": "contains(body, 'x') AND lenght(body) > 3", "label": "sport"}
    with pytest.raises(ExpressionError):
        step("label_rows", {"functions": {**FUNCTIONS, "bad": bad}}, table=news)
    assert f"    {bad['when']}\n{' ' * 28}^\n" in capsys.readouterr().out


def test_a_table_is_not_labelled_over_itself(step: Step, news: TableRef) -> None:
    with pytest.raises(ConfigError, match="not written over its source"):
        step("label_rows", {"functions": FUNCTIONS, "to": news.uri}, table=news)


@pytest.fixture
def flipped(tmp_path: Path) -> tuple[DatasetRef, set[str]]:
    """A dataset of four topics, 5 % of whose 800 train labels are wrong, and the keys of those."""
    random = Random(3)
    topics = {name: [f"{name}{number}" for number in range(12)] for name in ("ball", "bank", "boat", "farm")}
    common = [f"word{number}" for number in range(40)]
    rows = []
    wrong = set()
    for number in range(1000):
        topic = random.choice(sorted(topics))
        words = random.choices(topics[topic], k=3) + random.choices(common, k=8)
        split = "train" if number < 800 else "test"
        label = topic
        if split == "train" and number % 20 == 0:
            label = random.choice([name for name in sorted(topics) if name != topic])
            wrong.add(f"{number:04d}")
        rows.append({"key": f"{number:04d}", "body": " ".join(words), "topic": label, "split": split})
    rows[1]["topic"] = "rare"
    write_deltalake(str(tmp_path / "flipped"), pa.Table.from_pylist(Random(4).sample(rows, len(rows))))
    uri = str(tmp_path / "flipped")
    return DatasetRef(uri=uri, version=0, key="key", text="body", labels=("topic",), split="split"), wrong


def test_flipped_labels_are_found(
    step: Step, settings: Settings, flipped: tuple[DatasetRef, set[str]]
) -> None:
    dataset, wrong = flipped
    result = step("rank_label_errors", {}, dataset=dataset)
    table = result.outputs["table"]
    assert table == TableRef(uri=str(settings.home / "label_errors/news/rank_label_errors"), version=0)
    rows = read_arrow(table).to_pylist()  # type: ignore[arg-type]
    top = {row["key"] for row in rows[: len(wrong)]}
    found = len(top & wrong) / len(wrong)  # precision and recall of the top k, k being what was planted
    assert len(wrong) == 40
    assert found >= 0.9
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["label_probability"] < row["suggested_probability"] for row in rows[:20])
    assert all(row["suggested_label"] in row["body"] for row in rows[:20])
    (run,) = runs(settings)
    assert (run.data.metrics["rows"], run.data.metrics["rows_judged"]) == (800, 799)
    assert step("rank_label_errors", {}, dataset=dataset).reused
    few = step("rank_label_errors", {"rows": 7}, dataset=dataset).outputs["table"]
    assert read_arrow(few).to_pylist() == rows[:7]  # type: ignore[arg-type]


def test_what_cannot_be_judged_is_refused(
    step: Step, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"k": str(n), "t": "! ?", "y": "ab"[n % 2], "z": "c", "split": "train"} for n in range(20)]
    write_deltalake(str(tmp_path / "d"), pa.Table.from_pylist(rows))
    uri = str(tmp_path / "d")
    dataset = DatasetRef(uri=uri, version=0, key="k", text="t", labels=("y", "z"), split="split")
    cases: list[tuple[dict[str, Any], type[InputError], str]] = [
        ({}, ConfigError, "label must name one of the dataset's label columns"),
        ({"label": "y"}, DatasetError, "words of two letters"),
        ({"label": "z"}, DatasetError, "two labels must have 5 rows or more"),
        ({"label": "y", "folds": 11}, DatasetError, "0 rows of such labels"),
        ({"label": "y", "split": "test"}, DatasetError, "0 rows of such labels"),
        ({"label": "y", "to": uri}, ConfigError, "not written over its source"),
    ]
    for config, kind, said in cases:
        with pytest.raises(kind, match=said):
            step("rank_label_errors", config, dataset=dataset)
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(ConfigError, match=r"pip install 'modelmill\[labels\]'"):
        step("rank_label_errors", {"label": "y"}, dataset=dataset)
    assert runs(settings) == []
