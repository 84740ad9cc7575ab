"""Relations: what they compare, that a student learns them, and whom they are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deltalake import DeltaTable, write_deltalake
from transformers import BertConfig

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError
from modelmill.models.classifier import Classifier, collate
from modelmill.models.encoder import build_encoder
from modelmill.steps import distill, fine_tune, prune
from modelmill.steps.distill import DistillConfig, DistillInputs
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.steps.prune import PruneConfig, PruneInputs
from modelmill.tokens.token_ids import Tokens
from modelmill.training.options import Relations
from modelmill.training.relations import divergence, relation_loss

FAST = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


def bert(hidden: int, heads: int, *, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    size = {"vocab_size": 20, "num_hidden_layers": 2, "intermediate_size": 16}
    config = BertConfig(hidden_size=hidden, num_attention_heads=heads, **size)
    return Classifier(build_encoder(config), classes=2).eval()


def test_the_divergence_is_that_of_two_softmaxes() -> None:
    student = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[0.5, 0.5], [1.0, 1.0], [7.0, 7.0]]])
    mask = torch.tensor([[1, 1, 0]])
    expected = []
    for row in (0, 1):  # the third token is padding
        ours, theirs = (
            torch.softmax(values[0, :2] @ values[0, row] / 2**0.5, dim=0) for values in (student, teacher)
        )
        expected.append(float((theirs * (theirs / ours).log()).sum()))
    found = divergence(student, teacher, mask, heads=1)
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-6)
    assert float(divergence(teacher, teacher, mask, heads=2)) == pytest.approx(0.0, abs=1e-7)
    # Padding changes nothing.
    assert torch.allclose(divergence(student[:, :2], teacher[:, :2], mask[:, :2], heads=1), found)


def test_a_narrower_student_learns_relations() -> None:
    teacher, student = bert(16, 4), bert(8, 2, seed=1)
    tokens = Tokens.of(np.random.default_rng(0).integers(1, 20, (6, 5)))
    rows = np.arange(6)
    optimizer = torch.optim.Adam(student.encoder.parameters(), lr=1e-2)
    values = []
    with relation_loss(Relations(weight=2.0), student, teacher, tokens) as loss:
        for _ in range(20):
            optimizer.zero_grad()
            logits = student(*collate(tokens, rows))
            value = loss(logits, torch.zeros(6), rows)
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        # A batch in parts: the mean over its rows.
        with torch.no_grad():
            parts = [
                float(loss(student(*collate(tokens, part)), torch.zeros(1), part)) * len(part) / 6
                for part in (rows[:2], rows[2:])
            ]
            whole = float(loss(student(*collate(tokens, rows)), torch.zeros(1), rows))
        assert sum(parts) == pytest.approx(whole, rel=1e-4)
    assert values[-1] < values[0] / 2
    assert all(weight.grad is None for weight in teacher.parameters())
    assert not any(module._forward_hooks for model in (teacher, student) for module in model.modules())


def test_relation_heads_must_fit() -> None:
    tokens = Tokens.of([[1, 2]])
    with (
        pytest.raises(ConfigError) as caught,
        relation_loss(Relations(heads=12), bert(8, 2), bert(16, 4), tokens),
    ):
        pass
    assert str(caught.value) == (
        "the number of relation heads must divide the attention features of teacher and student, 16 and 8; "
        "got 12; set objective: {kind: relations, heads: 8}"
    )


@pytest.fixture
def teacher(tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    config = {"base_model": str(tiny_base_model), "max_tokens": 16, "frozen_layers": 0, **FAST}
    return fine_tune.run(
        FineTuneConfig.model_validate(config), FineTuneInputs(dataset=topic_dataset), step_context
    ).model


def distilled(teacher: ModelRef, dataset: DatasetRef, context: StepContext, **changes: Any) -> ModelRef:
    folder = context.workdir / f"distil {len(list(context.workdir.iterdir()))}"
    folder.mkdir()
    config = DistillConfig.model_validate({"layers": 1, **FAST, **changes})
    return distill.run(
        config, DistillInputs(dataset=dataset, teacher=teacher), dataclasses.replace(context, workdir=folder)
    ).model


def test_the_objective_is_chosen_by_its_type_and_repeats_to_the_bit(
    teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    relations = {"objective": {"kind": "relations", "heads": 4}}
    one, same, plain = (
        distilled(teacher, topic_dataset, step_context, **changes) for changes in (relations, relations, {})
    )
    assert one.digest == same.digest != plain.digest


def test_other_tokens_have_no_common_relations(
    teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    folder = step_context.workdir / "prune"
    folder.mkdir()
    context = dataclasses.replace(step_context, workdir=folder)
    # Without the train rows that have the word "coach", the pruned tokenizer loses it.
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    kept = ["coach" not in text for text in table.column("body").to_pylist()]
    write_deltalake(f"{topic_dataset.uri}_few", table.filter(kept))
    few = topic_dataset.model_copy(update={"uri": f"{topic_dataset.uri}_few"})
    inputs = PruneInputs(dataset=few, model=teacher)
    pruned = prune.run(PruneConfig(moves=(), epochs=0), inputs, context).model
    config = PruneConfig.model_validate({**FAST, "objective": {"kind": "relations"}, "moves": []})
    with pytest.raises(ModelError, match="must have the same tokenizer where relations between tokens"):
        prune.run(config, PruneInputs(dataset=few, model=pruned, teacher=teacher), context)
