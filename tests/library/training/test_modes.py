"""What a fine-tuning trains, and what it learns: classes, sets of classes, numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import fine_tune
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.tasks.calibration import Isotonic, Temperature
from modelmill.tasks.examples import LabelledData, Rows
from modelmill.tasks.kinds import task_of
from modelmill.training.calibration import fit_calibration
from modelmill.training.losses import supervised_loss
from modelmill.training.options import IsotonicRegression, TemperatureScaling
from modelmill.training.tuning_modes import tuned

IDS = torch.tensor([[2, 5, 20, 3]])


def configured(base: Path, **changes: Any) -> FineTuneConfig:
    settings = {"epochs": 6, "batch_size": 8, "frozen_layers": 0, "learning_rate": 3e-3, "max_tokens": 16}
    return FineTuneConfig.model_validate({"base_model": str(base), **settings, **changes})


def classifier(base: Path) -> Classifier:
    return Classifier(load_base_model(str(base), max_tokens=16, dropout=0).encoder, classes=2).eval()


def test_lora_trains_additions_and_merges_them(tiny_base_model: Path) -> None:
    model = classifier(tiny_base_model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with tuned(model, configured(tiny_base_model, mode={"kind": "lora", "rank": 2})):
        trained = {name: value for name, value in model.encoder.named_parameters() if value.requires_grad}
        assert trained
        assert all("lora_" in name for name in trained)
        with torch.no_grad():
            for value in trained.values():
                value.add_(0.1)
            apart = model(IDS, torch.ones_like(IDS))
    after = model.state_dict()
    assert list(after) == list(before)
    changed = {name.rsplit(".", 2)[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"query", "value"}
    with torch.no_grad():
        assert torch.allclose(model(IDS, torch.ones_like(IDS)), apart, atol=1e-5)


def test_last_layers_freeze_the_others(tiny_base_model: Path) -> None:
    config = configured(tiny_base_model, mode={"kind": "last_layers", "layers": 1}, train_embeddings=True)
    with tuned(classifier(tiny_base_model), config) as settings:
        assert (settings.frozen_layers, settings.train_embeddings) == (1, False)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ({"kind": "last_layers", "layers": 3}, "mode.layers must not exceed the model's layers, 2; got 3"),
        ({"kind": "lora", "modules": ["nothing"]}, "LoRA needs the names of layers to add to"),
    ],
)
def test_modes_that_do_not_fit_are_refused(tiny_base_model: Path, mode: dict[str, Any], message: str) -> None:
    with (
        pytest.raises(ConfigError, match=message),
        tuned(classifier(tiny_base_model), configured(tiny_base_model, mode=mode)),
    ):
        pass


@pytest.fixture
def sets_and_numbers(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> DatasetRef:
    rows = [text for text, _ in topic_rows(160)]
    columns = {
        "id": [f"{n:03d}" for n in range(160)],
        "body": rows,
        "split": ["train"] * 120 + ["validation"] * 40,
        "topics": pa.array(
            [
                [
                    name
                    for name, words in (("sport", "goal match team"), ("trade", "bank share price"))
                    if set(words.split()) & set(text.split())
                ]
                for text in rows
            ],
            pa.list_(pa.string()),
        ),
        "length": pa.array([100.0 + 10 * len(text.split()) for text in rows]),
    }
    uri = tmp_path / "tables" / "kinds"
    write_deltalake(str(uri), pa.table(columns))
    return DatasetRef(
        uri=str(uri), version=0, key="id", text="body", labels=("topics", "length"), split="split"
    )


def test_sets_of_classes_and_numbers_are_learned(
    tiny_base_model: Path, sets_and_numbers: DatasetRef, step_context: StepContext
) -> None:
    found = {}
    for label in ("topics", "length"):
        folder = step_context.workdir / label
        folder.mkdir()
        context = dataclasses.replace(step_context, workdir=folder)
        config = configured(tiny_base_model, label=label, epochs=10, class_weights="balanced")
        model = fine_tune.run(config, FineTuneInputs(dataset=sets_and_numbers), context).model
        found[label] = load_scorer(fetch_bundle(model, step_context.cache))
    assert found["topics"].info.target == "classes"
    assert isinstance(found["topics"].info.calibration, Temperature)
    probabilities = found["topics"].probabilities(["goal match team", "bank share price"])
    assert probabilities[0, 0] > probabilities[1, 0]
    assert probabilities[1, 1] > probabilities[0, 1]
    assert (found["length"].info.target, found["length"].info.calibration) == ("number", None)
    short, long = found["length"].probabilities(["goal the of", "goal the of a with new said today goal the"])
    assert 100 < short[0] < long[0] < 250
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert {"validation_micro_f1", "validation_r2", "validation_rmse"} <= set(metrics)


def test_weighted_losses_are_means_over_rows() -> None:
    targets = np.array([0, 0, 0, 1])
    data = LabelledData("x", ("a", "b"), Rows(np.arange(4), targets), Rows(np.arange(0), targets[:0]))
    loss = supervised_loss(data, "balanced")
    logits = torch.zeros(4, 2)
    # Rows of a count 4 / (2 * 3), the row of b counts 4 / (2 * 1): together as much as four rows.
    assert float(loss(logits, torch.from_numpy(targets), None)) == pytest.approx(np.log(2))
    parts = [loss(logits[at : at + 2], torch.from_numpy(targets[at : at + 2]), None) / 2 for at in (0, 2)]
    assert float(sum(parts)) == pytest.approx(np.log(2))


def test_calibrated_scores_are_probabilities() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(4000, 3))
    targets = (np.exp(truth) / np.exp(truth).sum(1, keepdims=True)).cumsum(1)
    targets = (random.random((4000, 1)) > targets).sum(1)
    sure = (truth * 3).astype(np.float32)
    warm = fit_calibration(TemperatureScaling(), sure, targets, task=task_of("class"))
    assert isinstance(warm, Temperature)
    assert warm.temperature == pytest.approx(3, rel=0.1)
    bent = fit_calibration(IsotonicRegression(), sure, targets, task=task_of("class"))
    assert isinstance(bent, Isotonic)
    info = BundleInfo(format="onnx", label="x", classes=("a", "b", "c"), text="t", max_tokens=8, parameters=1)
    for calibration in (warm, bent):
        calibrated = BundleInfo.model_validate_json(
            info.model_copy(update={"calibration": calibration}).model_dump_json()
        )
        scores = calibrated.probabilities(sure)
        assert scores.sum(1) == pytest.approx(1, abs=1e-5)
        top = scores.max(1)
        assert top.mean() == pytest.approx((scores.argmax(1) == targets).mean(), abs=0.03)
        assert calibrated.answers(sure[:1])[0] == [info.classes[sure[0].argmax()]]
    assert fit_calibration(TemperatureScaling(), sure[:5], targets[:5], task=task_of("class")) is None
