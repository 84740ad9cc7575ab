"""What a row costs, and what the driver holds, as tables grow: build_dataset, score_table and decide.

``./run python -m benchmarks.growth build --rows 100000 1000000`` makes a table of so many short rows below
``--folder`` (and keeps it for the next time), starts the engine as a server of its own, and runs the job with
each number of rows. The process that asks is the driver: its peak is what a job collects, with Python and
the libraries. The engine's process has the engine and, as Sail does it, the jobs' Python functions.

CPU seconds are those of both processes, without their start: a small job comes first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from benchmarks.dataset_builds import night, short_rows

from modelmill.artifacts import ModelRef, TableRef
from modelmill.jobs import JobRequest, run_job
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.rules.lifecycle.table_decisions import DecideTableRequest, table_decider
from modelmill.rules.pinned_rule_set import pin_rule_set
from modelmill.rules.reading import parse_rule_set
from modelmill.serving.scoring import ScoreTableRequest
from modelmill.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

WARM_ROWS = 2_000
WORDS = 30_000
"""Of the tables of short rows."""
RULES = """
rule_set: short
key: id
signals:
  even: {kind: phrases, column: text, phrases: [word2, word4, word6, word8]}
  long: {kind: regex, column: text, pattern: "word[0-9]{5}"}
rules:
  - {name: both, when: even AND long, then: remove}
  - {name: even, when: even, then: review}
default: allow
on_unknown: review
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", nargs="?", choices=[*REQUESTS])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "modelmill-growth")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.ask:
        print(json.dumps(ask(options.job, options.folder, options.rows[0], *options.ask)))
        return
    for rows in (WARM_ROWS, *options.rows):
        make_table(options.folder / str(rows), rows)
    print("| job | rows | CPU s | µs a row | wall s | driver MB | engine MB |\n|" + " --- |" * 7)
    for rows in options.rows:
        measure(options.job, options.folder, rows)


def measure(job: str, folder: Path, rows: int) -> None:
    """Run a job in two new processes, and print a line."""
    command = [sys.executable, "-m", "benchmarks.growth"]
    with subprocess.Popen([*command, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            remote = server.stdout.readline().strip()
            asked = [job, "--folder", str(folder), "--rows", str(rows), "--ask", remote, str(server.pid)]
            done = subprocess.run([*command, *asked], check=True, stdout=subprocess.PIPE, text=True).stdout
        finally:
            server.terminate()
    found = json.loads(done.splitlines()[-1])
    cost = found["cpu"] / rows * 1e6
    figures = f"{found['cpu']:.1f} | {cost:.1f} | {found['wall']:.0f} | {found['driver']:.0f}"
    print(f"| {job} | {rows:,} | {figures} | {found['engine']:.0f} |", flush=True)


def serve() -> None:
    """Be the engine: as embedded, in a process of its own."""
    from modelmill.spark import _embedded

    with _embedded() as remote:
        print(remote, flush=True)
        time.sleep(100_000)


def ask(job: str, folder: Path, rows: int, remote: str, engine: str) -> dict[str, float]:
    """Be the driver."""
    settings = dataclasses.replace(Settings.from_environment(), spark_remote=remote)
    server = psutil.Process(int(engine))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        run_job(REQUESTS[job](folder / str(WARM_ROWS), Path(place), "warm", settings), settings=settings)
        began, before = time.monotonic(), _cpu(server)
        run_job(REQUESTS[job](folder / str(rows), Path(place), "all", settings), settings=settings)
        return {
            "cpu": _cpu(server) - before,
            "wall": time.monotonic() - began,
            "driver": _peak(psutil.Process()),
            "engine": _peak(server),
        }


def _cpu(server: psutil.Process) -> float:
    """Return CPU seconds of this process and of the engine's, with children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in (psutil.Process(), server))


def _peak(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def make_table(place: Path, rows: int) -> None:
    """Write a table of short rows, unless it is there."""
    import pyarrow as pa
    from deltalake import write_deltalake

    if place.exists():
        return

    def batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from others

    others = short_rows(rows)
    first = next(others)
    scratch = place.with_name(f".{place.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    write_deltalake(str(scratch), pa.RecordBatchReader.from_batches(first.schema, batches()))
    scratch.rename(place)


def build(table: Path, place: Path, name: str, _settings: Settings) -> JobRequest[Any]:
    """Ask for a dataset."""
    return night(str(table), 0, str(place / name))


def score(table: Path, place: Path, name: str, _settings: Settings) -> JobRequest[Any]:
    """Ask for the answers of a model of two classes that knows every word."""
    folder = place / f"{name}-model"
    make_model(folder)
    model = ModelRef(
        uri="models:/words/1", run_id="0", digest=bundle_digest(folder), format="onnx", role="exported"
    )
    return ScoreTableRequest(
        table=TableRef(uri=str(table), version=0),
        model=model,
        bundle=str(folder),
        text="text",
        answer_type="string",
        keep=("id",),
        to=str(place / name),
        transaction="k",
    )


def decide(table: Path, place: Path, name: str, settings: Settings) -> JobRequest[Any]:
    """Ask for decisions by phrases and a pattern."""
    source = TableRef(uri=str(table), version=0)
    decider = table_decider(pin_rule_set(parse_rule_set(RULES), settings), source, settings)
    return DecideTableRequest(table=source, decider=decider, to=str(place / name), transaction="k")


def make_model(folder: Path) -> None:
    """Make a bundle whose logits are sums over the words of a text."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir()
    vocabulary = {"[UNK]": 0} | {f"word{number}": number + 1 for number in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = np.random.default_rng(0).normal(size=(len(vocabulary), 2)).astype(np.float32)
    shape = ["rows", "tokens"]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["found"]),
            helper.make_node("ReduceSum", ["found", "axis"], ["logits"], keepdims=0),
        ],
        "words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        folder / "model.onnx",
    )
    BundleInfo(
        format="onnx",
        label="topic",
        classes=("one", "two"),
        text="text",
        max_tokens=16,
        parameters=weights.size,
    ).save(folder)


REQUESTS = {"build": build, "score": score, "decide": decide}

if __name__ == "__main__":
    main()
