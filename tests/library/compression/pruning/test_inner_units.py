"""Inner units: which go first, and where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, GPT2Config, GPT2Model

from modelmill.compression.pruning.inner_units import inner_units
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, all_logits, load_classifier, save_classifier
from modelmill.models.encoder import build_encoder, layer_list
from modelmill.tokens.token_ids import Tokens
from modelmill.training.rows import EncodedRows


@pytest.fixture
def rows() -> EncodedRows:
    random = np.random.default_rng(0)
    return EncodedRows(Tokens.of(random.integers(1, 20, (12, 6))), random.integers(0, 2, 12))


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    return Classifier(build_encoder(config), classes=2).eval()


def test_units_that_do_nothing_go_first(
    model: Classifier, rows: EncodedRows, tmp_path: Path, tiny_base_model: Path
) -> None:
    silent = [1, 2, 5, 7, 8, 11, 12, 15]
    with torch.no_grad():
        for layer in layer_list(model.encoder)[1]:
            layer.output.dense.weight[:, silent] = 0.0
    small = inner_units(model, keep=0.5, rows=rows)
    assert small.config.intermediate_size == 8
    assert np.allclose(all_logits(small, rows.tokens), all_logits(model, rows.tokens), atol=1e-6)
    assert model.config.intermediate_size == 16
    info = BundleInfo(format="torch", label="x", classes=("a", "b"), text="body", max_tokens=8, parameters=1)
    save_classifier(small, tmp_path / "small", tokenizer=tiny_base_model / "tokenizer.json", info=info)
    again = load_classifier(tmp_path / "small")
    assert np.array_equal(all_logits(again, rows.tokens), all_logits(small, rows.tokens))


def test_an_architecture_without_such_units_is_refused(rows: EncodedRows) -> None:
    model = Classifier(GPT2Model(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2)), classes=2)
    with pytest.raises(ModelError, match="linear layers that widen and one that narrows; got 'gpt2'"):
        inner_units(model, keep=0.5, rows=rows)
