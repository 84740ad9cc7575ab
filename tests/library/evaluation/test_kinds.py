"""Evaluation of models of sets of classes and of numbers: metrics, intervals, baselines, the report."""

from __future__ import annotations

import json
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, root_mean_squared_error

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError, ModelError
from modelmill.evaluation.baselines import MAJORITY, MEAN, TFIDF_RIDGE, TFIDF_SVM
from modelmill.evaluation.kinds import KIND_METRICS, kind_difference, kind_interval
from modelmill.evaluation.report import run
from modelmill.evaluation.results import KindReport, Score
from modelmill.steps.evaluate import EvaluateConfig

CONFIG = EvaluateConfig(resamples=200, throughput_rows=32)


def metric(kind: Any, name: str) -> Any:
    return next(found for found in KIND_METRICS[kind] if found.name == name)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, answers = ((random.random((40, 5)) < 0.3).astype(np.float64) for _ in range(2))
    for average in ("micro", "macro"):
        expected = f1_score(truth, answers, average=average)
        assert metric("classes", f"{average}_f1").of(answers, truth) == pytest.approx(expected)
    exact = (truth == answers).all(axis=1).mean()
    assert metric("classes", "exact").of(answers, truth) == pytest.approx(exact)
    truth, answers = random.normal(5000, 1, (40, 1)), random.normal(5000, 1, (40, 1))
    for name, function in (
        ("r2", r2_score),
        ("rmse", root_mean_squared_error),
        ("mae", mean_absolute_error),
    ):
        assert metric("number", name).of(answers, truth) == pytest.approx(function(truth, answers))


def test_intervals_come_from_drawn_rows_and_differences_are_paired() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(60, 1))
    near, far = truth + random.normal(0, 0.1, (60, 1)), truth + random.normal(0, 0.5, (60, 1))
    rmse = metric("number", "rmse")
    how = {"confidence": 0.9, "resamples": 2000}
    found = kind_interval(rmse, far, truth, **how)
    drawn = [rmse.of(far[rows], truth[rows]) for rows in (random.integers(0, 60, 60) for _ in range(2000))]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.02)
    assert found.low < found.value < found.high
    # Less error is better, so the nearer model is the better one: positive.
    better = kind_difference(rmse, near, far, truth, **how)
    assert 0 < better.low < better.value < better.high
    worse = kind_difference(rmse, far, near, truth, **how)
    assert (worse.value, worse.low) == pytest.approx((-better.value, -better.high))
    assert (better.beyond, worse.beyond) == (1, 0)
    level = kind_difference(rmse, far, far, truth, **how)
    assert (level.value, level.low, level.high, level.beyond) == (0, 0, 0, 0)
    with pytest.raises(DatasetError, match="at least one row"):
        kind_interval(rmse, truth[:0], truth[:0], **how)


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


def content(uri: str) -> KindReport:
    return KindReport.model_validate(json.loads(mlflow.artifacts.load_text(uri)))


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
    assert (first.agreement, first.unknown_classes, first.beats_baseline) == (1, (), True)
    assert second.unknown_classes == ("bank", "goal")
    assert 0 < second.agreement < 1
    assert values(second.scores)["macro_f1"] == pytest.approx(1 / 3)
    baselines = {baseline.name: values(baseline.scores) for baseline in report.baselines}
    assert set(baselines) == {MAJORITY, TFIDF_SVM}
    assert baselines[TFIDF_SVM]["micro_f1"] > baselines[MAJORITY]["micro_f1"]
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
    assert set(baselines) == {MEAN, TFIDF_RIDGE}
    assert baselines[MEAN]["r2"] <= 0 < baselines[TFIDF_RIDGE]["r2"]
    assert f"below {TFIDF_RIDGE}" in second.sentence


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
