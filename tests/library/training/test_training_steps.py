"""Fine-tuning and distillation as steps: from a dataset and a base model to logged models."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import load_classifier
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import distill, fine_tune
from modelmill.steps.distill import DistillConfig, DistillInputs
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.tasks.kinds import task_of
from modelmill.tokens.tokenizer import encode, load_tokenizer
from modelmill.training.soft_labels import distillation_loss
from modelmill.training.student import make_student, spread
from modelmill.training.teacher import teacher_logits

FAST = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


def fine_tuned(base: Path, dataset: DatasetRef, context: StepContext) -> ModelRef:
    config = FineTuneConfig.model_validate(
        {"base_model": str(base), "max_tokens": 16, "frozen_layers": 0, "seed": 1, **FAST}
    )
    return fine_tune.run(config, FineTuneInputs(dataset=dataset), context).model


def student_config(**changes: Any) -> DistillConfig:
    return DistillConfig.model_validate({"layers": 1, **FAST, **changes})


def test_a_teacher_and_its_student(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = fine_tuned(tiny_base_model, topic_dataset, step_context)
    folder = fetch_bundle(teacher, step_context.cache)
    info = BundleInfo.load(folder)
    assert (teacher.role, teacher.format, teacher.parent) == ("teacher", "torch", None)
    assert (info.label, info.classes, info.text) == ("topic", ("sport", "trade"), "body")
    assert (info.max_tokens, info.encoder_tokens, info.lexical) == (256, 16, True)
    assert load_scorer(folder).predict(["the goal match today", "a bank loan today"]) == ["sport", "trade"]
    assert str(tiny_base_model) not in (folder / "config.json").read_text()

    lines: list[str] = []
    (step_context.workdir / "distil").mkdir()
    context = dataclasses.replace(step_context, workdir=step_context.workdir / "distil", log=lines.append)
    student = distill.run(
        student_config(), DistillInputs(dataset=topic_dataset, teacher=teacher), context
    ).model
    small = BundleInfo.load(fetch_bundle(student, step_context.cache))
    assert (student.role, student.format, student.parent) == ("student", "torch", teacher.uri)
    assert (small.classes, small.max_tokens) == (info.classes, info.max_tokens)
    assert small.parameters < info.parameters

    run = step_context.run.client.get_run(step_context.run.run_id)
    assert run.data.metrics["teacher_agreement"] >= 0.8
    # The run's figures are those of the whole student, behind those of its encoder after each epoch.
    client, run_id = step_context.run.client, step_context.run.run_id
    logged = client.get_logged_model(student.uri.removeprefix("models:/")).metrics
    whole = {metric.value for metric in logged if metric.key == "validation_accuracy"}
    figures = client.get_metric_history(run_id, "validation_accuracy")
    last = max(figures, key=lambda metric: (metric.step, metric.timestamp))
    losses = client.get_metric_history(run_id, "train_loss")
    assert whole == {last.value}
    assert last.step > max(metric.step for metric in losses)
    assert "the teacher's answers are in the cache" not in lines
    artifacts = step_context.run.client.list_artifacts(step_context.run.run_id, "plots")
    assert [item.path for item in artifacts] == ["plots/learning_curve.png"]
    sources = {item.dataset.digest for item in run.inputs.dataset_inputs}
    assert sources == {"v0"}

    shutil.rmtree(context.workdir / "checkpoints")
    again = distill.run(
        student_config(), DistillInputs(dataset=topic_dataset, teacher=teacher), context
    ).model
    assert again.digest == student.digest
    assert "the teacher's answers are in the cache" in lines

    with pytest.raises(ModelError) as caught:
        distill.run(student_config(layers=3), DistillInputs(dataset=topic_dataset, teacher=teacher), context)
    assert str(caught.value) == (
        "a student cannot have more layers than its teacher, 2; got 3; set layers to at most 2"
    )


def relabelled(dataset: DatasetRef, names: dict[str, str], *, column: str = "topic") -> DatasetRef:
    from deltalake import DeltaTable, write_deltalake

    table = DeltaTable(dataset.uri).to_pyarrow_table()
    values = [names.get(value, value) for value in table.column("topic").to_pylist()]
    changed = table.drop_columns(["topic"]).append_column(column, [values])
    uri = f"{dataset.uri}_with_other_{column}"
    write_deltalake(uri, changed)
    return dataset.model_copy(update={"uri": uri, "labels": (column,)})


def test_a_teacher_of_another_question_is_refused(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = fine_tuned(tiny_base_model, topic_dataset, step_context)
    (step_context.workdir / "distil").mkdir()
    context = dataclasses.replace(step_context, workdir=step_context.workdir / "distil")
    with pytest.raises(ModelError) as caught:
        distill.run(
            student_config(),
            DistillInputs(dataset=relabelled(topic_dataset, {"trade": "money"}), teacher=teacher),
            context,
        )
    assert str(caught.value) == (
        "the teacher must have the classes of the dataset's train split; got 'missing in the teacher: money; "
        "only in the teacher: trade'; fine-tune the teacher on this dataset"
    )
    other = relabelled(topic_dataset, {}, column="subject")
    with pytest.raises(ModelError) as caught:
        distill.run(student_config(), DistillInputs(dataset=other, teacher=teacher), context)
    assert str(caught.value) == (
        "the teacher must answer the label that the student learns, 'subject'; got 'topic'; "
        "choose that label in the configuration, or fine-tune a teacher for it"
    )


def test_a_bundle_reloads_exactly_and_a_full_student_is_its_teacher(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = load_classifier(
        fetch_bundle(fine_tuned(tiny_base_model, topic_dataset, step_context), step_context.cache)
    )
    ids = torch.tensor([[2, 5, 20, 3]])
    whole = make_student(teacher, layers=2, dropout=0.0).eval()
    assert teacher.lexical is not None
    whole.attach(teacher.lexical, tuple(teacher.scales.tolist()), encoder_tokens=16)
    with torch.no_grad():
        assert torch.equal(whole(ids, torch.ones_like(ids)), teacher(ids, torch.ones_like(ids)))
    half = make_student(teacher, layers=1, dropout=0.0)
    assert half.config.num_hidden_layers == 1
    assert teacher.config.num_hidden_layers == 2
    assert torch.equal(
        half.state_dict()["encoder.encoder.layer.0.output.dense.weight"],
        teacher.state_dict()["encoder.encoder.layer.0.output.dense.weight"],
    )


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [(1, 6, [0]), (2, 6, [0, 5]), (3, 6, [0, 2, 5]), (6, 6, [0, 1, 2, 3, 4, 5]), (3, 12, [0, 5, 11])],
)
def test_layers_are_spread_evenly(count: int, total: int, expected: list[int]) -> None:
    assert spread(count, total) == expected


def test_the_loss_is_that_of_hinton() -> None:
    logits, soft = torch.tensor([[2.0, 0.0]]), np.array([[9.0, 9.0], [1.0, -1.0]], dtype=np.float32)
    target = torch.tensor([1])
    hard = distillation_loss(soft, temperature=2.0, soft_weight=0.0, task=task_of("class"))(
        logits, target, [1]
    )
    assert float(hard) == pytest.approx(2.126928, abs=1e-5)  # log(1 + e^2)
    # The same distribution has no divergence, whatever the other rows hold.
    same = distillation_loss(soft, temperature=2.0, soft_weight=1.0, task=task_of("class"))(
        logits, target, [1]
    )
    assert float(same) == pytest.approx(0.0, abs=1e-6)
    # Teacher 1/2 and 1/2, student e/(1+e) and 1/(1+e): KL = log(1+e) - log 2 - 1/2, times T^2 = 4.
    apart = distillation_loss(soft, temperature=2.0, soft_weight=1.0, task=task_of("class"))(
        logits, target, [0]
    )
    assert float(apart) == pytest.approx(4 * (1.3132617 - 0.6931472 - 0.5), abs=1e-5)


def test_cached_logits_are_those_of_the_teacher(
    tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = fine_tuned(tiny_base_model, topic_dataset, step_context)
    folder = fetch_bundle(teacher, step_context.cache)
    scorer = load_scorer(folder)
    texts = ["the goal", "bank loan market share price today", "a"]
    tokens = encode(load_tokenizer(folder, max_tokens=scorer.info.max_tokens), texts)
    found = teacher_logits(scorer, tokens, digest=teacher.digest, workspace=step_context)
    assert isinstance(found, np.memmap)
    assert found == pytest.approx(scorer.logits(texts), abs=1e-5)
    backwards = tokens.take(np.array([2, 1, 0]))
    other = teacher_logits(scorer, backwards, digest=teacher.digest, workspace=step_context)
    assert other == pytest.approx(found[::-1], abs=1e-5)
