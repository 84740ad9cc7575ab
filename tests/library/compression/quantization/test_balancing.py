"""Evening out before int8: the same model in fp32, and each kind of large number costs the others nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import QuantType, quantize_dynamic

from modelmill.compression.quantization.balancing import balance, eight_bits
from modelmill.compression.quantization.int8 import int8_dynamic
from modelmill.compression.trunk import random_rows
from modelmill.tokens.token_ids import Tokens

WIDTH, WORDS = 64, 50
IDS = np.arange(WORDS)[None, :]


def saved(path: Path, nodes: list[Any], weights: dict[str, np.ndarray], inner: int = WIDTH) -> Path:
    """Write a graph that reads tokens; its last node gives ``y``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["rows", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", "tokens", inner])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    for place, node in enumerate(model.graph.node):
        node.name = f"node{place}"
    onnx.save(model, str(path))
    return path


def answers(path: Path) -> np.ndarray:
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input_ids": IDS, "attention_mask": np.ones_like(IDS)})
    return np.asarray(found[0])


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_layer_computes_the_same_in_fp32_and_nearly_so_in_int8(
    random: np.random.Generator, tmp_path: Path
) -> None:
    """Embeddings, a layer norm with one large feature, three products that become one."""
    gain = np.ones(WIDTH)
    gain[7] = 30
    weights = {
        "table": random.standard_normal((WORDS, WIDTH)),
        "gain": gain,
        **{f"w{n}": random.standard_normal((WIDTH, WIDTH)) for n in range(3)},
        **{f"b{n}": random.standard_normal(WIDTH) for n in range(3)},
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("LayerNormalization", ["x", "gain"], ["normed"]),
        *(helper.make_node("MatMul", ["normed", f"w{n}"], [f"p{n}"]) for n in range(3)),
        *(helper.make_node("Add", [f"p{n}", f"b{n}"], [f"q{n}"]) for n in range(3)),
        helper.make_node("Sub", ["q0", "q1"], ["difference"]),
        helper.make_node("Mul", ["difference", "q2"], ["y"]),
    ]
    plain = saved(tmp_path / "plain.onnx", nodes, weights)
    balance(plain, tmp_path / "even.onnx", Tokens.of(IDS))
    assert relative_error(answers(tmp_path / "even.onnx"), answers(plain)) < 0.01  # the table is in int8
    int8_dynamic(plain, tmp_path / "int8.onnx", Tokens.of(IDS))
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node]
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul")) == (1, 0)
    quantize_dynamic(
        str(plain),
        str(tmp_path / "usual.onnx"),
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    ours, usual = (
        relative_error(answers(tmp_path / f"{name}.onnx"), answers(plain)) for name in ("int8", "usual")
    )
    assert ours < 0.02 < usual


def test_a_token_with_large_activations_leaves_the_others_their_levels(
    random: np.random.Generator, tmp_path: Path
) -> None:
    table = random.standard_normal((WORDS, WIDTH))
    table[0] *= 50
    table[8] = 0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Gelu", ["x"], ["gelu"]),
        helper.make_node("MatMul", ["gelu", "w"], ["y"]),
    ]
    plain = saved(
        tmp_path / "plain.onnx", nodes, {"table": table, "w": random.standard_normal((WIDTH, WIDTH))}
    )
    int8_dynamic(plain, tmp_path / "int8.onnx", Tokens.of([]))
    found = answers(tmp_path / "int8.onnx")
    assert not found[8].any()
    assert relative_error(found[1:], answers(plain)[1:]) < 0.02


def test_rows_of_an_embedding_table_keep_their_own_scale(random: np.random.Generator, tmp_path: Path) -> None:
    table = random.standard_normal((WORDS, WIDTH)) * np.logspace(-3, 3, WORDS)[:, None]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    int8_dynamic(
        saved(tmp_path / "plain.onnx", nodes, {"table": table}), tmp_path / "int8.onnx", Tokens.of([])
    )
    for row, expected in zip(answers(tmp_path / "int8.onnx"), table, strict=True):
        assert relative_error(row, expected) < 0.01


def test_neighbours_never_overflow_16_bits_and_most_weights_use_8(random: np.random.Generator) -> None:
    weight = random.standard_normal((385, 200)).astype(np.float32)
    weight[:, 0] = 1  # each pair is as large as can be
    weight[:, 1] = 0
    quantised, scales = eight_bits(weight)
    wide = quantised.astype(int)
    assert (255 * np.abs(wide[:-1:2] + wide[1::2])).max() <= 2**15 - 1 < 2 * 255 * 127
    assert np.abs(weight - quantised * scales).max() <= scales.max() / 2 * 1.001
    assert np.median(np.abs(wide[:, 2:]).max(axis=0)) > 90  # 7 bits: 63
    assert not quantised[:, 1].any()


def test_random_rows_begin_and_end_as_texts_do() -> None:
    rows = list(random_rows(np.array([101, 102]), 1000, rows=20, tokens=9))
    assert {(row[0], row[-1]) for row in rows} == {(101, 102)}
    assert {len(row) for row in rows} == set(range(3, 10))
    assert [row.tolist() for row in random_rows(np.array([1]), 1000, rows=3, tokens=4)] == [
        row.tolist() for row in random_rows(np.array([1]), 1000, rows=3, tokens=4)
    ]
