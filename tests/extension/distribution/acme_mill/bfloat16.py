"""Quantisation of weights to bfloat16, stored as fp32: what a bfloat16 runtime would answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelmill.tokens.token_ids import Tokens


def bfloat16_weights(source: Path, target: Path, _rows: Tokens) -> None:
    """Cut the lower half off each fp32 weight."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            bits = np.ascontiguousarray(numpy_helper.to_array(weight)).view(np.uint32) & 0xFFFF0000
            weight.CopyFrom(numpy_helper.from_array(bits.view(np.float32), weight.name))
    onnx.save(model, str(target))
