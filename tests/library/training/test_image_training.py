"""Models that are trained on images: fine-tuned, judged, promoted, served."""

from __future__ import annotations

import base64
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tests.library.training.photos import KINDS, picture

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError, PipelineError
from modelmill.evaluation.options import EvaluationOptions
from modelmill.evaluation.report import FetchedModel, evaluate_models
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import load_classifier, parameter_count
from modelmill.models.encoder import depth
from modelmill.models.image_base import load_image_base
from modelmill.models.predictions import answers_to
from modelmill.models.scorers import load_scorer
from modelmill.pipeline.validation import load_pipeline
from modelmill.registry.bundles import fetch_bundle
from modelmill.serving.answering import answers_of
from modelmill.steps import distill, fine_tune, gate, promote, quantize, trunk
from modelmill.training.options import FullTuning, LastLayers, LoraTuning, Relations, TuningMode


def tuned(dataset: DatasetRef, encoder: Path, context: StepContext, **options: Any) -> ModelRef:
    given = {"epochs": 15, "batch_size": 8, "learning_rate": 0.01, "head_learning_rate": 0.02}
    config = fine_tune.FineTuneConfig(
        base_model=str(encoder), **{"label": "kind", "frozen_layers": 0, **given, **options}
    )
    fine_tune.check(config)
    return fine_tune.run(config, fine_tune.FineTuneInputs(dataset=dataset), step(context)).model


def step(context: StepContext) -> StepContext:
    """Return the context of another step: a step resumes from the checkpoints of its own work directory."""
    return dataclasses.replace(context, workdir=Path(tempfile.mkdtemp(dir=context.workdir)))


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
    answered(champion)


