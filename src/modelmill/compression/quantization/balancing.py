"""Balancing: a graph is rewritten so that int8 loses less, and computes the same in fp32.

What int8 loses is decided by the largest number that shares a scale. In BERT and models like it these are

- a few features that are ten times as large as the others in every text. Behind a layer norm they are divided
  by their sizes, and the weights that read them multiplied (SmoothQuant; Xiao et al. 2023, arXiv 2211.10438);
- a few tokens, the first and the last, inside the feed-forward part: there each token has a scale of its own;
- rare words among the embeddings: each row has a scale of its own.

Queries, keys and values are computed by one product instead of three, which pays for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.compression.quantization.onnx_graph import Graph
from modelmill.tokens.token_ids import Tokens

Array = npt.NDArray[np.float32]

_MIGRATION = 0.8
"""How much of an activation's size goes to the weights; SmoothQuant's alpha."""
_SMALLEST_FEATURE = 0.1
"""Smallest size of a feature, relative to the median one: calibration sees few rows."""
_SMALLEST_ROW = 0.2
"""Smallest divisor of a token. GELU's negative part is smaller."""
_BOUNDED_BELOW = {"Gelu", "Relu"}
_NEVER_LARGE = {"Reshape", "LayerNormalization"}
"""Operators behind which scales of single tokens gain nothing: means over values, and what is smoothed."""
_LEVELS = 127
_MINIMUM_TABLE = 2
"""Dimensions of an embedding table."""


def balance(source: Path, target: Path, rows: Tokens) -> None:
    """Write a model that computes the same in fp32 and loses less in int8.

    :param source: fp32 model with its shapes inferred.
    :param target: file to write.
    :param rows: rows that show which features are large, of texts or random; without any, features are left
        as they are.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    wrapped = ONNXModel(onnx.load(str(source)))
    wrapped.replace_gemm_with_matmul()
    _merge_products(Graph(wrapped.model))
    graph = Graph(wrapped.model)
    normed = [name for name in graph.products() if graph.operator_of(name) == "LayerNormalization"]
    sizes = _feature_sizes(graph.model, normed, rows)
    for value, nodes in graph.products().items():
        if value in sizes:
            _smooth(graph, value, nodes, sizes[value])
        elif graph.operator_of(value) not in _NEVER_LARGE:
            _scale_rows(graph, value, nodes)
    graph.apply()
    _scale_tables(Graph(wrapped.model))
    onnx.save(wrapped.model, str(target))


def scale_embeddings(source: Path, target: Path) -> None:
    """Write an fp32 model again with int8 embeddings, one scale for each row."""
    import onnx

    model = onnx.load(str(source))
    _scale_tables(Graph(model))
    onnx.save(model, str(target))


def use_eight_bits(target: Path, source: Path) -> None:
    """Write the weights of a quantised model again, with 8 bits where that is safe.

    Without VNNI a CPU adds two neighbouring products in 16 bits, which saturate: 255 (a + b) must stay below
    32,768. So a scale is as fine as the largest sum of two neighbours allows, not always half as fine.

    :param target: quantised model with one scale for each output; replaced.
    :param source: the fp32 model that it was made from.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(target))
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load(str(source)).graph.initializer}
    stored = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        name = node.input[1].removesuffix("_quantized") if node.op_type == "MatMulInteger" else ""
        if name in weights:
            quantised, scales = eight_bits(weights[name])
            stored[f"{name}_quantized"].CopyFrom(numpy_helper.from_array(quantised, f"{name}_quantized"))
            stored[f"{name}_scale"].CopyFrom(numpy_helper.from_array(scales, f"{name}_scale"))
    onnx.save(model, str(target))


