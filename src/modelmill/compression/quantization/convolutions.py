"""Quantisation of models that read images to int8: convolutions, and products of matrices if there are any.

Scales of weights are one for each output channel. Scales of activations are fixed: they span the smallest and
the largest value that some rows show. The linear head stays fp32: it has few weights, and its features, means
and spreads of several layers, have many sizes. So does what measures the early layers, which reads what a
convolution yields.

There is no method whose scales come with the activations (``int8_dynamic``): on EfficientNet-Lite0, ONNX
Runtime's convolutions for it took 9 times as long as those of fp32, and 8 answers of 100 changed. By fixed
scales they took 0.64 of the time of fp32, and none changed.

CPUs without VNNI add products in 16 bits, which saturate, so weights have 7 bits: a file is the same wherever
it is made, and safe wherever it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from modelmill.compression.quantization.onnx_graph import preprocessed
from modelmill.tokens.token_ids import Tokens

_OPERATORS = ["Conv", "MatMul", "Add", "Clip", "Relu"]
"""With what stands between convolutions, so that numbers stay int8 from one to the next: without the last
three, EfficientNet-Lite0 takes as long as in fp32.
"""


def reads_pixels(graph: Path) -> bool:
    """Return whether a graph reads images."""
    import onnx

    found = onnx.load(str(graph), load_external_data=False).graph.input
    return [one.name for one in found] == ["pixels"]


def static_scales(source: Path, target: Path, rows: Tokens) -> None:
    """Quantise weights and activations by fixed scales.

    :param source: the fp32 graph, of images.
    :param target: file to write.
    :param rows: at least one, like those that the model will serve.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with preprocessed(source) as prepared:
        quantize_static(
            str(prepared),
            str(target),
            _calibration_reader(prepared, rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _calibration_reader(graph: Path, rows: Tokens) -> Any:
    """Hand rows to ONNX Runtime's calibration one at a time, as they will be served."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader

    from modelmill.models.onnx_session import feed_of

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    feed = feed_of(session, graph)

    class RowReader(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
        def __init__(self) -> None:
            self._places = iter(range(len(rows)))

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            place = next(self._places, None)
            return None if place is None else feed(rows, place)

    return RowReader()
