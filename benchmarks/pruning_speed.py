"""What pruning gives in size and speed: the structure alone, without training.

``./run python -m benchmarks.pruning_speed`` takes a student of two layers out of the demo's base model,
prunes it in several ways, exports each as int8, and scores 64 texts of 64 tokens with each, in turns, on one
thread.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from demo.samples import prepare

from modelmill.compression.pruning.heads import attention_heads
from modelmill.compression.pruning.inner_units import inner_units
from modelmill.compression.quantization.int8 import int8_dynamic
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import Classifier, parameter_count
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.models.onnx_session import RowSession
from modelmill.settings import Settings
from modelmill.tokens.token_ids import Tokens
from modelmill.training.rows import EncodedRows
from modelmill.training.student import make_student

_ROWS = 64
_TOKENS = 64
_ROUNDS = 5
_SHARES = ((1.0, 1.0), (0.5, 0.75), (0.25, 1.0), (0.25, 0.5))
"""Of the inner units and of the heads that stay."""


def main() -> None:
    _, base_model = prepare(Settings.from_environment().home)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = load_base_model(str(base_model), max_tokens=_TOKENS, dropout=0.0)
    student = make_student(Classifier(base.encoder, classes=8), layers=2, dropout=0.0).eval()
    generator = np.random.default_rng(0)
    ids = generator.integers(1000, 30_000, (_ROWS, _TOKENS))
    rows = EncodedRows(Tokens.of(ids), generator.integers(0, 8, _ROWS))
    folder = Path(tempfile.mkdtemp())
    sessions, sizes = {}, {}
    for units, heads in _SHARES:
        name = f"inner units {units:g}, heads {heads:g}"
        model = inner_units(student, keep=units, rows=rows) if units < 1 else student
        model = attention_heads(model, keep=heads, rows=rows) if heads < 1 else model
        plain, target = folder / "plain.onnx", folder / f"{name}.onnx"
        export_onnx(model, plain)
        check_parity(model, plain, rows.tokens.take(slice(4)))
        int8_dynamic(plain, target, rows.tokens)
        sessions[name] = RowSession(target, threads=1)
        sizes[name] = parameter_count(model), target.stat().st_size / 1e6
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(_ROUNDS):
        for name in random.sample(list(sessions), len(sessions)):
            began = time.process_time()
            sessions[name].run(rows.tokens, ["logits"], lambda *_: None)
            found[name].append(_ROWS / (time.process_time() - began))
    first = statistics.median(next(iter(found.values())))
    print("| stays | parameters | MB, int8 | texts per CPU second | faster |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in found.items():
        speed = statistics.median(values)
        print(f"| {name} | {sizes[name][0]:,} | {sizes[name][1]:.1f} | {speed:,.0f} | {speed / first:.2f} |")


if __name__ == "__main__":
    main()
