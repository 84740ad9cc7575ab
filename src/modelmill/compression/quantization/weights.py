"""Quantisation of weights alone: activations stay fp32."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelmill.compression.quantization.balancing import scale_embeddings
from modelmill.compression.quantization.onnx_graph import preprocessed, scratch_file
from modelmill.tokens.token_ids import Tokens

_BLOCK = 32
"""Weights that share one scale."""


def int8_weights(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise weights to int8 in blocks, and embeddings to int8."""
    _quantize_blocks(source, target, bits=8)


def int4_weights(source: Path, target: Path, _rows: Tokens) -> None:
    """Quantise weights to int4 in blocks, and embeddings to int8."""
    _quantize_blocks(source, target, bits=4)


def fp32(source: Path, target: Path, _rows: Tokens) -> None:
    """Keep the weights as they are: the method ``none``."""
    shutil.copyfile(source, target)


def _quantize_blocks(source: Path, target: Path, *, bits: int) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with preprocessed(source) as prepared, scratch_file(source, "embeddings") as small:
        scale_embeddings(prepared, small)
        quantizer = MatMulNBitsQuantizer(
            onnx.load(str(small)), bits=bits, block_size=_BLOCK, is_symmetric=True
        )
        quantizer.process()
        onnx.save(quantizer.model.model, str(target))
