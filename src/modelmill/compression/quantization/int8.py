"""Quantisation of weights and activations to int8.

CPUs without VNNI add products in 16 bits, which saturate: weights leave room for these sums, so the file is
the same wherever it is made, and safe wherever it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modelmill.compression.quantization.balancing import balance, use_eight_bits
from modelmill.compression.quantization.convolutions import reads_pixels, static_scales
from modelmill.compression.quantization.onnx_graph import preprocessed, scratch_file
from modelmill.tokens.token_ids import Tokens


def int8_dynamic(source: Path, target: Path, rows: Tokens) -> None:
    """Quantise weights and embeddings to int8; activations at run time, after large ones are balanced."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with preprocessed(source) as prepared, scratch_file(source, "even") as even:
        balance(prepared, even, rows)
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
    """Quantise as ``int8_dynamic`` does, but activations with fixed scales and weights in 7 bits.

    The scales span the smallest and the largest value that the rows show; activations beyond are clipped. So
    it needs at least one row, and rows like those that it will serve.
    """
    if reads_pixels(source):
        static_scales(source, target, rows)
        return
    from onnxruntime.quantization import QuantType, quantize_static

    with preprocessed(source) as prepared, scratch_file(source, "even") as even:
        balance(prepared, even, rows)
        quantize_static(
            str(even),
            str(target),
            _calibration_reader(rows),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _calibration_reader(rows: Tokens) -> Any:
    """Hand rows to ONNX Runtime's calibration one at a time, as they will be served."""
    from onnxruntime.quantization import CalibrationDataReader

    class RowReader(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime has no types
        def __init__(self) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            ids = next(self._rows, None)
            if ids is None:
                return None
            return {"input_ids": ids[None, :], "attention_mask": np.ones_like(ids)[None, :]}

    return RowReader()
