"""Quantisation: a trained model becomes the file that serves, in narrower numbers.

A method for ONNX files is a function, a :data:`GraphMethod`::

    def int6_mine(source: Path, target: Path, rows: Tokens) -> None: ...

``source``
    The fp32 ONNX file to read. It has the inputs ``input_ids`` and ``attention_mask``, int64,
    ``(rows, tokens)``, and the output ``logits``; a trunk has ``features`` and perhaps ``states`` instead.
    The file must not be changed.
``target``
    The ONNX file to write, with the same inputs and outputs. ONNX Runtime must run it on any CPU, and the
    same ``source`` and ``rows`` must give the same file wherever it is made.
``rows``
    At most :data:`CALIBRATION_ROWS` rows of token ids, for methods that have to see activations: rows of the
    dataset, or random tokens where there is no dataset (a trunk).

A method that cannot quantise a model raises a :class:`~modelmill.errors.ModelmillError`. It need not check
the answers: ``quantize`` compares them with the source model's, and ``compress`` measures them.

modelmill's own methods are listed in :data:`modelmill.compression.options.GRAPH_METHODS`. Another
distribution adds one with an entry point, whose name is the name that configurations use::

    [project.entry-points."modelmill.quantization"]
    int6_mine = "my_package.int6:int6_mine"

Then the components ``quantize``, ``trunk`` and ``distill_signals`` accept it as ``method``, and ``compress``
tries it where ``space.quantization`` names it. A method for models that PyTorch runs is a
:class:`~modelmill.compression.quantization.torchao.TorchMethod`, in the group
``modelmill.torch_quantization``; only ``quantize`` accepts it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelmill.tokens.token_ids import Tokens

GraphMethod = Callable[[Path, Path, Tokens], None]
"""From an fp32 ONNX file, the file to write, and rows to calibrate with."""

CALIBRATION_ROWS = 64
