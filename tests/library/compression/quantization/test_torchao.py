"""Quantisation by torchao: it answers alike from a file without code, and says what needs a GPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.options import TORCH_METHODS, SearchSpace
from modelmill.compression.quantization.torchao import TorchMethod
from modelmill.errors import ConfigError, ModelError
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import fine_tune, quantize
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.steps.quantize import QuantizeConfig

TEXTS = ["the goal match today", "a bank loan today", "goal", ""]


@pytest.fixture
def trained(tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    config = FineTuneConfig(
        base_model=str(tiny_base_model),
        epochs=4,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        frozen_layers=0,
        max_tokens=8,
        lexical_tokens=24,
    )
    return fine_tune.run(config, FineTuneInputs(dataset=topic_dataset), step_context).model


@pytest.fixture
def quantised(trained: ModelRef, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    context = dataclasses.replace(step_context, workdir=step_context.workdir / "later")
    context.workdir.mkdir()
    inputs = quantize.QuantizeInputs(dataset=topic_dataset, model=trained)
    return quantize.run(QuantizeConfig(method="int8_torch"), inputs, context).model


@pytest.mark.parametrize("name", TORCH_METHODS.names)
def test_no_method_is_for_onnx_files(name: str) -> None:
    assert isinstance(TORCH_METHODS.load(name), TorchMethod)
    with pytest.raises(ValueError, match="must be known"):
        SearchSpace(quantization=(name,))


def test_int8_is_smaller_and_answers_alike(
    trained: ModelRef, quantised: ModelRef, step_context: StepContext
) -> None:
    assert (quantised.role, quantised.format, quantised.parent) == ("exported", "torchao", trained.uri)
    whole, small = (fetch_bundle(model, step_context.cache) for model in (trained, quantised))
    stored = load_file(small / "model.safetensors")
    narrow = [name for name, value in stored.items() if value.dtype == torch.int8 and value.shape[-1] > 1]
    assert any("embeddings" in name for name in narrow)
    assert sum("layer" in name for name in narrow) == 2 * 6  # products of each layer
    assert bundle_bytes(small) < 0.5 * bundle_bytes(whole)
    first, second = load_scorer(whole).logits(TEXTS), load_scorer(small).logits(TEXTS)
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert cosine.min() > 0.99
    assert not np.array_equal(first, second)
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert metrics["drift"] <= 0.05


def test_it_is_an_mlflow_model(quantised: ModelRef, step_context: StepContext) -> None:
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(quantised.uri)
    answers = model.predict(pd.DataFrame({"body": TEXTS[:2]}))
    assert answers.iloc[:, 0].tolist() == ["sport", "trade"]
    requirements = mlflow.pyfunc.get_model_dependencies(quantised.uri)
    assert "torchao" in Path(requirements).read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a GPU")
@pytest.mark.parametrize(("method", "least"), [("int4_torch", "8.0"), ("fp8_torch", "8.9")])
def test_what_needs_a_gpu_says_so(
    method: str, least: str, trained: ModelRef, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    inputs = quantize.QuantizeInputs(dataset=topic_dataset, model=trained)
    with pytest.raises(ConfigError) as caught:
        quantize.run(QuantizeConfig(method=method), inputs, step_context)
    assert str(caught.value) == (
        f"{method} needs a GPU of compute capability {least} or more; got 'no GPU'; "
        "give the step a GPU (resources: {gpus: 1}), or take int8_torch or int8_dynamic"
    )


def copied(bundle: Path, to: Path) -> Path:
    to.mkdir()
    for path in bundle.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a GPU")
def test_a_file_for_a_gpu_is_refused_elsewhere(
    quantised: ModelRef, step_context: StepContext, tmp_path: Path
) -> None:
    folder = copied(fetch_bundle(quantised, step_context.cache), tmp_path / "bundle")
    BundleInfo.load(folder).model_copy(update={"device": "cuda"}).save(folder)
    with pytest.raises(ModelError, match="computes in int4 or fp8 runs on a GPU; got 'device cpu'"):
        load_scorer(folder)


@pytest.mark.parametrize("how", ["cut", "no metadata", "a class of its own", "a weight is missing"])
def test_damaged_weights_are_refused(
    how: str, quantised: ModelRef, step_context: StepContext, tmp_path: Path
) -> None:
    folder = copied(fetch_bundle(quantised, step_context.cache), tmp_path / "bundle")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif how == "no metadata":
        save_file(tensors, path)
    elif how == "a class of its own":
        evil = json.dumps({"_type": "os.system", "_data": {}, "_tensor_data_names": []})
        save_file(tensors, path, {"tensor_names": json.dumps(["head.weight"]), "head.weight": evil})
    else:
        save_file({"head.bias": tensors["head.bias"]}, path, {"tensor_names": "[]"})
    with pytest.raises(ModelError, match=r"model.safetensors must hold the weights"):
        load_scorer(folder)
