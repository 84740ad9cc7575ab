"""What makes the serving file of an fp32 export, by name. Another distribution adds methods of its own.

An entry point in the group ``modelmill.quantization`` names a :data:`Method`; its name is the configuration's
``method``. Weights use 7 of the 8 bits everywhere: the file may serve on a CPU without VNNI, whose 16-bit
sums would saturate, and should be the same file wherever it is made.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelmill.compression.components import METHOD_GROUP
from modelmill.compression.extensions import method_of
from modelmill.data.tokens import Tokens

Method = Callable[[Path, Path, Tokens], None]
"""Takes the fp32 model, the file to write, and some rows to calibrate with."""

CALIBRATION_ROWS = 64
_SMALLEST = 1e-6
"""Rows of nothing but zeros are divided by this."""
_BLOCK = 32
"""Weights that share one scale, for methods that quantise weights alone."""


def int8_dynamic(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise weights and embeddings to int8, one scale per output channel; activations as they come.

    :param source: fp32 model.
    :param target: file to write.
    :param _rows: not used.
    """
    with _prepared(source) as prepared:
        _dynamic(prepared, target, ["MatMul", "Gemm", "Gather"])


def int8_rows(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise as ``int8_dynamic`` does, each token by the size of its own largest activation.

    A few tokens (of a BERT, the first and the last) have activations ten times as large as all others. With
    one scale for a text the others would be left with few levels.

    :param source: fp32 model.
    :param target: file to write.
    :param _rows: not used.
    """
    with _prepared(source) as prepared:
        scaled = source.with_suffix(".rows.onnx")
        try:
            scale_rows(prepared, scaled)
            _dynamic(scaled, target, ["MatMul", "Gemm", "Gather"])
        finally:
            scaled.unlink(missing_ok=True)


def scale_rows(source: Path, target: Path) -> None:
    """Write a model whose products with weights see rows with a largest absolute value of 1.

    Each product is multiplied by what its row was divided by: in fp32 nothing changes but the rounding.

    :param source: fp32 model.
    :param target: file to write.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(source))
    weights = {one.name for one in model.graph.initializer}
    model.graph.initializer.append(numpy_helper.from_array(np.array(_SMALLEST, np.float32), "row_smallest"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "row_axis"))
    nodes, scaled = [], set()
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        value, product = node.input[0], node.output[0]
        if value not in scaled:  # queries, keys and values read the same rows
            scaled.add(value)
            nodes += [
                helper.make_node("Abs", [value], [f"{value}_sizes"]),
                helper.make_node("ReduceMax", [f"{value}_sizes", "row_axis"], [f"{value}_largest"]),
                helper.make_node("Max", [f"{value}_largest", "row_smallest"], [f"{value}_scale"]),
                helper.make_node("Div", [value, f"{value}_scale"], [f"{value}_rows"]),
            ]
        node.input[0], node.output[0] = f"{value}_rows", f"{product}_rows"
        nodes += [node, helper.make_node("Mul", [f"{product}_rows", f"{value}_scale"], [product])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def int8_static(source: Path, target: Path, rows: Tokens) -> None:
    """Quantise weights and embeddings as ``int8_dynamic`` does, activations with scales that rows give.

    The scales are fixed, so activations beyond those of the rows are clipped. Calibration keeps the smallest
    and the largest value that the rows show.

    :param source: fp32 model.
    :param target: file to write.
    :param rows: at least one row.
    """
    from onnxruntime.quantization import QuantType, quantize_static

    with _prepared(source) as prepared:
        small = source.with_suffix(".embeddings.onnx")
        try:
            _dynamic(prepared, small, ["Gather"])
            quantize_static(
                str(small),
                str(target),
                _reader(rows),
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            small.unlink(missing_ok=True)


def int8_weights(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise weights to int8 in blocks, embeddings per table; activations stay fp32.

    :param source: fp32 model.
    :param target: file to write.
    :param _rows: not used.
    """
    _weights(source, target, bits=8)


def int4_weights(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise weights to int4 in blocks, embeddings to int8; activations stay fp32.

    :param source: fp32 model.
    :param target: file to write.
    :param _rows: not used.
    """
    _weights(source, target, bits=4)


def fp32(source: Path, target: Path, _rows: Tokens) -> None:
    """Keep the weights as they are.

    :param source: fp32 model.
    :param target: file to write.
    :param _rows: not used.
    """
    shutil.copyfile(source, target)


METHODS: Mapping[str, Method] = {
    "int8_dynamic": int8_dynamic,
    "int8_rows": int8_rows,
    "int8_static": int8_static,
    "int8_weights": int8_weights,
    "int4_weights": int4_weights,
    "none": fp32,
}
"""modelmill's own."""


def method_named(name: str) -> Method:
    """Return a method.

    :param name: its name.
    :return: one of :data:`METHODS`, or one that another distribution adds.
    :raises ConfigError: if there is none of that name.
    """
    return method_of(name, METHODS, group=METHOD_GROUP, of="quantisation")


@contextlib.contextmanager
def _prepared(source: Path) -> Iterator[Path]:
    """Yield the model with its shapes inferred."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_suffix(".prepared.onnx")
    root = logging.getLogger()
    level = root.level
    # It recommends, on the root logger, the very preparation that is done here.
    root.setLevel(logging.ERROR)
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        yield prepared
    finally:
        root.setLevel(level)
        prepared.unlink(missing_ok=True)


def _dynamic(source: Path, target: Path, operators: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(source),
        str(target),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=operators,
        nodes_to_exclude=_lexical_nodes(source),
    )


def _weights(source: Path, target: Path, *, bits: int) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with _prepared(source) as prepared:
        small = source.with_suffix(".embeddings.onnx")
        try:
            _dynamic(prepared, small, ["Gather"])
            quantizer = MatMulNBitsQuantizer(
                onnx.load(str(small)), bits=bits, block_size=_BLOCK, is_symmetric=True
            )
            quantizer.process()
            onnx.save(quantizer.model.model, str(target))
        finally:
            small.unlink(missing_ok=True)


def _reader(rows: Tokens) -> Any:
    """Return what hands rows to the calibration, one at a time: as they will be served."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            ids = next(self._rows, None)
            if ids is None:
                return None
            return {"input_ids": ids[None, :], "attention_mask": np.ones_like(ids)[None, :]}

    return Reader()


def _lexical_nodes(path: Path) -> list[str]:
    """Return the look-ups of the lexical head: small tables with one scale for all would lose rare words."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return [node.name for node in graph.node if any("lexical" in name for name in node.input)]
