"""Export: one file that answers as PyTorch does, at any size."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from modelmill.compression.options import GRAPH_METHODS
from modelmill.errors import ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import Classifier
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.tokens.token_ids import Tokens


@pytest.fixture(scope="module")
def model(tiny_base_model: Path) -> Classifier:
    torch.manual_seed(1)
    encoder = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0.1).encoder
    return Classifier(encoder, classes=3).eval()


@pytest.fixture(scope="module")
def path(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(model, path)
    return path


def test_the_file_stands_alone_and_agrees_at_any_length(model: Classifier, path: Path) -> None:
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]
    rows = [np.arange(2, 2 + length, dtype=np.int64) % 24 for length in (1, 2, 9, 16, 40, 64)]
    assert check_parity(model, path, Tokens.of(rows)) < 1e-5
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("method", GRAPH_METHODS.names)
def test_the_file_says_nothing_of_where_it_was_made(path: Path, tmp_path: Path, method: str) -> None:
    import onnx

    target = tmp_path / "model.onnx"
    GRAPH_METHODS.load(method)(path, target, Tokens.of([[2, 7, 3], [2, 5, 9, 3]]))
    graph = onnx.load(target).graph
    parts = [graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]
    assert not [part.name for part in parts if part.metadata_props or part.doc_string]
    content = target.read_bytes()
    assert b"modelmill" not in content


def test_padding_changes_nothing(path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = np.array([[2, 7, 9, 3, 0, 0], [2, 5, 5, 18, 11, 3]], dtype=np.int64)
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=np.int64)
    (both,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
    (first,) = session.run(["logits"], {"input_ids": ids[:1, :4], "attention_mask": mask[:1, :4]})
    assert both.shape == (2, 3)
    assert both[0] == pytest.approx(first[0], abs=1e-5)


def test_another_models_file_is_noticed(model: Classifier, path: Path) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.bias[1] += 0.5
    with pytest.raises(ModelError) as caught:
        check_parity(other, path, Tokens.of([[2, 7, 3]]))
    assert str(caught.value) == (
        "the exported file must answer as PyTorch does, to 0.001 in each logit; got 'a difference of 0.5'; "
        "report it with the model's config.json; this architecture cannot be exported yet"
    )
