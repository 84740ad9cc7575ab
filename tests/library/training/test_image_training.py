"""Models that are trained on images: fine-tuned, judged, promoted, served."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tests.library.training.photos import KINDS, picture

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.report import FetchedModel, evaluate_models
from modelmill.models.bundle import BundleInfo
from modelmill.models.image_base import load_image_base
from modelmill.models.predictions import answers_to
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import fine_tune, gate, promote
from modelmill.training.options import FullTuning, LastLayers, LoraTuning, TuningMode


def tuned(dataset: DatasetRef, encoder: Path, context: StepContext, **options: Any) -> ModelRef:
    given = {"epochs": 15, "batch_size": 8, "learning_rate": 0.01, "head_learning_rate": 0.02}
    config = fine_tune.FineTuneConfig(
        base_model=str(encoder), **{"label": "kind", "frozen_layers": 0, **given, **options}
    )
    fine_tune.check(config)
    return fine_tune.run(config, fine_tune.FineTuneInputs(dataset=dataset), context).model


def test_a_fine_tuned_network_becomes_a_served_champion(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    model = tuned(photos, image_encoder, step_context)
    folder = fetch_bundle(model, step_context.cache)
    info = BundleInfo.load(folder)
    assert (info.format, info.content, info.text, info.lexical) == ("torch", "image", "photo", False)
    assert info.max_tokens == 3 * 16 * 16
    options = EvaluationOptions(throughput_rows=32, resamples=100)
    report = evaluate_models([FetchedModel(model, folder)], photos, options, step_context)
    assert report.models[0]["accuracy"].value >= 0.9
    assert report.baselines[1].name.startswith("pixels + ")
    judged = gate.run(
        gate.GateConfig(name="kinds", resamples=200, max_calibration_error=None),
        gate.GateInputs(dataset=photos, challenger=model),
        step_context,
    )
    champion = promote.run(
        promote.PromoteConfig(), promote.PromoteInputs(verdict=judged.verdict), step_context
    ).model
    assert champion.uri.startswith("models:/kinds/")
    served(champion, step_context)


def served(champion: ModelRef, context: StepContext) -> None:
    """MLflow and the service answer with what the network says."""
    import mlflow
    from fastapi.testclient import TestClient

    from modelmill.http_service import create_app
    from modelmill.serving.config import ServeConfig
    from modelmill.serving.service import Service

    images = [picture(kind, 500) for kind in KINDS]
    frame = pd.DataFrame({"photo": [*images, None]})
    answers = mlflow.pyfunc.load_model(champion.uri).predict(frame)["prediction"].tolist()
    assert answers == [*KINDS, None]
    service = Service(ServeConfig(poll_seconds=3600, threads=1, models=("kinds",)), context.settings)
    service.follower.poll()
    service.start = lambda: None  # type: ignore[method-assign]
    service.follower.close = lambda: None  # type: ignore[method-assign]
    try:
        with TestClient(create_app(service)) as client:
            rows = [{"photo": base64.b64encode(image).decode()} for image in images]
            answer = client.post("/v1/predict", json={"rows": rows})
            assert answer.status_code == 200, answer.text
            assert [row["kinds"]["prediction"] for row in answer.json()["rows"]] == list(KINDS)
    finally:
        service.close()


def test_sets_of_classes_and_numbers_are_learned(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    for label, least in (("traits", 0.8), ("light", 0.8)):
        model = tuned(photos, image_encoder, step_context, label=label)
        scorer = load_scorer(fetch_bundle(model, step_context.cache))
        assert scorer.info.target == {"traits": "classes", "light": "number"}[label]
        asked = [picture("plain", 75), picture("stripes", 1), None, b"no image"]
        answers, _ = answers_to(scorer, asked)
        assert answers[2:] == [None, None]
        if label == "traits":
            assert answers[:2] == [["bright", "flat"], []] or answers[:2] == [["flat", "bright"], []]
        else:
            assert abs(answers[0] - 165) < 15, least
            assert abs(answers[1] - 51) < 15


def weights_after(
    mode: TuningMode, photos: DatasetRef, encoder: Path, context: StepContext, **options: Any
) -> set[str]:
    """Return the names of the parts of the encoder that a training changed."""
    model = tuned(photos, encoder, context, mode=mode, epochs=1, **options)
    found = load_file(fetch_bundle(model, context.cache) / "model.safetensors")
    before = load_image_base(str(encoder), early_layers=4).model.state_dict()
    start = "encoder.encoder.model."
    assert {name.removeprefix(start) for name in found if name.startswith(start)} == set(before)
    changed = {name for name, value in before.items() if not torch.equal(value, found[start + name])}
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    return {name.split(".")[0] if name[:3] == "emb" else ".".join(name.split(".")[:3]) for name in changed}


def test_only_the_layers_that_are_named_learn(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    last, first, stem = "encoder.stages.1", "encoder.stages.0", "embedder"
    for mode, frozen, wanted in (
        (LastLayers(layers=1), 0, {last}),
        (FullTuning(), 1, {last}),
        (FullTuning(), 0, {stem, first, last}),
        (FullTuning(), 2, set()),
    ):
        found = weights_after(mode, photos, image_encoder, step_context, frozen_layers=frozen)
        assert found == wanted, mode


def test_what_does_not_fit_an_image_encoder_is_refused(
    photos: DatasetRef, topic_dataset: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    with pytest.raises(ConfigError, match=r"LoRA is for encoders of texts.*set mode: \{kind: last_layers"):
        tuned(photos, image_encoder, step_context, mode=LoraTuning())
    with pytest.raises(ConfigError, match=r"mode\.layers must not exceed the model's layers, 2; got 3"):
        tuned(photos, image_encoder, step_context, mode=LastLayers(layers=3))
    with pytest.raises(ModelError, match="frozen_layers must not exceed the model's layers, 2; got 3"):
        tuned(photos, image_encoder, step_context, frozen_layers=3)
    with pytest.raises(ConfigError, match="this step reads images, and the dataset has none"):
        tuned(topic_dataset, image_encoder, step_context, label="topic")
