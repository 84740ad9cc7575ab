"""From a Delta table to padded batches: modelmill's training input beside what is usual.

``./run python -m benchmarks.tokens`` makes a table of 100,000 rows out of the docstrings of the installed
packages, and measures each way in processes of its own, in turns: the CPU seconds of all threads, without
the imports. Both make the same batches, of rows of like length; a pass that is not timed compares them bit by
bit. The usual way is ``datasets.map`` with the fast tokenizer of ``transformers``, then PyTorch's
``DataLoader`` with ``DataCollatorWithPadding``.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from demo.samples import prepare

from modelmill.artifacts import DatasetRef
from modelmill.settings import Settings

MAX_TOKENS = 256
BATCH = 32
MEAN_WORDS = 100
WAYS = ("modelmill", "usual")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.place, check=options.check)))
        return
    _, model = prepare(Settings.from_environment().home)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model").symlink_to(model)
        write_table(place / "table", options.rows)
        digests = {way: in_child(way, place, check=True)["digest"] for way in WAYS}
        if len(set(digests.values())) > 1:
            raise SystemExit(f"the batches differ: {digests}")
        found: dict[str, list[Mapping[str, float]]] = {way: [] for way in WAYS}
        for turn in range(options.rounds):
            for way in WAYS if turn % 2 else reversed(WAYS):
                found[way].append(in_child(way, place))
    report(found, options.rows)


def write_table(place: Path, rows: int) -> None:
    """Write rows of a log-normal number of words, each a piece of the installed packages' docstrings."""
    import pyarrow as pa
    from deltalake import write_deltalake

    random = np.random.default_rng(0)
    lengths = random.lognormal(np.log(MEAN_WORDS) - 0.7**2 / 2, 0.7, rows).astype(int).clip(3, 2000)
    words = docstring_words(1_500_000)
    starts = random.integers(0, len(words) - 2000, rows)
    texts = [" ".join(words[at : at + n]) for at, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    columns = {
        "id": [f"{key:07d}" for key in random.permutation(rows)],
        "text": texts,
        "topic": [f"topic {number}" for number in random.integers(0, 20, rows)],
        "split": ["train"] * rows,
    }
    write_deltalake(str(place), pa.table(columns))
    size = sum(map(len, texts))
    print(f"{rows:,} rows, {lengths.mean():.0f} words and {size / rows:.0f} characters each on average\n")


def docstring_words(count: int) -> list[str]:
    words: list[str] = []
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                words += (ast.get_docstring(node) or "").split(" ")
        if len(words) >= count:
            break
    return words


def in_child(way: str, place: Path, *, check: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.tokens", "--way", way, "--place", str(place)]
    output = subprocess.run(
        command + ["--check"] * check, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def measure(way: str, place: Path, *, check: bool) -> dict[str, Any]:
    passes = {"modelmill": modelmill_batches, "usual": usual_batches}[way]
    dataset = DatasetRef(
        uri=str(place / "table"), version=0, key="id", text="text", labels=("topic",), split="split"
    )
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        if check:
            digest = hashlib.sha256()
            for batch in passes(dataset, place, Path(cache)):
                for tensor in batch:
                    digest.update(repr(tensor.shape).encode() + tensor.numpy().tobytes())
            return {"digest": digest.hexdigest()}
        warm_up()
        for name in ("first", "cached"):
            begin = time.process_time()
            for _ in passes(dataset, place, Path(cache)):
                pass
            found[name] = time.process_time() - begin
        begin = time.process_time()
        read_only(dataset)
        found["read"] = time.process_time() - begin
    status = Path("/proc/self/status").read_text()
    found["peak"] = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return found


def warm_up() -> None:
    """Import what is imported late."""
    preload("datasets", "deltalake", "nanotoken", "pyarrow.compute", "pyarrow.dataset", "pyarrow.parquet")
    preload("transformers.models.auto.tokenization_auto", "transformers.data.data_collator")
    preload("modelmill.training.fine_tuning")


def preload(*names: str) -> None:
    """Import what would be imported later, and so be measured."""
    for name in names:
        importlib.import_module(name)


def read_only(dataset: DatasetRef) -> None:
    from modelmill.tables.reading import scan_arrow

    for _ in scan_arrow(dataset, columns=["id", "text"], batch_rows=8192):
        pass


def modelmill_batches(dataset: DatasetRef, place: Path, cache: Path) -> Iterator[tuple[Any, ...]]:
    import torch

    from modelmill.models.classifier import collate
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.batching import batches
    from modelmill.training.rows import EncodedRows
    from modelmill.workspace import Workspace

    data = read_labelled(dataset, label=None)
    texts = DatasetTexts(dataset, Workspace(place, cache, log=_say))
    tokens = texts.tokens(place / "model", max_tokens=MAX_TOKENS)
    rows = EncodedRows.of(tokens, data.train)
    plan = batches(rows.tokens.lengths, size=BATCH, seed=0, epoch=0)
    if not (place / "plan.json").exists():
        (place / "plan.json").write_text(json.dumps([batch.tolist() for batch in plan]))
    for batch in plan:
        yield *collate(rows.tokens, batch), torch.from_numpy(rows.targets[batch])


def usual_batches(dataset: DatasetRef, place: Path, cache: Path) -> Iterator[tuple[Any, ...]]:
    import datasets
    from deltalake import DeltaTable
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorWithPadding

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    file = cache / "encoded.arrow"
    if not file.exists():
        table = (
            DeltaTable(dataset.uri, version=0).to_pyarrow_table(columns=["id", "text", "topic"]).sort_by("id")
        )
        numbers = {name: n for n, name in enumerate(sorted(set(table.column("topic").to_pylist())))}

        def encode(rows: Mapping[str, list[str]]) -> dict[str, Any]:
            found = tokenizer(rows["text"], truncation=True, max_length=MAX_TOKENS)
            return {**found, "labels": [numbers[name] for name in rows["topic"]]}

        datasets.Dataset(table).map(
            encode, batched=True, remove_columns=["id", "text", "topic"], cache_file_name=str(file)
        )
    # The batches of the other way: which rows go together is not what is compared.
    plan = json.loads((place / "plan.json").read_text())
    loader = DataLoader(
        datasets.Dataset.from_file(str(file)),
        batch_sampler=plan,
        collate_fn=DataCollatorWithPadding(tokenizer),
    )
    for batch in loader:
        yield batch["input_ids"], batch["attention_mask"], batch["labels"]


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def report(found: Mapping[str, list[Mapping[str, float]]], rows: int) -> None:
    def median(way: str, name: str) -> float:
        return statistics.median(figures[name] for figures in found[way])

    def line(title: str, usual: float, ours: float) -> None:
        print(f"| {title} | {rows / usual:,.0f} | {rows / ours:,.0f} | {usual / ours:.1f} |")

    print(f"medians of {len(found['usual'])} rounds, {os.cpu_count()} cores; all batches are the same bits\n")
    print("| rows per CPU second | usual | modelmill | ratio |\n| --- | --- | --- | --- |")
    first = [median(way, "first") for way in ("usual", "modelmill")]
    read = statistics.median(figures["read"] for way in WAYS for figures in found[way])
    line("Delta to batches, first pass", *first)
    line("the same without reading the table", *(seconds - read for seconds in first))
    line("Delta to batches, later passes", *(median(way, "cached") for way in ("usual", "modelmill")))
    peaks = [f"{median(way, 'peak') / 1e6:,.0f}" for way in ("usual", "modelmill")]
    print(f"| peak memory of the process, MB | {' | '.join(peaks)} | |")


if __name__ == "__main__":
    main()