def eight_bits(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """Quantise a matrix so that no two neighbours' products overflow 16 bits.

    :param weight: ``(inputs, outputs)``.
    :return: int8 of the same shape, and the scale of each output.
    """
    inputs = weight[: len(weight) // 2 * 2]
    pairs = np.abs(inputs[0::2] + inputs[1::2])  # (inputs / 2, outputs)
    largest = np.maximum(np.abs(weight).max(axis=0), pairs.max(axis=0, initial=0))
    scales = np.where(largest > 0, largest / _LEVELS, 1).astype(np.float32)
    return np.rint(weight / scales).astype(np.int8), scales


def _merge_products(graph: Graph) -> None:
    """Merge products that read the same value and are followed by a bias."""
    from onnx import helper

    for value, nodes in graph.products().items():
        biases = [_bias(graph, node) for node in nodes]
        if len(nodes) == 1 or not all(biases):
            continue
        adds, names = zip(*(found for found in biases if found), strict=True)
        first = nodes[0].name
        weight = np.concatenate([graph.weights[node.input[1]] for node in nodes], axis=1)
        bias = np.concatenate([graph.weights[name] for name in names])
        widths = np.array([len(graph.weights[name]) for name in names])
        joined = [
            helper.make_node(
                "MatMul", [value, graph.constant(f"{first}_weights", weight)], [f"{first}_product"]
            ),
            helper.make_node(
                "Add", [f"{first}_product", graph.constant(f"{first}_bias", bias)], [f"{first}_all"]
            ),
            helper.make_node(
                "Split",
                [f"{first}_all", graph.constant(f"{first}_widths", widths)],
                [add.output[0] for add in adds],
                axis=-1,
            ),
        ]
        for node, name in zip(joined, ("product", "bias", "parts"), strict=True):
            node.name = f"{first}_{name}"
        graph.replaced |= {node.name: [] for node in (*nodes, *adds)}
        graph.replaced[first] = joined
    graph.apply()


def _bias(graph: Graph, product: Any) -> tuple[Any, str] | None:
    """Return the addition that is the only reader of a product, and the name of its bias."""
    readers = graph.readers.get(product.output[0], [])
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    bias = [name for name in readers[0].input if name in graph.weights and graph.weights[name].ndim == 1]
    return (readers[0], bias[0]) if bias else None


def _feature_sizes(model: Any, values: list[str], rows: Tokens) -> dict[str, Array]:
    """Return the largest size of each feature over the rows, by value, ``(features,)``."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    if not values or not len(rows):
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in values
    )
    options = SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # the same sums on any number of cores
    session = InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sizes: dict[str, Array] = {}
    for found in _outputs(session, rows):
        for name, value in zip(values, found, strict=True):
            largest = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            sizes[name] = np.maximum(sizes.get(name, largest), largest)
    return sizes


def _outputs(session: Any, rows: Tokens) -> Iterator[list[np.ndarray]]:
    for ids in rows:
        yield session.run(None, {"input_ids": ids[None, :], "attention_mask": np.ones_like(ids)[None, :]})


def _smooth(graph: Graph, value: str, nodes: list[Any], sizes: Array) -> None:
    """Divide features by their sizes, and multiply the weights that read them."""
    from onnx import helper

    heaviest = np.max([np.abs(graph.weights[node.input[1]]).max(axis=1) for node in nodes], axis=0)
    sizes = np.maximum(sizes, np.median(sizes) * _SMALLEST_FEATURE)
    heaviest = np.maximum(heaviest, np.median(heaviest) * _SMALLEST_FEATURE)
    if not (sizes.min() > 0 and heaviest.min() > 0):
        return  # nothing but zeros
    logs = _MIGRATION * np.log(sizes) - (1 - _MIGRATION) * np.log(heaviest)
    scale = np.exp(logs - logs.mean()).astype(np.float32)
    divide = helper.make_node(
        "Mul", [value, graph.constant(f"{value}_smoothing", 1 / scale)], [f"{value}_smooth"]
    )
    for place, node in enumerate(nodes):
        weight = graph.weights[node.input[1]] * scale[:, None]
        inputs = [f"{value}_smooth", graph.constant(f"{node.name}_smooth_weights", weight)]
        product = helper.make_node("MatMul", inputs, node.output, name=node.name)
        graph.replaced[node.name] = [product] if place else [divide, product]


def _scale_rows(graph: Graph, value: str, nodes: list[Any]) -> None:
    """Divide each token by its largest activation, and multiply its products by that again."""
    from onnx import helper

    smallest = graph.constant("row_smallest", np.array(_SMALLEST_ROW, np.float32))
    axis = graph.constant("row_axis", np.array([-1]))
    sizes, steps = value, []
    if graph.operator_of(value) not in _BOUNDED_BELOW:
        sizes = f"{value}_sizes"
        steps = [helper.make_node("Abs", [value], [sizes])]
    steps += [
        helper.make_node("ReduceMax", [sizes, axis], [f"{value}_largest"]),
        helper.make_node("Max", [f"{value}_largest", smallest], [f"{value}_scale"]),
        helper.make_node("Div", [value, f"{value}_scale"], [f"{value}_rows"]),
    ]
    for node in nodes:
        scaled = f"{node.output[0]}_rows"
        steps += [
            helper.make_node("MatMul", [f"{value}_rows", node.input[1]], [scaled], name=node.name),
            helper.make_node("Mul", [scaled, f"{value}_scale"], node.output),
        ]
        graph.replaced[node.name], steps = steps, []


def _scale_tables(graph: Graph) -> None:
    """Store embeddings in int8, one scale for each row; a lexical head's stay fp32: their rows are short."""
    from onnx import helper

    last = graph.constant("last_axis", np.array([-1]))
    for node in graph.model.graph.node:
        name, output = node.input[0], node.output[0]
        table = graph.weights.get(name)
        if node.op_type != "Gather" or table is None or "lexical" in name:
            continue
        if table.ndim != _MINIMUM_TABLE or table.dtype != np.float32:
            continue
        largest = np.abs(table).max(axis=1)
        scales = np.where(largest > 0, largest / _LEVELS, 1).astype(np.float32)
        levels = np.rint(table / scales[:, None]).astype(np.int8)
        graph.replaced[node.name] = [
            helper.make_node(
                "Gather", [graph.constant(f"{name}_levels", levels), node.input[1]], [f"{output}_int8"]
            ),
            helper.make_node(
                "Gather", [graph.constant(f"{name}_scales", scales), node.input[1]], [f"{output}_scales"]
            ),
            helper.make_node("Unsqueeze", [f"{output}_scales", last], [f"{output}_scale"]),
            helper.make_node("Cast", [f"{output}_int8"], [f"{output}_levels"], to=1),
            helper.make_node("Mul", [f"{output}_levels", f"{output}_scale"], [output]),
        ]
    graph.apply()
