"""Texts without labels: a student learns what its teacher answers to them, but none that it is judged on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError, TableError
from modelmill.steps import distill, fine_tune
from modelmill.steps.distill import DistillConfig, DistillInputs
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.tasks.kinds import task_of
from modelmill.training.soft_labels import ConcatenatedLogits, distillation_loss

FAST = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


@pytest.fixture
def teacher(tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    config = {"base_model": str(tiny_base_model), "max_tokens": 16, "frozen_layers": 0, **FAST}
    return fine_tune.run(
        FineTuneConfig.model_validate(config), FineTuneInputs(dataset=topic_dataset), step_context
    ).model


@pytest.fixture
def known(topic_dataset: DatasetRef) -> list[str]:
    texts: list[str] = DeltaTable(topic_dataset.uri).to_pyarrow_table().column("body").to_pylist()
    return texts


def table(folder: Path, texts: list[str | None], *, column: str = "body") -> TableRef:
    uri = folder / f"unlabelled {len(texts)}"
    write_deltalake(str(uri), pa.table({column: pa.array(texts, pa.string()), "other": [1] * len(texts)}))
    return TableRef(uri=str(uri), version=0)


def distilled(
    teacher: ModelRef,
    dataset: DatasetRef,
    context: StepContext,
    transfer: TableRef | None,
    *,
    lines: list[str] | None = None,
    **changes: Any,
) -> ModelRef:
    folder = context.workdir / f"distil {len(list(context.workdir.iterdir()))}"
    folder.mkdir()
    log = lines.append if lines is not None else context.log
    own = dataclasses.replace(context, workdir=folder, log=log)
    config = DistillConfig.model_validate({"layers": 1, **FAST, **changes})
    return distill.run(config, DistillInputs(dataset=dataset, teacher=teacher, transfer=transfer), own).model


def test_new_texts_are_learned_and_others_left_out(
    teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext, known: list[str], tmp_path: Path
) -> None:
    new: list[str | None] = [f"goal {word} team match" for word in ("the", "a", "of", "and")]
    texts = [*new, new[0], None, "  ", known[0], known[70], known[90]]
    lines: list[str] = []
    unlabelled = table(tmp_path, texts)
    one = distilled(teacher, topic_dataset, step_context, unlabelled, lines=lines)
    assert "transfer: 4 of 8 texts without a label are new" in lines
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert metrics["transfer_rows"] == 4
    # The same table gives the same bits, also under another column name, and is answered once only.
    lines.clear()
    renamed = table(tmp_path / "renamed", texts, column="message")
    same = distilled(teacher, topic_dataset, step_context, renamed, lines=lines, transfer_text="message")
    without = distilled(teacher, topic_dataset, step_context, None)
    assert one.digest == same.digest != without.digest
    assert lines.count("the teacher's answers are in the cache") == 3


@pytest.mark.parametrize("texts", [[], [None, " "]])
def test_a_table_without_texts_is_refused(
    teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext, tmp_path: Path, texts: Any
) -> None:
    empty = table(tmp_path, texts)
    with pytest.raises(DatasetError) as caught:
        distilled(teacher, topic_dataset, step_context, empty)
    assert str(caught.value) == (
        "the table on the input transfer must have texts that the dataset has not; "
        f"got '0 rows with a text, none of them new ({empty})'; remove this edge, or give a table with "
        "other rows"
    )


def test_a_table_without_the_column_is_refused(
    teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match="body"):
        distilled(teacher, topic_dataset, step_context, table(tmp_path, ["goal"], column="message"))


@pytest.mark.parametrize(
    ("kind", "targets", "unknown"),
    [
        ("class", torch.tensor([1, 0]), torch.tensor([-1, -1])),
        ("classes", torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.full((2, 2), torch.nan)),
        ("number", torch.tensor([1.0, 2.0]), torch.tensor([torch.nan, torch.nan])),
    ],
)
def test_without_a_label_the_teacher_alone_counts(
    kind: Any, targets: torch.Tensor, unknown: torch.Tensor
) -> None:
    random = np.random.default_rng(0)
    outputs = 1 if kind == "number" else 2
    soft = random.normal(size=(5, outputs)).astype(np.float32)
    logits = torch.from_numpy(random.normal(size=(2, outputs)).astype(np.float32)).requires_grad_()
    rows = np.array([4, 1])
    loss, teacher_alone = (
        distillation_loss(soft, temperature=2.0, soft_weight=weight, task=task_of(kind))
        for weight in (0.5, 1.0)
    )
    assert torch.equal(loss(logits, unknown, rows), teacher_alone(logits, targets, rows))
    loss(logits, unknown, rows).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    # A student that answers as its teacher has nothing to learn.
    assert float(teacher_alone(torch.from_numpy(soft[rows]), targets, rows)) == pytest.approx(0, abs=1e-6)


def test_answers_are_stacked_in_the_order_that_is_asked_for() -> None:
    first, second = (np.arange(start, start + 6, dtype=np.float32).reshape(3, 2) for start in (0, 100))
    rows = np.array([5, 0, 3, 2, 4, 1])
    assert np.array_equal(ConcatenatedLogits(first, second, 3)[rows], np.concatenate([first, second])[rows])