def answered(champion: ModelRef) -> None:
    """The page that takes a picture shows what the network says, or why it says nothing."""
    [answer] = answers_of([champion], picture(KINDS[0], 500))
    assert (answer.answer, answer.error) == (KINDS[0], "")
    assert answer.classes[0].name == KINDS[0]
    [broken] = answers_of([champion], picture(KINDS[0], 500)[:40])
    assert broken.error.startswith("the image must be one that can be read")
    [text] = answers_of([champion], "a text")
    assert text.error.startswith("this model reads images")


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
    for label in ("traits", "light"):
        model = tuned(photos, image_encoder, step_context, label=label)
        scorer = load_scorer(fetch_bundle(model, step_context.cache))
        assert scorer.info.target == {"traits": "classes", "light": "number"}[label]
        asked = [picture("plain", 75), picture("stripes", 1), None, b"no image"]
        answers, _ = answers_to(scorer, asked)
        assert answers[2:] == [None, None]
        if label == "traits":
            assert answers[:2] == [["bright", "flat"], []]
        else:
            assert abs(answers[0] - 165) < 15
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


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller encoder of another architecture, with random weights."""
    from transformers import ConvNextConfig, ConvNextModel

    folder = tmp_path_factory.mktemp("other")
    torch.manual_seed(1)
    sizes = {"hidden_sizes": [8, 10], "depths": [1, 1], "num_stages": 2, "patch_size": 4}
    ConvNextModel(ConvNextConfig(**sizes)).save_pretrained(folder)
    said = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def distilled(
    dataset: DatasetRef,
    teacher: ModelRef,
    context: StepContext,
    *,
    transfer: TableRef | None = None,
    **options: Any,
) -> ModelRef:
    given = {
        "epochs": 15,
        "batch_size": 8,
        "learning_rate": 0.01,
        "head_learning_rate": 0.02,
        "label": "kind",
    }
    config = distill.DistillConfig(**{**given, **options})
    distill.check(config)
    inputs = distill.DistillInputs(dataset=dataset, teacher=teacher, transfer=transfer)
    return distill.run(config, inputs, step(context)).model


def test_a_student_has_fewer_stages_or_an_encoder_of_its_own(
    photos: DatasetRef, image_encoder: Path, other_encoder: Path, step_context: StepContext
) -> None:
    teacher = tuned(photos, image_encoder, step_context)
    large = load_classifier(fetch_bundle(teacher, step_context.cache))
    for options, stages, kind in (
        ({"layers": 1}, 1, "resnet"),
        ({"student": str(other_encoder)}, 2, "convnext"),
    ):
        folder = fetch_bundle(distilled(photos, teacher, step_context, **options), step_context.cache)
        student, info = load_classifier(folder), BundleInfo.load(folder)
        assert (depth(student.encoder), student.config.model_type) == (stages, kind)
        assert info.parameters == parameter_count(student) < parameter_count(large)
        # It reads images of its teacher's size.
        assert info.max_tokens == 3 * 16 * 16
        asked = [picture(name, 700) for name in KINDS] + [None]
        assert answers_to(load_scorer(folder), asked)[0] == [*KINDS, None]


def test_the_encoder_of_a_fine_tuned_network_is_a_trunk(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    model = tuned(photos, image_encoder, step_context, label="light", epochs=2, early_layers=1)
    encoder = load_classifier(fetch_bundle(model, step_context.cache)).encoder.encoder
    made = trunk.run(trunk.TrunkConfig(), trunk.TrunkInputs(model=model), step(step_context)).trunk
    info = BundleInfo.load(fetch_bundle(made, step_context.cache))
    assert (info.format, info.content, info.text) == ("trunk", "image", "photo")
    # The last layer's channels; mean and spread of those of the first one.
    assert (info.features, info.early_features) == (12 + 2 * 8, 2 * 8)
    assert info.features == encoder.features


def test_a_student_learns_a_number(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    teacher = tuned(photos, image_encoder, step_context, label="light")
    model = distilled(photos, teacher, step_context, label="light", layers=1)
    answers, _ = answers_to(
        load_scorer(fetch_bundle(model, step_context.cache)), [picture("plain", 75), picture("stripes", 1)]
    )
    assert abs(answers[0] - 165) < 20
    assert abs(answers[1] - 51) < 20


def test_what_a_student_of_images_cannot_learn_is_refused_before_it_is_trained(
    photos: DatasetRef, image_encoder: Path, tiny_base_model: Path, step_context: StepContext
) -> None:
    teacher = tuned(photos, image_encoder, step_context, epochs=1)
    table = TableRef(uri=photos.uri, version=0)
    for options, error, said in (
        ({"layers": 3}, ModelError, "more stages than its teacher, 2; got 3; set layers to at most 2"),
        (
            {"objective": Relations()},
            ConfigError,
            "learns its teacher's answers alone.*leave objective empty",
        ),
        ({"student": str(tiny_base_model)}, ConfigError, "student names an encoder of images"),
        ({"transfer": table}, ConfigError, "input transfer are texts, and the teacher reads images"),
    ):
        with pytest.raises(error, match=said):
            distilled(photos, teacher, step_context, **options)


def quantised(dataset: DatasetRef, model: ModelRef, context: StepContext, method: str) -> ModelRef:
    config = quantize.QuantizeConfig(method=method)
    return quantize.run(config, quantize.QuantizeInputs(dataset=dataset, model=model), step(context)).model


def test_a_network_is_exported_and_answers_the_same(
    photos: DatasetRef, image_encoder: Path, step_context: StepContext
) -> None:
    model = tuned(photos, image_encoder, step_context)
    large = load_scorer(fetch_bundle(model, step_context.cache))
    images = [picture(kind, seed) for seed in range(3) for kind in KINDS]
    wanted = large.logits(images)
    folder = fetch_bundle(quantised(photos, model, step_context, "none"), step_context.cache)
    info = BundleInfo.load(folder)
    assert (info.format, info.content, info.classes) == ("onnx", "image", large.info.classes)
    np.testing.assert_allclose(load_scorer(folder).logits(images), wanted, atol=1e-3)
    with pytest.raises(ConfigError, match=r"is for products of matrices; got .int4_weights.;"):
        quantised(photos, model, step_context, "int4_weights")
    files = []
    for _ in range(2):
        folder = fetch_bundle(quantised(photos, model, step_context, "int8_static"), step_context.cache)
        files.append((folder / "model.onnx").read_bytes())
    assert files[0] == files[1]
    answers, _ = answers_to(load_scorer(folder), [*images, None, b"no image"])
    assert answers == [*list(KINDS) * 3, None, None]
    graph = onnx.load_from_string(files[0]).graph
    scaled = {one.input[0] for one in graph.node if one.op_type == "DequantizeLinear"}
    small = [one for one in graph.initializer if one.name in scaled and len(one.dims) == 4]
    assert len(small) == sum(one.op_type == "Conv" for one in graph.node) > 4
    assert {one.data_type for one in small} == {onnx.TensorProto.INT8}


PIPELINE = """
pipeline: photos
steps:
  source: {component: delta_table, config: {uri: /data/photos}}
  dataset:
    component: build_dataset
    inputs: {table: source.table}
    config: {image: photo, labels: [kind]}
  teacher:
    component: fine_tune
    inputs: {dataset: dataset.dataset}
    config: {base_model: /nowhere/encoder}
  small:
    component: quantize
    inputs: {dataset: dataset.dataset, model: teacher.model}
    config: {method: int4_weights}
"""


def test_a_method_that_is_not_for_images_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "photos.yaml"
    path.write_text(PIPELINE)
    with pytest.raises(PipelineError) as error:
        load_pipeline(str(path))
    (problem,) = error.value.problems
    assert "got 'int4_weights'; set method: int8_static or none" in str(problem)
    assert "step 'dataset' makes a dataset of images alone" in str(problem)
    for better in (
        PIPELINE.replace("int4_weights", "int8_static"),
        PIPELINE.replace("image: photo", "text: words"),
    ):
        path.write_text(better)
        load_pipeline(str(path))
