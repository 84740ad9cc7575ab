"""Another distribution adds methods by entry points alone: they are offered, checked, run, and tried."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.models.classifier import load_classifier
from modelmill.pipeline.catalogue import catalogue
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.tracking import tracking_client
from modelmill.steps import compress, fine_tune, prune, quantize, trunk

MODULE = '''
"""Methods of another distribution."""

import copy

import onnx
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig

from modelmill.compression.quantization.torchao import TorchMethod


def signed(source, target, rows):
    """Keep the numbers, and sign the file."""
    assert 0 < len(rows) <= 64
    model = onnx.load(source)
    model.producer_name = "signed"
    onnx.save(model, target)


def first_layers(model, *, keep, rows, importance):
    """Keep the first layers."""
    small = copy.deepcopy(model).eval()
    layers = small.encoder.encoder.layer
    small.config.num_hidden_layers = max(1, round(keep * len(layers)))
    small.encoder.encoder.layer = layers[: small.config.num_hidden_layers]
    return small


eight_bits = TorchMethod(lambda library: Int8WeightOnlyConfig())
'''

ENTRY_POINTS = """
[modelmill.quantization]
signed = foreign_methods:signed
int8_static = foreign_methods:missing

[modelmill.torch_quantization]
eight_bits = foreign_methods:eight_bits

[modelmill.pruning]
first_layers = foreign_methods:first_layers
"""


@pytest.fixture(autouse=True)
def foreign_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install another distribution that adds methods."""
    site = tmp_path / "site"
    info = site / "foreign_methods-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "foreign_methods.py").write_text(textwrap.dedent(MODULE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-methods\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("foreign_methods", None)


@pytest.fixture
def teacher(tiny_base_model: Path, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    config = fine_tune.FineTuneConfig(
        base_model=str(tiny_base_model), epochs=4, batch_size=8, learning_rate=3e-3, max_tokens=16
    )
    inputs = fine_tune.FineTuneInputs(dataset=topic_dataset)
    return fine_tune.run(config, inputs, in_folder(step_context, "teacher")).model


def in_folder(context: StepContext, name: str) -> StepContext:
    folder = context.workdir / name
    folder.mkdir()
    return dataclasses.replace(context, workdir=folder)


def producer(model: ModelRef, context: StepContext) -> str:
    return str(onnx.load(fetch_bundle(model, context.cache) / "model.onnx").producer_name)


def test_forms_offer_them() -> None:
    found = {name: str(catalogue()[name].config.model_json_schema()) for name in catalogue()}
    naming = {name for name, schema in found.items() if "'signed'" in schema}
    assert naming == {"quantize", "compress", "trunk", "distill_signals"}
    assert {name for name, schema in found.items() if "'eight_bits'" in schema} == {"quantize"}
    assert {name for name, schema in found.items() if "'first_layers'" in schema} == {"prune"}


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="a method of quantisation must be known: did you mean 'signed'"):
        quantize.QuantizeConfig(method="sined")
    with pytest.raises(ValueError, match="a method of pruning must be known: did you mean 'first_layers'"):
        prune.PruneConfig.model_validate({"moves": [{"method": "first_layer"}]})
    with pytest.raises(ValueError, match="a method of quantisation must be known"):
        trunk.TrunkConfig(method="int8_static")


def test_quantize_takes_them(teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext) -> None:
    inputs = quantize.QuantizeInputs(dataset=topic_dataset, model=teacher)
    config = quantize.QuantizeConfig(method="signed")
    model = quantize.run(config, inputs, in_folder(step_context, "graph")).model
    assert producer(model, step_context) == "signed"
    config = quantize.QuantizeConfig(method="eight_bits")
    assert quantize.run(config, inputs, in_folder(step_context, "torch")).model.format == "torchao"
    # None of modelmill's own is replaced.
    config = quantize.QuantizeConfig(method="int8_static")
    assert quantize.run(config, inputs, in_folder(step_context, "own")).model.format == "onnx"


def test_a_trunk_is_made_with_them(tiny_base_model: Path, step_context: StepContext) -> None:
    config = trunk.TrunkConfig(base_model=str(tiny_base_model), max_tokens=16, method="signed")
    stem = trunk.trunk.run(config, trunk.TrunkInputs(), in_folder(step_context, "trunk")).trunk
    assert producer(stem, step_context) == "signed"


def test_compress_tries_them(teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext) -> None:
    space = {"families": ["transformer"], "layers": [1], "widths": [0.5], "heads": [1.0], "tokens": [16]}
    config = compress.CompressConfig.model_validate(
        {
            "budget": {"max_metric_drop": 0.9},
            "epochs": 1,
            "exhaustive": True,
            "space": {**space, "vocabularies": ["seen"], "quantization": ["signed"]},
        }
    )
    inputs = compress.CompressInputs(dataset=topic_dataset, teacher=teacher)
    found = compress.compress.run(config, inputs, in_folder(step_context, "compress"))
    client = tracking_client(step_context.settings.tracking_uri)
    models = client.search_logged_models([step_context.run.experiment_id])
    recipes = {model.tags.get("modelmill.recipe") for model in models}
    assert {
        "teacher: 2 layers, 16 tokens, signed, seen tokens",
        "transformer: 1 layer, 16 tokens, width 0.5, signed, seen tokens",
    } <= recipes
    assert found.model.role == "compressed"


def test_prune_takes_them(teacher: ModelRef, topic_dataset: DatasetRef, step_context: StepContext) -> None:
    config = prune.PruneConfig.model_validate({"moves": [{"method": "first_layers", "keep": 0.5}]})
    inputs = prune.PruneInputs(dataset=topic_dataset, model=teacher)
    model = prune.prune.run(config, inputs, in_folder(step_context, "prune")).model
    small = load_classifier(fetch_bundle(model, step_context.cache))
    assert small.config.num_hidden_layers == 1
