"""What pruning takes out of a model, and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import BertConfig, DistilBertConfig, GPT2Config, GPT2Model, MPNetConfig

from modelmill.compression.options import (
    PRUNING_METHODS,
    ActivationImportance,
    PruneMove,
    TaylorImportance,
)
from modelmill.compression.pruning.heads import attention_heads
from modelmill.compression.pruning.inner_units import inner_units
from modelmill.errors import ConfigError, ModelError
from modelmill.models.attention import KEPT_HEADS, attentions
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import (
    Classifier,
    all_logits,
    load_classifier,
    parameter_count,
    save_classifier,
)
from modelmill.models.encoder import build_encoder, layer_list
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.tokens.token_ids import Tokens
from modelmill.training.rows import EncodedRows
from modelmill.training.student import make_student

HEADS = 4
SIZE = {"vocab_size": 20, "max_position_embeddings": 16}
CONFIGS = (
    BertConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=HEADS, intermediate_size=32, **SIZE),
    DistilBertConfig(dim=16, n_layers=3, n_heads=HEADS, hidden_dim=32, **SIZE),
)
IMPORTANCES = (TaylorImportance(), ActivationImportance())


@pytest.fixture
def rows() -> EncodedRows:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 8, 40)
    return EncodedRows(
        Tokens.of(random.integers(1, 20, length) for length in lengths), random.integers(0, 2, 40)
    )


@pytest.fixture(params=CONFIGS, ids=["bert", "distilbert"])
def model(request: pytest.FixtureRequest) -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_encoder(request.param), classes=2).eval()


def silence(model: Classifier, silent: dict[int, list[int]]) -> None:
    """Let heads of some layers add nothing."""
    parts = attentions(model.encoder, layer_list(model.encoder)[1])
    with torch.no_grad():
        for layer, heads in silent.items():
            for head in heads:
                size = parts[layer].size
                parts[layer].output.weight[:, head * size : (head + 1) * size] = 0.0


@pytest.mark.parametrize("importance", IMPORTANCES, ids=["taylor", "activation"])
def test_heads_that_do_nothing_go_first(
    model: Classifier, rows: EncodedRows, importance: Any, tmp_path: Path, tiny_base_model: Path
) -> None:
    silence(model, {0: [0, 2, 3], 1: [1], 2: [0, 2]})
    small = attention_heads(model, keep=0.5, rows=rows, importance=importance)
    assert getattr(small.config, KEPT_HEADS) == [1, 3, 2]
    assert np.allclose(all_logits(small, rows.tokens), all_logits(model, rows.tokens), atol=1e-6)
    # A head of 4 features has three projections and its part of the output.
    assert parameter_count(model) - parameter_count(small) == 6 * 4 * (4 * 16 + 3)
    assert not hasattr(model.config, KEPT_HEADS)

    info = BundleInfo(format="torch", label="x", classes=("a", "b"), text="body", max_tokens=8, parameters=1)
    save_classifier(small, tmp_path / "small", tokenizer=tiny_base_model / "tokenizer.json", info=info)
    again = load_classifier(tmp_path / "small")
    assert np.array_equal(all_logits(again, rows.tokens), all_logits(small, rows.tokens))
    # A student of a pruned teacher has the heads of the layers that it takes.
    half = make_student(again, layers=2, dropout=0.0)
    assert getattr(half.config, KEPT_HEADS) == [1, 2]
    # Heads of a pruned model can be pruned again, and inner units beside them.
    both = inner_units(attention_heads(again, keep=0.5, rows=rows), keep=0.5, rows=rows)
    assert getattr(both.config, KEPT_HEADS) == [1, 1, 1]
    if importance is not IMPORTANCES[0]:
        return  # what is exported does not depend on it, and an export takes seconds
    export_onnx(both, tmp_path / "model.onnx")
    check_parity(both, tmp_path / "model.onnx", rows.tokens)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].name == "logits"


@pytest.mark.parametrize("importance", IMPORTANCES, ids=["taylor", "activation"])
def test_inner_units_that_do_nothing_go_first(model: Classifier, rows: EncodedRows, importance: Any) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.shape == (16, 32):  # what narrows
                weight[:, ::2] = 0.0
                assert "weight" in name
    small = inner_units(model, keep=0.5, rows=rows, importance=importance)
    assert np.allclose(all_logits(small, rows.tokens), all_logits(model, rows.tokens), atol=1e-6)


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_sets_and_numbers_say_what_matters_too(kind: Any, rows: EncodedRows) -> None:
    torch.manual_seed(0)
    outputs = {"classes": 2, "number": 1}[kind]
    model = Classifier(build_encoder(CONFIGS[0]), classes=outputs).eval()
    silence(model, {0: [0, 1], 1: [2, 3], 2: [1, 2]})
    targets = np.eye(2, dtype=np.float32)[rows.targets] if outputs == 2 else rows.targets.astype(np.float32)
    small = attention_heads(model, keep=0.5, rows=EncodedRows(rows.tokens, targets, kind))
    assert np.allclose(all_logits(small, rows.tokens), all_logits(model, rows.tokens), atol=1e-6)


def test_frozen_layers_can_be_measured(rows: EncodedRows) -> None:
    model = Classifier(build_encoder(CONFIGS[0]), classes=2).eval().requires_grad_(False)
    assert getattr(attention_heads(model, keep=0.01, rows=rows).config, KEPT_HEADS) == [1, 1, 1]


def test_heads_that_share_a_bias_are_refused(rows: EncodedRows) -> None:
    config = MPNetConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32)
    with pytest.raises(ModelError, match="and no bias that layers share; got 'mpnet'; leave the heads"):
        attention_heads(Classifier(build_encoder(config), classes=2), keep=0.5, rows=rows)
    other = Classifier(GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)), classes=2)
    with pytest.raises(ModelError, match="got 'gpt2'"):
        attention_heads(other, keep=0.5, rows=rows)


@pytest.mark.parametrize("counts", [[1, 2], [0, 1, 1], [5, 1, 1], "two"])
def test_a_configuration_with_impossible_heads_is_refused(counts: Any) -> None:
    config = BertConfig(**{**CONFIGS[0].to_dict(), KEPT_HEADS: counts})
    with pytest.raises(ModelError, match="how many heads it has, from 1 to 4"):
        build_encoder(config)


def test_methods_are_known_by_name() -> None:
    assert PRUNING_METHODS.names == ("heads", "inner_units")
    assert PRUNING_METHODS.load("heads") is attention_heads
    with pytest.raises(ValueError, match="did you mean 'heads'"):
        PruneMove(method="head")
    with pytest.raises(ConfigError, match="a method of pruning must be known; got 'halv'"):
        PRUNING_METHODS.load("halv")
