"""Compression as one step: what it returns, what it leaves in MLflow, what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.search.recipes import Line, Shape, Structure, recipes, structures
from modelmill.compression.search.report import table_lines
from modelmill.compression.search.results import CompressionReport
from modelmill.errors import ConfigError, DatasetError
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle, logged_model
from modelmill.steps import compress, fine_tune
from modelmill.steps.compress import CompressConfig, CompressInputs, CompressOutputs
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs

SMALL = {
    "layers": [1],
    "tokens": [16],
    "widths": [0.5],
    "heads": [0.5],
    "pairs": [16],
    "vocabularies": ["seen"],
}


@pytest.fixture
def teacher(tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    return fine_tune.run(
        teacher_config(tiny_base_model, lexical_tokens=24),
        FineTuneInputs(dataset=topic_dataset),
        step_context,
    ).model


def teacher_config(base_model: Path, *, lexical_tokens: int) -> FineTuneConfig:
    return FineTuneConfig(
        base_model=str(base_model),
        epochs=6,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        frozen_layers=0,
        max_tokens=16,
        lexical_tokens=lexical_tokens,
    )


@pytest.fixture
def context(step_context: StepContext) -> StepContext:
    folder = step_context.workdir / "compress"
    folder.mkdir()
    return dataclasses.replace(step_context, workdir=folder)


def configured(*, space: dict[str, Any] | None = None, **budget: float) -> CompressConfig:
    return CompressConfig.model_validate(
        {
            "budget": {"max_metric_drop": 0.4, **budget},
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "space": {**SMALL, **(space or {})},
        }
    )


def compressed(
    config: CompressConfig, dataset: DatasetRef, teacher: ModelRef, context: StepContext
) -> CompressOutputs:
    return compress.run(config, CompressInputs(dataset=dataset, teacher=teacher), context)


def logged_by(context: StepContext) -> set[str]:
    models = context.run.client.search_logged_models([context.run.experiment_id])
    return {f"models:/{model.model_id}" for model in models}


def test_the_fastest_model_within_the_budget(
    teacher: ModelRef, topic_dataset: DatasetRef, context: StepContext
) -> None:
    outputs = compressed(configured(max_size_mb=1000), topic_dataset, teacher, context)
    model, reference = outputs.model, outputs.report
    assert (model.role, model.parent) == ("compressed", teacher.uri)
    client = context.run.client
    report = CompressionReport.model_validate_json(
        Path(client.download_artifacts(reference.run_id, "compression.json")).read_text()
    )
    assert {point.family for point in report.points} == {"teacher", "transformer", "static"}
    (chosen,) = [point for point in report.points if point.chosen]
    assert chosen.uri == model.uri
    assert chosen.drop_bound <= 0.4
    assert not chosen.broken
    assert client.get_run(reference.run_id).data.metrics["size_mb"] == chosen.size_mb
    assert (report.judging_rows, report.choosing_rows) == (13, 7)
    # Each measured point is a model of this run with its lineage and its figures.
    assert logged_by(context) == {point.uri for point in report.points} | {teacher.uri}
    for point in report.points:
        found = client.get_logged_model(point.uri.removeprefix("models:/"))
        assert found.tags["modelmill.recipe"] == point.name
        assert logged_model(client, point.uri).parent == teacher.uri
        figures = {metric.key: metric.value for metric in found.metrics}
        assert figures["size_mb"] == point.size_mb
        assert figures["drop_bound"] == point.drop_bound
        assert point.latency_p50_ms <= point.latency_p95_ms
    assert load_scorer(fetch_bundle(model, context.cache)).predict(["the goal match", "a bank loan"]) == [
        "sport",
        "trade",
    ]
    assert "compression.html" in {item.path for item in client.list_artifacts(reference.run_id)}
    assert client.list_artifacts(reference.run_id, "plots")
    assert sum("chosen" in line for line in table_lines(report)) == 1
    # Another budget: what was trained and measured is taken as it is.
    lines: list[str] = []
    (context.workdir / "again").mkdir()
    later = dataclasses.replace(context, workdir=context.workdir / "again", log=lines.append)
    again = compressed(configured(max_size_mb=999), topic_dataset, teacher, later).model
    assert not any("passes more" in line for line in lines)
    assert sum("known from an earlier search" in line for line in lines) == 3
    assert again.digest == model.digest or again.digest in {
        logged_model(client, point.uri).digest for point in report.points
    }
    # Checkpoints are gone, and what is kept for later is bounded.
    assert {path.name for path in later.workdir.iterdir()} == {"bundles"}
    assert not list(context.cache.glob("compress/*/.*"))


def test_a_student_without_a_lexical_head_reads_fewer_tokens(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext, context: StepContext
) -> None:
    teacher = fine_tune.run(
        teacher_config(tiny_base_model, lexical_tokens=0), FineTuneInputs(dataset=topic_dataset), step_context
    ).model
    space = {"families": ["transformer"], "tokens": [8], "heads": [1.0]}
    # Which is smallest does not depend on the machine, which is fastest may.
    config = configured(space=space).model_copy(update={"prefer": "size"})
    model = compressed(config, topic_dataset, teacher, context).model
    info = load_scorer(fetch_bundle(model, context.cache)).info
    assert (info.max_tokens, info.encoder_tokens, info.lexical) == (8, None, False)


def test_a_budget_that_cannot_be_met_names_the_limit_and_leaves_nothing(
    teacher: ModelRef, topic_dataset: DatasetRef, context: StepContext
) -> None:
    before = logged_by(context)
    config = configured(space={"families": ["static"]}, max_size_mb=1e-5)
    with pytest.raises(ConfigError) as caught:
        compressed(config, topic_dataset, teacher, context)
    message = str(caught.value)
    assert "the nearest does not: static, 16 buckets of pairs, fp16, seen tokens (max_size_mb: " in message
    assert "above the limit of 1e-05" in message
    assert logged_by(context) == before
    assert not list(context.workdir.rglob("*"))


@pytest.mark.parametrize(("label", "metric"), [("words", "r2"), ("named", "micro_f1")])
def test_numbers_and_sets_are_searched_too(
    label: str, metric: str, tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    words = [text.split() for text in table.column("body").to_pylist()]
    named = [[name for name in ("goal", "bank") if name in row] for row in words]
    table = table.append_column("words", [[100.0 + 10 * len(row) for row in words]])
    table = table.append_column("named", pa.array(named, pa.list_(pa.string())))
    uri = f"{topic_dataset.uri}_counted"
    write_deltalake(uri, table)
    dataset = topic_dataset.model_copy(update={"uri": uri, "labels": ("words", "named")})
    config = teacher_config(tiny_base_model, lexical_tokens=0).model_copy(update={"label": label})
    teacher = fine_tune.run(config, FineTuneInputs(dataset=dataset), step_context).model
    lines: list[str] = []
    (step_context.workdir / "compress").mkdir()
    context = dataclasses.replace(step_context, workdir=step_context.workdir / "compress", log=lines.append)
    outputs = compressed(configured(max_metric_drop=0.99), dataset, teacher, context)
    info = load_scorer(fetch_bundle(outputs.model, context.cache)).info
    assert info.target == ("number" if label == "words" else "classes")
    path = context.run.client.download_artifacts(outputs.report.run_id, "compression.json")
    report = CompressionReport.model_validate_json(Path(path).read_text())
    assert {point.family for point in report.points} == {"teacher", "transformer", "static"}
    assert {point.metric for point in report.points} == {report.metric} == {metric}
    own = next(p for p in report.points if p.family == "teacher" and p.quantization == "none")
    assert own.quality == pytest.approx(report.teacher_quality, abs=1e-4)
    assert metric in own.metrics
    assert any(("points below" if metric == "micro_f1" else "r2 below") in line for line in lines)


def test_students_that_would_be_too_large_learn_nothing(
    teacher: ModelRef, topic_dataset: DatasetRef, context: StepContext
) -> None:
    lines: list[str] = []
    listening = dataclasses.replace(context, log=lines.append)
    config = configured(space={"families": ["transformer"], "layers": [1, 2]}, max_size_mb=1e-5)
    with pytest.raises(ConfigError):
        compressed(config, topic_dataset, teacher, listening)
    assert "2 of 2 students would be too slow or large" in lines
    assert not any("passes more" in line for line in lines)


def test_what_a_student_costs_lies_on_a_line() -> None:
    line = Line.through((2.0, 4.0), (10.0, 20.0))
    assert (line.at(2), line.at(3), line.at(4)) == (10, 15, 20)
    assert Line.through((2.0, 2.0), (3.0, 3.0)).at(7) == 3


def test_too_few_validation_rows_are_refused(
    teacher: ModelRef, topic_dataset: DatasetRef, context: StepContext
) -> None:
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    uri = f"{topic_dataset.uri}_few"
    write_deltalake(uri, table.filter([n < 60 or n >= 75 for n in range(100)]))
    with pytest.raises(DatasetError) as caught:
        compressed(configured(), topic_dataset.model_copy(update={"uri": uri}), teacher, context)
    assert str(caught.value).startswith(
        "compress needs at least 10 labelled validation rows to judge models on; got 5; set split"
    )


def test_the_space_by_default_has_more_than_30_candidates() -> None:
    shape = Shape(layers=6, tokens=64, hidden=384, inner=1536)
    space = CompressConfig().space
    found = recipes(space, shape, prunable=True)
    assert len(found) == len(set(found)) == len({str(recipe) for recipe in found}) >= 30
    cheapest, *_, dearest = structures(space, shape)
    assert (cheapest, dearest) == (Structure(1, 32, 0.25, 0.5), Structure(3, 64, 1.0))
    # Heads go from the narrowest students only, and from none where they cannot be told apart.
    assert {one.width for one in structures(space, shape) if one.heads < 1} == {0.25}
    whole = structures(space, dataclasses.replace(shape, has_heads=False))
    assert {one.heads for one in whole} == {1.0}
    # Without a tokenizer that can be pruned the whole vocabulary stays.
    assert {recipe.vocabulary for recipe in recipes(space, shape, prunable=False)} == {"all"}


def test_a_student_larger_than_its_teacher_is_refused() -> None:
    shape = Shape(layers=2, tokens=16, hidden=32, inner=64)
    space = configured(space={"layers": [3]}).space
    with pytest.raises(ConfigError) as caught:
        structures(space, shape)
    assert str(caught.value) == (
        "space.layers must not exceed what the teacher has, 2; got 3; lower it to at most 2"
    )


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"pairs": [3]}, "powers of two"),
        ({"widths": [0]}, "widths must be above 0"),
        ({"heads": [1.5]}, "heads must be above 0"),
        ({"layers": [0]}, "layers must be at least 1"),
        ({"families": []}, "at least 1 item"),
        ({"quantization": ["int3"]}, "quantization"),
    ],
)
def test_an_impossible_space_is_refused(space: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        configured(space=space)


def test_the_configuration_can_be_said_in_json() -> None:
    config = configured()
    assert CompressConfig.model_validate(json.loads(config.model_dump_json())) == config
