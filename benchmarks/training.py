"""Fine-tuning a small encoder: modelmill's loop beside the Trainer of transformers.

``./run python -m benchmarks.training`` trains all weights of all-MiniLM-L6-v2 for one pass over docstrings of
the installed packages, with modelmill's loop and with ``transformers.Trainer`` (padding to the longest row of
a batch, and to ``max_length``). Each way runs in a process of its own, in turns; what counts is real tokens
per CPU second, without imports and loading, with one thread. The model is the same object on every side
(no dropout, AdamW, the same batch size), and the loss of the same batches is compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tokens import docstring_words
from demo.samples import prepare

from modelmill.settings import Settings

MAX_TOKENS = 256
BATCH = 16
CLASSES = 8
WAYS = ("modelmill", "dynamic padding", "max_length")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="mean length of a row")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.place)))
        return
    _, model = prepare(Settings.from_environment().home)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model").symlink_to(model)
        write_rows(place, options.rows, options.tokens)
        found: dict[str, list[Mapping[str, Any]]] = {way: [] for way in WAYS}
        for turn in range(options.rounds):
            for way in WAYS if turn % 2 else reversed(WAYS):
                found[way].append(in_child(way, place))
    report(found)


def write_rows(place: Path, rows: int, mean: int) -> None:
    """Write token ids of rows whose lengths are log-normal, and random classes."""
    from modelmill.tokens.tokenizer import encode, load_tokenizer

    random = np.random.default_rng(0)
    words = docstring_words(200_000)
    texts = [" ".join(words[at : at + 400]) for at in random.integers(0, len(words) - 400, rows)]
    tokens = encode(load_tokenizer(place / "model", max_tokens=MAX_TOKENS), texts)
    lengths = random.lognormal(np.log(mean) - 0.7**2 / 2, 0.7, rows).astype(int).clip(4, MAX_TOKENS)
    ids = [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]
    targets = random.integers(0, CLASSES, rows).tolist()
    (place / "rows.json").write_text(json.dumps({"ids": ids, "targets": targets}))
    print(f"{rows:,} rows, {np.mean([len(row) for row in ids]):.0f} tokens on average, batches of {BATCH}\n")


def in_child(way: str, place: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training", "--way", way, "--place", str(place)]
    # Threads that wait by spinning would be counted as work, the more the busier the machine is.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def measure(way: str, place: Path) -> dict[str, Any]:
    import torch

    from modelmill.models.base_model import load_base_model
    from modelmill.models.classifier import Classifier

    rows = json.loads((place / "rows.json").read_text())
    torch.manual_seed(0)
    base = load_base_model(str(place / "model"), max_tokens=MAX_TOKENS, dropout=0.0)
    model = Classifier(base.encoder, classes=CLASSES)
    losses = same_batches(way, model, rows)
    run = ours if way == "modelmill" else trainer
    seconds = run(way, model, rows, place)
    return {"losses": losses, "speed": sum(map(len, rows["ids"])) / seconds}


def same_batches(way: str, model: Any, rows: Mapping[str, Any]) -> list[float]:
    """Return the losses of the first batches, in the order of the rows, each computed in this way."""
    import torch
    from torch.nn import functional

    from modelmill.tokens.token_ids import Tokens
    from modelmill.training.gradients import batch_logits
    from modelmill.training.rows import EncodedRows

    data = EncodedRows(Tokens.of(rows["ids"]), np.array(rows["targets"], dtype=np.int64))
    found = []
    for start in range(0, 4 * BATCH, BATCH):
        places = np.arange(start, start + BATCH)
        targets = torch.from_numpy(data.targets[places])
        with torch.no_grad():
            if way == "modelmill":
                logits = batch_logits(model, data.tokens, places, torch.device("cpu"))
            else:
                batch = collate([{"input_ids": rows["ids"][n]} for n in places], fixed=way == "max_length")
                logits = model(batch["input_ids"], batch["attention_mask"])
            found.append(float(functional.cross_entropy(logits, targets)))
    return found


def collate(rows: list[dict[str, Any]], *, fixed: bool) -> dict[str, Any]:
    import torch

    width = MAX_TOKENS if fixed else max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[index, : len(row["input_ids"])] = 1
    found = {"input_ids": ids, "attention_mask": mask}
    if "labels" in rows[0]:
        found["labels"] = torch.tensor([row["labels"] for row in rows])
    return found


def ours(_way: str, model: Any, rows: Mapping[str, Any], place: Path) -> float:
    import torch
    from torch.nn import functional

    from modelmill.steps.fine_tune import FineTuneConfig
    from modelmill.tokens.token_ids import Tokens
    from modelmill.training.rows import EncodedRows
    from modelmill.training.trainer import train
    from modelmill.workspace import Workspace

    data = EncodedRows(Tokens.of(rows["ids"]), np.array(rows["targets"], dtype=np.int64))
    config = FineTuneConfig(
        base_model="",
        epochs=1,
        batch_size=BATCH,
        frozen_layers=0,
        train_embeddings=True,
        precision="fp32",  # as the Trainer computes
        max_tokens=MAX_TOKENS,
    )
    with Workspace.temporary(log=lambda _: None) as workspace:
        begin = time.process_time()
        train(
            model,
            data,
            validation=None,
            loss=lambda logits, targets, _: functional.cross_entropy(logits, targets),
            options=config,
            workspace=workspace,
        )
        assert torch.isfinite(model.head.weight).all(), place
        return time.process_time() - begin


def trainer(way: str, model: Any, rows: Mapping[str, Any], place: Path) -> float:
    import torch
    from torch.nn import functional
    from transformers import Trainer, TrainingArguments

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
            logits = self.model(input_ids, attention_mask)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    data = [{"input_ids": ids, "labels": n} for ids, n in zip(rows["ids"], rows["targets"], strict=True)]
    arguments = TrainingArguments(
        output_dir=str(place / "out"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=2e-4,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
    )
    run = Trainer(
        model=Wrapped(),
        args=arguments,
        train_dataset=data,
        data_collator=lambda batch: collate(batch, fixed=way == "max_length"),
    )
    begin = time.process_time()
    run.train()
    return time.process_time() - begin


def report(found: Mapping[str, list[Mapping[str, Any]]]) -> None:
    first = np.array(found["modelmill"][0]["losses"])
    worst = max(float(np.abs(first - run["losses"]).max()) for runs in found.values() for run in runs)
    speeds = {way: statistics.median(run["speed"] for run in runs) for way, runs in found.items()}
    print(f"medians of {len(found['modelmill'])} rounds, {os.cpu_count()} cores")
    print(f"losses of the same batches differ by at most {worst:.1e}\n")
    print("| way | real tokens per CPU second | modelmill is faster by |\n| --- | --- | --- |")
    for way, speed in speeds.items():
        print(f"| {way} | {speed:,.0f} | {speeds['modelmill'] / speed:.2f} |")


if __name__ == "__main__":
    main()
