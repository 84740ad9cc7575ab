"""What several devices gain: one training in one process, and in one for each device.

``./run python -m benchmarks.devices`` trains all weights of all-MiniLM-L6-v2 for one pass over docstrings, on
the first GPU and on all of them. Without a GPU the processes share the CPU, each with one thread: that shows
what the processes say to each other costs, and gains something only if there are as many idle cores. What
counts is tokens per second from the first report of progress to the last, and apart from it the start.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from benchmarks.gpu import read, untrained
from benchmarks.training import BATCH, MAX_TOKENS, write_rows
from demo.samples import prepare
from torch.nn import functional

from modelmill.settings import Settings
from modelmill.steps.fine_tune import FineTuneConfig
from modelmill.training.loop import TrainingJob, TrainingLoop
from modelmill.training.multi_device import train_in_processes
from modelmill.workspace import Workspace


def main() -> None:
    devices = torch.cuda.device_count()
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000 if devices else 960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH * max(1, devices), help="rows per optimizer step")
    parser.add_argument("--processes", type=int, default=devices or 2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings.from_environment()
    _, model = prepare(settings.home)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model").symlink_to(model)
        write_rows(place, options.rows, mean=64)
        print("| processes | tokens/s | start s | last loss |\n| --- | --- | --- | --- |")
        for _ in range(options.rounds):
            for count in (1, options.processes):
                speed, start, loss = once(count, place, options.batch)
                print(f"| {count} | {speed:,.0f} | {start:.1f} | {loss:.6f} |", flush=True)


def once(count: int, place: Path, batch: int) -> tuple[float, float, float]:
    data, reports = read(place), []
    config = FineTuneConfig(
        base_model="",
        epochs=1,
        batch_size=batch,
        frozen_layers=0,
        train_embeddings=True,
        max_tokens=MAX_TOKENS,
        checkpoint_seconds=1e9,
    )
    job = TrainingJob(
        untrained(place),
        data,
        validation=None,
        loss=lambda logits, targets, _: functional.cross_entropy(logits, targets),
        options=config,
    )
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(
            workdir=Path(folder),
            cache=Path(folder),
            log=lambda _: None,
            progress=lambda done, *_, **__: reports.append((done, time.perf_counter())),
        )
        began = time.perf_counter()
        if count > 1:
            train_in_processes(count, job, workspace)
        trained = TrainingLoop(job, workspace).run()
    (first, start), (last, end) = reports[0], reports[-1]
    share = (last - first) / last
    tokens = float(data.tokens.lengths.sum()) * share
    return tokens / (end - start), start - began, trained.curve[-1][1]


if __name__ == "__main__":
    main()
