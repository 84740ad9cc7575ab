"""What a device gains: bf16 and a compiled model in training, and torchao's methods in scoring.

``./run python -m benchmarks.gpu`` uses the GPU if there is one, else the CPU with what runs there.
Training: one pass over docstrings, all weights of all-MiniLM-L6-v2. Scoring: the same model and a
fixed random head, the same rows; logits are compared with those of fp32 on the CPU. Each way runs
in a process of its own. Seconds are those of the clock on a GPU, and of one thread on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.training import BATCH, CLASSES, MAX_TOKENS, write_rows
from demo.samples import prepare

from modelmill.settings import Settings

TRAININGS = {
    "fp32": {"precision": "fp32", "compiled": "never"},
    "bf16": {"precision": "bf16", "compiled": "never"},
    "fp32, compiled": {"precision": "fp32", "compiled": "always"},
    "bf16, compiled": {"precision": "bf16", "compiled": "always"},
}
SCORINGS = ("fp32", "int8_torch", "int4_torch", "fp8_torch")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("training", "scoring"))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        part, _, way = options.way.partition(":")
        print(json.dumps({"training": train_once, "scoring": score_once}[part](way, options.place)))
        return
    _, model = prepare(Settings.from_environment().home)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model").symlink_to(model)
        write_rows(place, options.rows, mean=64)
        for part, ways in (("training", tuple(TRAININGS)), ("scoring", SCORINGS)):
            if options.only in (None, part):
                report(part, {way: in_children(part, way, place, options.rounds) for way in ways})


def in_children(part: str, way: str, place: Path, rounds: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--way", f"{part}:{way}", "--place", str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = []
    for _ in range(rounds):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            print(f"{part}, {way}: not run: {done.stderr.strip().splitlines()[-1]}")
            return []
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def clock() -> float:
    import torch

    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def read(place: Path) -> Any:
    from modelmill.tokens.token_ids import Tokens
    from modelmill.training.rows import EncodedRows

    rows = json.loads((place / "rows.json").read_text())
    return EncodedRows(Tokens.of(rows["ids"]), np.array(rows["targets"], dtype=np.int64))


def untrained(place: Path) -> Any:
    import torch

    from modelmill.models.base_model import load_base_model
    from modelmill.models.classifier import Classifier

    torch.manual_seed(0)
    base = load_base_model(str(place / "model"), max_tokens=MAX_TOKENS, dropout=0.0)
    return Classifier(base.encoder, classes=CLASSES)


def train_once(way: str, place: Path) -> dict[str, Any]:
    """Train twice: compiling is counted by itself, as the difference of the two."""
    from torch.nn import functional

    from modelmill.steps.fine_tune import FineTuneConfig
    from modelmill.training.trainer import train
    from modelmill.workspace import Workspace

    data, model = read(place), untrained(place)
    config = FineTuneConfig.model_validate(
        {
            "base_model": "",
            "epochs": 1,
            "batch_size": BATCH,
            "frozen_layers": 0,
            "train_embeddings": True,
            "max_tokens": MAX_TOKENS,
            **TRAININGS[way],
        }
    )
    seconds, losses = [], []
    for _ in range(2):
        with Workspace.temporary(log=lambda _: None) as workspace:
            began = clock()
            trained = train(
                model,
                data,
                validation=None,
                loss=lambda logits, targets, _: functional.cross_entropy(logits, targets),
                options=config,
                workspace=workspace,
            )
            seconds.append(clock() - began)
            losses.append(trained.curve[-1][1])
    return {"speed": float(data.tokens.lengths.sum()) / seconds[1], "first": seconds[0], "loss": losses[0]}


def score_once(way: str, place: Path) -> dict[str, Any]:
    import torch

    from modelmill.compression.quantization.torchao import quantize_encoder
    from modelmill.models.bundle import BundleInfo, bundle_bytes
    from modelmill.models.classifier import all_logits, parameter_count, save_classifier
    from modelmill.models.scorers import load_scorer
    from modelmill.models.torchao import write_quantised

    data, model = read(place), untrained(place).eval()
    exact = all_logits(model, data.tokens)
    info = BundleInfo(
        format="torch",
        label="desk",
        classes=tuple(f"desk {number}" for number in range(CLASSES)),
        text="text",
        max_tokens=MAX_TOKENS,
        parameters=parameter_count(model),
    )
    bundle = place / f"bundle-{os.getpid()}"
    options: dict[str, Any] = {"tokenizer": place / "model" / "tokenizer.json"}
    if way != "fp32":
        model = quantize_encoder(model, way)
        info = info.model_copy(update={"format": "torchao"})
        options["write"] = write_quantised
    save_classifier(model, bundle, info=info, **options)
    scorer = load_scorer(bundle)
    scorer.score(data.tokens)
    began = clock()
    logits = scorer.score(data.tokens)
    seconds = clock() - began
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(logits), torch.from_numpy(exact))
    found = {
        "speed": len(data.tokens) / seconds,
        "mb": bundle_bytes(bundle) / 1e6,
        "cosine": float(cosine.min()),
        "same": float((logits.argmax(1) == exact.argmax(1)).mean()),
    }
    shutil.rmtree(bundle)
    return found


def report(part: str, found: Mapping[str, list[Mapping[str, Any]]]) -> None:
    columns = {
        "training": ("tokens/s", "faster", "first pass s", "last loss"),
        "scoring": ("rows/s", "faster", "MB", "least cosine", "same answers"),
    }[part]
    print(f"\n| {part} | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    plain = statistics.median(run["speed"] for run in found["fp32"])
    for way, runs in found.items():
        if not runs:
            continue
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        speed = middle.pop("speed")
        rest = " | ".join(f"{value:.4g}" for value in middle.values())
        print(f"| {way} | {speed:,.0f} | {speed / plain:.2f} | {rest} |")


if __name__ == "__main__":
    main()
