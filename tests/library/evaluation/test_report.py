"""The evaluation step on models whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import pytest
from sklearn.metrics import f1_score

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, DatasetError, ModelError
from modelmill.evaluation.results import EvaluationReport
from modelmill.steps.evaluate import EvaluateConfig, EvaluateInputs, evaluate
from modelmill.tasks.baselines import MAJORITY, TFIDF_SVM

# Every text has two of its topic's words. A model that knows all of them makes no error.
SPORT = ("goal", "match", "team", "score", "league", "coach")
TRADE = ("bank", "share", "price", "profit", "market", "loan")
PERFECT = dict.fromkeys(SPORT, "sport") | dict.fromkeys(TRADE, "trade")
SPORT_ONLY = dict.fromkeys(PERFECT, "sport")
CONFIG = EvaluateConfig(resamples=200, throughput_rows=32)


def run(
    config: EvaluateConfig, dataset: DatasetRef, models: tuple[ModelRef, ...], context: StepContext
) -> ReportRef:
    return evaluate.run(config, EvaluateInputs(dataset=dataset, models=models), context).report


def content(uri: str) -> EvaluationReport:
    return EvaluationReport.from_json(json.loads(mlflow.artifacts.load_text(uri)))


def test_the_report_says_what_the_models_are_worth(
    topic_dataset: DatasetRef, make_model, spoken: StepContext, log_lines: list[str]
) -> None:
    teacher = make_model(PERFECT, padding=100)
    student = make_model(SPORT_ONLY, role="student")
    reference = run(CONFIG, topic_dataset, (teacher, student), spoken)
    assert reference.run_id == spoken.run.run_id
    report = content(reference.uri)
    assert (report.label, report.rows, report.throughput_rows) == ("topic", 20, 20)
    assert report.dataset == f"{topic_dataset.uri}@0"

    first, second = report.models
    assert (first["accuracy"].value, first["macro_f1"].value, first.agreement) == (1, 1, 1)
    assert (first.size_ratio, first.speed_ratio) == (1, 1)
    assert (second["accuracy"].value, second.agreement) == (0.5, 0.5)
    assert second["macro_f1"].value == pytest.approx(
        f1_score(["sport", "trade"] * 10, ["sport"] * 20, average="macro")
    )
    assert second["accuracy"].low < 0.5 < second["accuracy"].high
    assert second["macro_f1"].low < second["macro_f1"].value < second["macro_f1"].high
    assert second.size_ratio == pytest.approx(first.size_mb / second.size_mb)
    assert second.size_ratio > 1
    assert second.speed_ratio == pytest.approx(second.documents_per_second / first.documents_per_second)
    assert (first.parameters, second.parameters) == (226, 26)
    assert first.name == f"teacher ({teacher.uri.removeprefix('models:/')[:10]})"
    assert (second.uri, second.role, second.format) == (student.uri, "student", "onnx")

    by_name = {baseline.name: baseline for baseline in report.baselines}
    assert by_name[MAJORITY]["accuracy"].value == 0.5
    (linear,) = (baseline for name, baseline in by_name.items() if name.startswith(TFIDF_SVM))
    assert linear["accuracy"].value > 0.9
    assert first.beats_baseline is (linear["accuracy"].value < 1)
    assert second.beats_baseline is False
    assert "below TF-IDF + linear SVM" in second.sentence
    assert "whose answer it gives to 50.00% of the rows" in second.sentence
    recalls = {(item.model, item.name): item.recall for item in report.per_class}
    assert (recalls[second.name, "sport"], recalls[second.name, "trade"]) == (1, 0)
    assert log_lines[-2:] == [first.sentence, second.sentence]
    assert any(line.startswith("student") and "50.00%" in line for line in log_lines[:-2])


def test_mlflow_gets_metrics_plots_and_the_dataset(
    topic_dataset: DatasetRef, make_model, spoken: StepContext
) -> None:
    models = (make_model(PERFECT), make_model(SPORT_ONLY, role="student"), make_model({}, role="student"))
    run(CONFIG, topic_dataset, models, spoken)
    logged = spoken.run.client.get_run(spoken.run.run_id)
    metrics = logged.data.metrics
    assert (metrics["accuracy/teacher"], metrics["accuracy/student"]) == (1, 0.5)
    assert metrics["accuracy/student_2"] == 0.5
    assert metrics["accuracy/majority_class"] == 0.5
    assert metrics["macro_f1/tf_idf_linear_svm"] > 0.9
    assert metrics["documents_per_second/student"] > 0
    (used,) = logged.inputs.dataset_inputs
    assert json.loads(used.dataset.source) == {"path": topic_dataset.uri, "delta_table_version": 0}
    assert used.tags[0].value == "evaluation"
    plots = Path(spoken.run.client.download_artifacts(spoken.run.run_id, "plots"))
    assert {path.name for path in plots.iterdir()} == {"confusion.png", "quality.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.iterdir())


def test_without_baselines_nothing_is_said_of_them(
    topic_dataset: DatasetRef, make_model, spoken: StepContext
) -> None:
    config = CONFIG.model_copy(update={"baselines": False})
    report = content(run(config, topic_dataset, (make_model(PERFECT),), spoken).uri)
    assert report.baselines == ()
    assert report.models[0].beats_baseline is None
    assert report.models[0].sentence.endswith("(100.00% to 100.00%).")


def test_a_class_that_the_model_does_not_know_counts_as_wrong(
    make_dataset: Callable[..., DatasetRef], make_model, spoken: StepContext, log_lines: list[str]
) -> None:
    rows = [("goal", "sport", "train"), ("bank", "trade", "train"), ("rain $5", "weather", "train")]
    rows += [(text, label, "test") for text, label, _ in rows]
    report = content(run(CONFIG, make_dataset(rows), (make_model(PERFECT),), spoken).uri)
    assert report.models[0]["accuracy"].value == pytest.approx(2 / 3)
    assert report.models[0].unknown_classes == ("weather",)
    assert any("1 test rows count as wrong" in line and "weather" in line for line in log_lines)


def refused(
    error: type[Exception], match: str, dataset: DatasetRef, models: Sequence[ModelRef], context: StepContext
) -> None:
    with pytest.raises(error, match=match):
        run(CONFIG, dataset, tuple(models), context)
    logged = context.run.client.get_run(context.run.run_id)
    assert not logged.data.metrics
    assert not context.run.client.list_artifacts(context.run.run_id)


def test_no_test_rows_are_refused(
    make_dataset: Callable[..., DatasetRef], make_model, spoken: StepContext
) -> None:
    dataset = make_dataset([("goal", "sport", "train"), ("bank", None, "test")])
    refused(DatasetError, "test split must have rows", dataset, [make_model(PERFECT)], spoken)


def test_no_models_are_refused(topic_dataset: DatasetRef, spoken: StepContext) -> None:
    refused(ConfigError, "at least one model", topic_dataset, [], spoken)


def test_models_of_different_labels_are_refused(
    topic_dataset: DatasetRef, make_model, spoken: StepContext
) -> None:
    models = [make_model(PERFECT), make_model(PERFECT, label="mood")]
    refused(ModelError, "same label; got 'mood, topic'", topic_dataset, models, spoken)


def test_a_model_of_other_classes_is_refused(
    topic_dataset: DatasetRef, make_model, spoken: StepContext
) -> None:
    model = make_model({"goal": "yes"}, classes=("no", "yes"))
    refused(ModelError, r"must know a class of the test rows.*got 'no, yes'", topic_dataset, [model], spoken)


def test_an_unknown_label_names_the_nearest(
    topic_dataset: DatasetRef, make_model, spoken: StepContext
) -> None:
    config = CONFIG.model_copy(update={"label": "topics"})
    with pytest.raises(ConfigError, match="did you mean 'topic'"):
        run(config, topic_dataset, (make_model(PERFECT),), spoken)
