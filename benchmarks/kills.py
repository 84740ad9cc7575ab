"""Trainings that are killed with SIGKILL at random moments, and what becomes of them.

``./run python -m benchmarks.kills`` trains a tiny BERT to the end once, then again and again in a child that
is killed after a random time, at any instruction, whether it is computing, writing a checkpoint or removing
one. A second process resumes it. All weights must be the same bits as those of the training that was never
interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    # Set before PyTorch starts its threads: a process with threads must not fork.
    os.environ["OMP_NUM_THREADS"] = "1"
    source = random.SystemRandom()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        fit(place / "warm")
        began = time.monotonic()
        expected = fit(place / "whole")[0]
        seconds = time.monotonic() - began
        same, resumed, early = 0, 0, 0
        for number in range(options.kills):
            home = place / str(number)
            after = source.uniform(0.05, 0.95) * seconds
            if not killed(home, after):
                early += 1
            digest, lines = fit(home)
            same += digest == expected
            resumed += any(line.startswith("resuming") for line in lines)
    print(f"{options.kills} kills: {same} ended in the same bits; {resumed} had a checkpoint to resume from")
    print(f"{early} ended before they were killed")
    sys.exit(same != options.kills)


def killed(home: Path, after: float) -> bool:
    """Train in a child, and kill it after some seconds; return whether it was still at work."""
    child = os.fork()
    if child == 0:
        fit(home)
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def fit(home: Path) -> tuple[str, list[str]]:
    import numpy as np
    import torch
    from torch.nn import functional
    from transformers import BertConfig, BertModel

    from modelmill.models.classifier import Classifier
    from modelmill.steps.fine_tune import FineTuneConfig
    from modelmill.tokens.token_ids import Tokens
    from modelmill.training.rows import EncodedRows
    from modelmill.training.trainer import train
    from modelmill.workspace import Workspace

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dimensions = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    model = Classifier(BertModel(BertConfig(vocab_size=64, **dimensions)), classes=2, dropout=0.1)
    source = np.random.default_rng(0)
    rows = [source.integers(4, 64, length) for length in source.integers(3, 16, 120)]
    data = EncodedRows(Tokens.of(rows), source.integers(0, 2, 120))
    config = FineTuneConfig(
        base_model="", epochs=2, batch_size=8, frozen_layers=0, dropout=0.1, checkpoint_seconds=1e-9
    )
    lines: list[str] = []
    home.mkdir(exist_ok=True)
    train(
        model,
        data,
        validation=data,
        loss=lambda logits, targets, _: functional.cross_entropy(logits, targets),
        options=config,
        workspace=Workspace(workdir=home, cache=home, log=lines.append),
    )
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest(), lines


if __name__ == "__main__":
    main()
