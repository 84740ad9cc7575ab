"""Bundles made by hand, so that it is known how good each model is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from modelmill.serving.bundle import BundleInfo

CLASSES = ("sport", "trade")
MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path, tiny_base_model: Path) -> MakeBundle:
    """Return a function that makes an ONNX bundle: logits are the sums of a weight for each word.

    ``make_bundle(name, skill=1.0)`` is always right on the tests' topics, ``skill=-1.0`` always wrong, and
    ``skill=0.5`` knows every second word.
    """

    def make(name: str, *, skill: float = 1.0, tweak: float = 0.0) -> Path:
        folder = tmp_path / "bundles" / name
        folder.mkdir(parents=True)
        tokenizer = Tokenizer.from_file(str(tiny_base_model / "tokenizer.json"))
        tokenizer.save(str(folder / "tokenizer.json"))
        weights = np.zeros((tokenizer.get_vocab_size(), 2), np.float32)
        known = round(6 * abs(skill))
        for first, column in ((4, 0), (10, 1)):  # the vocabulary has 4 special tokens, 6 and 6 topic words
            weights[first : first + known, column] = np.sign(skill)
        weights[2, 0] = tweak
        onnx.save(_graph(weights), folder / "model.onnx")
        BundleInfo(
            format="onnx", label="topic", classes=CLASSES, text="body", max_tokens=32, parameters=weights.size
        ).save(folder)
        return folder

    return make


def _graph(weights: np.ndarray) -> onnx.ModelProto:
    shape = ["batch", "tokens"]
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["looked_up", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([-1], np.int64), "last"),
            numpy_helper.from_array(np.array([1], np.int64), "tokens_axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
