"""Pruning as a step: a smaller model that recovers, and what it is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ModelError
from modelmill.models.attention import KEPT_HEADS
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import load_classifier
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import distill, fine_tune, prune, quantize
from modelmill.steps.distill import DistillConfig, DistillInputs
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.steps.prune import PruneConfig, PruneInputs
from modelmill.steps.quantize import QuantizeConfig

FAST = {"epochs": 8, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


def pruning(**changes: Any) -> PruneConfig:
    moves = [{"method": "inner_units", "keep": 0.25}, {"method": "heads", "keep": 0.5}]
    return PruneConfig.model_validate({"moves": moves, **FAST, **changes})


def pruned_model(
    config: PruneConfig,
    dataset: DatasetRef,
    model: ModelRef,
    teacher: ModelRef | None,
    context: StepContext,
) -> ModelRef:
    inputs = PruneInputs(dataset=dataset, model=model, teacher=teacher)
    return prune.run(config, inputs, context).model


def quantized(config: QuantizeConfig, dataset: DatasetRef, model: ModelRef, context: StepContext) -> ModelRef:
    return quantize.run(config, quantize.QuantizeInputs(dataset=dataset, model=model), context).model


def in_folder(context: StepContext, name: str, log: Any = None) -> StepContext:
    folder = context.workdir / name
    folder.mkdir()
    return dataclasses.replace(context, workdir=folder, log=log or context.log)


def taught(base: Path, dataset: DatasetRef, context: StepContext, **changes: Any) -> ModelRef:
    config = {"base_model": str(base), "max_tokens": 16, "frozen_layers": 0, **FAST, **changes}
    return fine_tune.run(
        FineTuneConfig.model_validate(config), FineTuneInputs(dataset=dataset), context
    ).model


def test_a_pruned_model_is_smaller_and_goes_on_to_quantisation(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = taught(tiny_base_model, topic_dataset, step_context)
    student = distill.run(
        DistillConfig.model_validate({"layers": 1, **FAST}),
        DistillInputs(dataset=topic_dataset, teacher=teacher),
        in_folder(step_context, "distil"),
    ).model
    lines: list[str] = []
    context = in_folder(step_context, "prune", lines.append)
    pruned = pruned_model(pruning(), topic_dataset, student, teacher, context)
    assert (pruned.role, pruned.format, pruned.parent) == ("pruned", "torch", student.uri)
    folder, before = (fetch_bundle(model, context.cache) for model in (pruned, student))
    model = load_classifier(folder)
    assert (model.config.intermediate_size, getattr(model.config, KEPT_HEADS)) == (16, [1])
    assert BundleInfo.load(folder).parameters < BundleInfo.load(before).parameters
    assert bundle_bytes(folder) < bundle_bytes(before)
    assert load_scorer(folder).predict(["the goal match today", "a bank loan"]) == ["sport", "trade"]
    metrics = context.run.client.get_run(context.run.run_id).data.metrics
    assert metrics["validation_accuracy"] >= 0.8
    assert metrics["size_ratio"] > 1
    assert {"teacher_agreement", "unrecovered_accuracy"} <= set(metrics)
    assert any("tokens" in line and "stay" in line for line in lines)

    exported = quantized(
        QuantizeConfig(max_drift=0.2), topic_dataset, pruned, in_folder(step_context, "quantise")
    )
    assert exported.parent == pruned.uri
    small = bundle_bytes(fetch_bundle(exported, context.cache))
    plain = quantized(QuantizeConfig(max_drift=0.2), topic_dataset, student, in_folder(step_context, "whole"))
    assert small < bundle_bytes(fetch_bundle(plain, context.cache))

    # The same seed gives the same bits; without a teacher it learns from what it was.
    again = pruned_model(pruning(), topic_dataset, student, teacher, in_folder(step_context, "again"))
    alone = pruned_model(pruning(), topic_dataset, student, None, in_folder(step_context, "alone"))
    assert pruned.digest == again.digest != alone.digest


def test_without_epochs_nothing_is_learned_and_seen_texts_keep_their_answers(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = taught(tiny_base_model, topic_dataset, step_context, lexical_tokens=0)
    context = in_folder(step_context, "prune")
    pruned = pruned_model(pruning(epochs=0, moves=[]), topic_dataset, teacher, None, context)
    metrics = context.run.client.get_run(context.run.run_id).data.metrics
    assert metrics["teacher_agreement"] == 1.0
    assert pruned.parent == teacher.uri
    assert not (context.workdir / "checkpoints").exists()


@pytest.fixture
def counted(topic_dataset: DatasetRef) -> DatasetRef:
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    words = [text.split() for text in table.column("body").to_pylist()]
    table = table.append_column("words", [[100.0 + 10 * len(row) for row in words]])
    named = [[name for name in ("goal", "bank") if name in row] for row in words]
    table = table.append_column("named", pa.array(named, pa.list_(pa.string())))
    uri = f"{topic_dataset.uri}_counted"
    write_deltalake(uri, table)
    return topic_dataset.model_copy(update={"uri": uri, "labels": ("words", "named")})


@pytest.mark.parametrize("label", ["words", "named"])
def test_numbers_and_sets_are_distilled_and_pruned(
    label: str, tiny_base_model: Path, counted: DatasetRef, step_context: StepContext
) -> None:
    teacher = taught(tiny_base_model, counted, step_context, label=label, epochs=15)
    student = distill.run(
        DistillConfig.model_validate({"layers": 1, "label": label, **FAST, "epochs": 15}),
        DistillInputs(dataset=counted, teacher=teacher),
        in_folder(step_context, "distil"),
    ).model
    context = in_folder(step_context, "prune")
    pruned = pruned_model(pruning(label=label), counted, student, teacher, context)
    scorer = load_scorer(fetch_bundle(pruned, context.cache))
    assert scorer.info.target == {"words": "number", "named": "classes"}[label]
    metrics = context.run.client.get_run(context.run.run_id).data.metrics
    if label == "words":
        assert metrics["validation_r2"] > 0.5
        short, long = scorer.probabilities(["goal the", "goal the of a with new said today the"])[:, 0]
        assert 90 < short < long < 250
    else:
        assert metrics["teacher_agreement"] > 0.5


def test_a_model_of_another_question_is_refused(
    tiny_base_model: Path, topic_dataset: DatasetRef, counted: DatasetRef, step_context: StepContext
) -> None:
    teacher = taught(tiny_base_model, topic_dataset, step_context)
    with pytest.raises(ModelError, match="must answer the label that the student learns, 'words'"):
        pruned_model(pruning(label="words"), counted, teacher, None, in_folder(step_context, "prune"))
