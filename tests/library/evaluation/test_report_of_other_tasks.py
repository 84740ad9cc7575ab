"""The report on models of sets of classes and of numbers."""

from __future__ import annotations

import json
from typing import Any

import mlflow
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError, ModelError
from modelmill.evaluation.results import EvaluationReport, Score
from modelmill.steps.evaluate import EvaluateConfig, EvaluateInputs, evaluate
from modelmill.tasks.baselines import MAJORITY, MEAN, TFIDF_RIDGE, TFIDF_SVM

CONFIG = EvaluateConfig(resamples=200, throughput_rows=32)


def run(
    config: EvaluateConfig, dataset: DatasetRef, models: tuple[ModelRef, ...], context: StepContext
) -> ReportRef:
    return evaluate.run(config, EvaluateInputs(dataset=dataset, models=models), context).report


@pytest.fixture
def dataset(topic_dataset: DatasetRef) -> DatasetRef:
    """Texts with a set of classes, some of them empty, and a number, some of them missing."""
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    words = [text.split() for text in table.column("body").to_pylist()]
    names = ("goal", "bank", "the")
    named = [[name for name in names if name in row] for row in words]
    counts = [None if n == 81 else float("nan") if n == 82 else 2.0 * len(row) for n, row in enumerate(words)]
    table = table.append_column("named", pa.array(named, pa.list_(pa.string())))
    table = table.append_column("words", pa.array(counts, pa.float64()))
    uri = f"{topic_dataset.uri}_kinds"
    write_deltalake(uri, table)
    return topic_dataset.model_copy(update={"uri": uri, "labels": ("topic", "named", "words")})


def content(uri: str) -> EvaluationReport:
    return EvaluationReport.from_json(json.loads(mlflow.artifacts.load_text(uri)))


def values(scores: tuple[Score, ...]) -> dict[str, float]:
    return {score.metric: score.value for score in scores}


def test_sets_of_classes(
    dataset: DatasetRef, make_model: Any, spoken: StepContext, log_lines: list[str]
) -> None:
    sets = {"label": "named", "target": "classes"}
    teacher = make_model(
        {"goal": "goal", "bank": "bank", "the": "the"}, classes=("bank", "goal", "the"), **sets
    )
    student = make_model({"the": "the"}, classes=("the",), role="student", **sets)
    reference = run(CONFIG, dataset, (teacher, student), spoken)
    report = content(reference.uri)
    assert (report.target, report.label, report.rows) == ("classes", "named", 20)
    first, second = report.models
    # The logit of a named class is 1, of others 0: named where it is above 0.
    assert values(first.scores) == {"micro_f1": 1, "macro_f1": 1, "exact": 1}
    assert (first.agreement, first.unknown_classes) == (1, ())
    assert second.unknown_classes == ("bank", "goal")
    assert 0 < second.agreement < 1
    assert values(second.scores)["macro_f1"] == pytest.approx(1 / 3)
    baselines = {baseline.name: values(baseline.scores) for baseline in report.baselines}
    (linear,) = baselines.keys() - {MAJORITY}
    assert linear.startswith(f"{TFIDF_SVM} (")
    assert baselines[linear]["micro_f1"] > baselines[MAJORITY]["micro_f1"]
    assert first.beats_baseline is (baselines[linear]["micro_f1"] < 1)
    metrics = spoken.run.client.get_run(spoken.run.run_id).data.metrics
    assert (metrics["micro_f1/teacher"], metrics["micro_f1_low/teacher"]) == (1, 1)
    assert log_lines[-2:] == [first.sentence, second.sentence]
    assert "times smaller and" in second.sentence


def test_numbers(dataset: DatasetRef, make_model: Any, spoken: StepContext) -> None:
    numbers: dict[str, Any] = {"label": "words", "target": "number", "classes": ()}
    texts = DeltaTable(dataset.uri).to_pyarrow_table().column("body").to_pylist()
    every = sorted({word for text in texts for word in text.split()})
    right = make_model(dict.fromkeys(every, 2.0), **numbers)
    wrong = make_model(dict.fromkeys(every, 1.0), role="student", **numbers)
    report = content(run(CONFIG, dataset, (right, wrong), spoken).uri)
    assert (report.target, report.rows) == ("number", 18)
    first, second = report.models
    assert values(first.scores) == {"r2": 1, "rmse": 0, "mae": 0}
    assert first.beats_baseline
    assert not second.beats_baseline
    assert second.over_baseline is not None
    assert second.over_baseline.high < 0
    assert values(second.scores)["mae"] > 1
    baselines = {baseline.name: values(baseline.scores) for baseline in report.baselines}
    (linear,) = baselines.keys() - {MEAN}
    assert linear.startswith(f"{TFIDF_RIDGE} (")
    assert baselines[MEAN]["r2"] <= 0 < baselines[linear]["r2"]
    assert f"below {linear}" in second.sentence


def test_another_kind_of_label_is_refused(dataset: DatasetRef, make_model: Any, spoken: StepContext) -> None:
    sets = make_model({"goal": "goal"}, classes=("goal", "the"), label="named", target="classes")
    with pytest.raises(ModelError) as caught:
        run(CONFIG.model_copy(update={"label": "words"}), dataset, (sets,), spoken)
    assert str(caught.value) == (
        "models are judged by a label of the kind that they answer with; 'words' holds number; "
        "got 'classes'; choose the label column that they learned, or evaluate models of each kind by "
        "themselves"
    )
    train = dataset.model_copy(update={"split": "topic"})
    with pytest.raises(DatasetError, match="the test split must have rows with a value in 'named'"):
        run(CONFIG, train, (sets,), spoken)
