"""Training and answering on lists, as in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import modelmill
from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.errors import DatasetError, ModelError
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import fine_tune
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs

OPTIONS = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2}
TEXTS = ["the goal match today", "a bank loan today"]


def silent(_line: str) -> None:
    pass


def test_lists_are_learned_as_a_step_learns_a_dataset(
    tiny_base_model: Path,
    topic_rows: Callable[..., list[tuple[str, str]]],
    topic_dataset: DatasetRef,
    step_context: StepContext,
    tmp_path: Path,
) -> None:
    texts, labels = map(list, zip(*topic_rows(100), strict=True))
    options = {**OPTIONS, "max_tokens": 16, "frozen_layers": 0, "seed": 1}
    held = texts[60:80], labels[60:80]
    teacher = modelmill.fine_tune(
        texts[:60], labels[:60], base_model=str(tiny_base_model), validation=held, log=silent, **options
    )
    assert teacher.classes == ("sport", "trade")
    assert teacher.predict(TEXTS) == ["sport", "trade"]
    assert teacher.metrics["validation_accuracy"] >= 0.9
    assert teacher.predict_proba(TEXTS).sum(axis=1) == pytest.approx(1, abs=1e-5)

    config = FineTuneConfig.model_validate({"base_model": str(tiny_base_model), **options})
    logged = fine_tune.run(config, FineTuneInputs(dataset=topic_dataset), step_context).model
    weights = [
        load_file(folder / "model.safetensors")
        for folder in (teacher.folder, fetch_bundle(logged, step_context.cache))
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(value, weights[1][name]) for name, value in weights[0].items())

    student = modelmill.distill(
        teacher,
        texts[:60],
        labels[:60],
        validation=held,
        unlabelled=["goal goal bank", texts[0]],
        layers=1,
        log=silent,
        **OPTIONS,
    )
    assert student.metrics["teacher_agreement"] >= 0.8
    assert student.info.parameters < teacher.info.parameters
    again = modelmill.Model.load(student.save(tmp_path / "student"))
    assert np.array_equal(again.predict_proba(TEXTS), student.predict_proba(TEXTS))
    folder = teacher.folder
    del teacher
    assert not folder.exists()


def test_sets_of_classes_and_numbers(
    tiny_base_model: Path, topic_rows: Callable[..., list[tuple[str, str]]]
) -> None:
    texts = [text for text, _ in topic_rows(40)]
    options = {"base_model": str(tiny_base_model), "max_tokens": 16, "epochs": 1, "log": silent}
    sets = modelmill.fine_tune(texts, [sorted(set(text.split()) & {"the", "a"}) for text in texts], **options)
    assert all(isinstance(answer, list) for answer in sets.predict(TEXTS))
    numbers = modelmill.fine_tune(texts, [float(len(text)) for text in texts], **options)
    assert all(isinstance(answer, float) for answer in numbers.predict(TEXTS))
    with pytest.raises(ModelError, match="call predict"):
        numbers.predict_proba(TEXTS)
    with pytest.raises(DatasetError, match="the train rows must have labels"):
        modelmill.fine_tune(texts, [None] * len(texts), **options)
