"""What makes the serving file of an fp32 export, by name. Another distribution adds methods of its own.

An entry point in the group ``modelmill.quantization`` names a :data:`Method`; its name is the configuration's
``method``. The file may serve on a CPU without VNNI, whose 16-bit sums saturate, and should be the same file
wherever it is made: weights leave room for these sums.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelmill.compression.extensions import method_of
from modelmill.compression.int8 import even_out, scale_embeddings, use_eight_bits
from modelmill.compression.options import METHOD_GROUP
from modelmill.tokens.token_ids import Tokens

Method = Callable[[Path, Path, Tokens], None]
"""Takes the fp32 model, the file to write, and some rows to calibrate with."""

CALIBRATION_ROWS = 64
_BLOCK = 32
"""Weights that share one scale, for methods that quantise weights alone."""


def int8_dynamic(source: Path, target: Path, rows: Tokens) -> None:
    """Quantise weights and embeddings to int8; activations as they come, after large ones are evened out.

    :param source: fp32 model.
    :param target: file to write.
    :param rows: some rows, or rows of random tokens: they show which features are large.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(source) as prepared, _beside(source, "even") as even:
        even_out(prepared, even, rows)
        quantize_dynamic(
            str(even),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["MatMul"],
        )
        use_eight_bits(target, even)


def int8_static(source: Path, target: Path, rows: Tokens) -> None:
    """Quantise as ``int8_dynamic`` does, activations with scales that rows give and weights in 7 bits.

    The scales are fixed, so activations beyond those of the rows are clipped. Calibration keeps the smallest
    and the largest value that the rows show.

    :param source: fp32 model.
    :param target: file to write.
    :param rows: at least one row.
    """
    from onnxruntime.quantization import QuantType, quantize_static

    with _prepared(source) as prepared, _beside(source, "even") as even:
        even_out(prepared, even, rows)
        quantize_static(
            str(even),
            str(target),
            _reader(rows),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def int8_weights(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise weights to int8 in blocks, embeddings to int8; activations stay fp32.

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

    root = logging.getLogger()
    level = root.level
    # It recommends, on the root logger, the very preparation that is done here.
    root.setLevel(logging.ERROR)
    try:
        with _beside(source, "prepared") as prepared:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            yield prepared
    finally:
        root.setLevel(level)


@contextlib.contextmanager
def _beside(source: Path, name: str) -> Iterator[Path]:
    """Yield a file beside the model that is gone afterwards."""
    path = source.with_suffix(f".{name}.onnx")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _weights(source: Path, target: Path, *, bits: int) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with _prepared(source) as prepared, _beside(source, "embeddings") as small:
        scale_embeddings(prepared, small)
        quantizer = MatMulNBitsQuantizer(
            onnx.load(str(small)), bits=bits, block_size=_BLOCK, is_symmetric=True
        )
        quantizer.process()
        onnx.save(quantizer.model.model, str(target))


def _reader(rows: Tokens) -> Any:
    """Return what hands rows to the calibration, one at a time: as they will be served."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
        def __init__(self) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            ids = next(self._rows, None)
            if ids is None:
                return None
            return {"input_ids": ids[None, :], "attention_mask": np.ones_like(ids)[None, :]}

    return Reader()
