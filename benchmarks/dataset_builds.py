"""From a Delta table to a dataset: what it costs beside the usual way, night after night, and in memory.

``./run python -m benchmarks.dataset_builds`` measures three parts; name one to measure that alone. Every
measured run is a process of its own, and its CPU seconds are those of all its threads and children.

- ``end_to_end``: from a Delta table to deduplicated, split, tokenised batches, without imports. The usual
  way is ``datasketch`` for near-duplicates, as its documentation shows it, then ``datasets.map`` with the
  fast tokenizer of ``transformers``, then PyTorch's ``DataLoader`` with ``DataCollatorWithPadding``. It gets
  the first 10,000 rows only, for it is slow: what grows faster than the rows favours it so.
- ``incremental``: a night after which 1 % of the rows are new, beside building everything anew.
- ``memory``: peak memory of builds of 200,000 and of 2,000,000 short rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from benchmarks.tokens import docstring_words, preload

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

SPARK = ("pysail.spark", "pyspark.sql.connect.session", "modelmill_jobs.build_dataset")
OPTIONS = BuildOptions(text="text", labels=("topic",), key="id")
THRESHOLD = 0.55
MAX_TOKENS = 256
BATCH = 32
BLOCK = 1000
"""Rows among which copies are planted: the first blocks of a table are a faithful sample of it."""
EXACT, NEAR, CHANGED = 0.05, 0.05, 0.05
"""Shares of rows that are copies, that are nearly copies, and of the words in which these differ."""
USUAL_ROWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--divide", type=int, default=1, help="make every table that many times smaller")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asked = json.loads(options.child)
        print(json.dumps(CHILDREN[asked.pop("do")](**asked)))
        return
    for name, part in PARTS.items():
        if options.part in (name, "all"):
            with tempfile.TemporaryDirectory(prefix="modelmill-datasets-") as folder:
                part(Path(folder), options.rounds, options.divide)
            print()


def in_child(do: str, **asked: Any) -> dict[str, Any]:
    """Measure in a process of its own; its CPU seconds, imports and children included, come as ``cpu``."""
    command = [sys.executable, "-m", "benchmarks.dataset_builds", "--child", json.dumps({"do": do, **asked})]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found | {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


# Tables


class Texts:
    """Texts of words drawn from the installed packages' docstrings.

    :param mean: words of a text, on average.
    :param evenly: whether rare words are as frequent as others.
    """

    def __init__(self, mean: int, *, evenly: bool = False) -> None:
        self.random = np.random.default_rng(0)
        words = [word for word in docstring_words(1_500_000) if word.strip()]
        if evenly:
            words = sorted({word.lower() for word in words if word.isalnum()})
        self.words = np.array(words, object)
        self.mean = mean

    def fresh(self, count: int) -> list[npt.NDArray[np.object_]]:
        lengths = self.random.lognormal(np.log(self.mean) - 0.3**2 / 2, 0.3, count).astype(int).clip(20)
        drawn = self.words[self.random.integers(0, len(self.words), lengths.sum())]
        return np.split(drawn, np.cumsum(lengths)[:-1])

    def near(self, text: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
        """Return a text with some words changed."""
        text = text.copy()
        places = self.random.permutation(len(text))[: max(1, round(CHANGED * len(text)))]
        text[places] = self.words[self.random.integers(0, len(self.words), len(places))]
        return text


def planted_rows(texts: Texts, rows: int) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Return rows with planted copies, and the keys of the pairs that are nearly copies."""
    import pyarrow as pa

    columns: dict[str, list[str]] = {"id": [], "text": [], "topic": []}
    pairs = []
    for start in range(0, rows, BLOCK):
        exact, near = int(EXACT * BLOCK), int(NEAR * BLOCK)
        fresh = texts.fresh(BLOCK - exact - near)
        topics = [f"topic {number}" for number in texts.random.integers(0, 20, len(fresh))]
        origins = [*range(len(fresh)), *range(exact + near)]  # each copy has an original of its own
        block = [*fresh, *fresh[:exact], *(texts.near(text) for text in fresh[exact : exact + near])]
        keys = [f"{start + place:07d}" for place in texts.random.permutation(BLOCK).tolist()]
        pairs += [(keys[origins[place]], keys[place]) for place in range(BLOCK - near, BLOCK)]
        for place in np.argsort(keys).tolist():
            columns["id"].append(keys[place])
            columns["text"].append(" ".join(block[place]))
            columns["topic"].append(topics[origins[place]])
    return pa.table(columns), pairs


def short_rows(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield rows of 8 words; 5 % have the text of another one, and 2 % all but a word of it."""
    import pyarrow as pa

    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(30_000)], object)
    for start in range(0, rows, 20_000):
        count = min(20_000, rows - start)
        drawn = random.integers(0, len(words), (count, 8))
        topics = random.integers(0, 5, count)
        exact, near = count // 20, count // 50
        copies, origins = random.permutation(count)[: 2 * (exact + near)].reshape(2, -1)
        drawn[copies], topics[copies] = drawn[origins], topics[origins]
        drawn[copies[exact:], 7] = random.integers(0, len(words), near)
        texts = [" ".join(row) for row in words[drawn].tolist()]
        keys = [f"k{key:08d}" for key in range(start, start + count)]
        labels = [f"topic {topic}" for topic in topics.tolist()]
        yield pa.RecordBatch.from_pydict({"id": keys, "text": texts, "topic": labels})


# What is measured, each in a process of its own


def night(table: str, version: int, to: str) -> BuildDatasetRequest:
    """Ask for the dataset of a version."""
    return BuildDatasetRequest(
        table=TableRef(uri=table, version=version), options=OPTIONS, to=to, transaction=f"night {version}"
    )


def build(table: str, version: int, to: str) -> dict[str, Any]:
    """Build a dataset."""
    from modelmill.jobs import run_job

    preload(*SPARK)

    begin = cpu_seconds()
    result = run_job(night(table, version, to))
    status = Path("/proc/self/status").read_text()
    return {
        "version": result.dataset.version,
        "hash": result.build.summary.hash,
        "fates": result.build.fates.model_dump(),
        "peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024,
        "work": cpu_seconds() - begin,
    }


def update(table: str, version: int, to: str) -> dict[str, Any]:
    """Bring a dataset up to date."""
    from modelmill.datasets.incremental import update as bring_up_to_date

    # pyarrow and deltalake import pandas.
    preload("pandas", "pyarrow.compute", "pyarrow.parquet", "deltalake.query")
    begin = cpu_seconds()
    request = night(table, version, to)
    made = bring_up_to_date(request, log=_say)
    if made is None:
        raise SystemExit("the dataset must be brought up to date, not built anew")
    return {"hash": request.result(made).build.summary.hash, "work": cpu_seconds() - begin}


def steps(table: str, home: str) -> dict[str, Any]:
    """Run whole steps, with MLflow and plots, one after another in this process."""
    from modelmill.pipeline.request import StepRequest
    from modelmill.pipeline.runner import run_step

    settings = dataclasses.replace(
        Settings.from_environment(), home=Path(home), tracking_uri=f"sqlite:///{home}/mlflow.db"
    )

    def step(pipeline: str, version: int) -> float:
        begin = cpu_seconds()
        request = StepRequest(
            pipeline=pipeline,
            step="dataset",
            component="build_dataset",
            config=OPTIONS.model_dump(exclude_defaults=True),
            inputs={"table": TableRef(uri=table, version=version)},
        )
        run_step(request, settings)
        return cpu_seconds() - begin

    step("nightly", 0)
    return {"build": step("another", 1), "update": step("nightly", 1)}


def ours(table: str, model: str, out: str | None = None) -> dict[str, Any]:
    """Make batches as modelmill does; with ``out``, write what came out instead of measuring."""
    import torch

    from modelmill.models.classifier import collate
    from modelmill.tables.reading import read_arrow
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.batching import batches
    from modelmill.training.rows import EncodedRows
    from modelmill.workspace import Workspace

    preload(*SPARK)
    with tempfile.TemporaryDirectory() as folder:
        begin = cpu_seconds()
        made = build(table, 0, f"{folder}/dataset")
        dataset = DatasetRef(
            uri=f"{folder}/dataset",
            version=made["version"],
            key="example_key",
            text="text",
            labels=("topic",),
            split="split",
        )
        built = cpu_seconds()
        data = read_labelled(dataset, label=None)
        texts = DatasetTexts(dataset, Workspace(Path(folder), Path(folder), log=_say))
        tokens = texts.tokens(Path(model), max_tokens=MAX_TOKENS)
        rows = EncodedRows.of(tokens, data.train)
        for batch in batches(rows.tokens.lengths, size=BATCH, seed=0, epoch=0):
            _ = *collate(rows.tokens, batch), torch.from_numpy(rows.targets[batch])
        end = cpu_seconds()
        if out is not None:
            keys = read_arrow(dataset, columns=["example_key", "split"])
            _write_tokens(out, *(column.to_pylist() for column in keys.columns), list(tokens))
    return {"dataset": built - begin, "batches": end - built}


def usual(table: str, model: str, out: str | None = None) -> dict[str, Any]:
    """Make batches in the usual way; with ``out``, write what came out as well."""
    import datasets
    import pyarrow.compute as pc
    from deltalake import DeltaTable
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorWithPadding

    from modelmill.training.batching import batches

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as folder:
        begin = cpu_seconds()
        rows = datasets.Dataset(DeltaTable(table, version=0).to_pyarrow_table())
        rows = rows.select(_distinct(rows["text"]))
        rows = rows.add_column("split", [_split(key) for key in rows["id"]])
        built = cpu_seconds()
        numbers = {name: number for number, name in enumerate(sorted(set(rows["topic"])))}

        def encode(batch: Mapping[str, list[str]]) -> dict[str, Any]:
            found = tokenizer(batch["text"], truncation=True, max_length=MAX_TOKENS)
            return {**found, "labels": [numbers[name] for name in batch["topic"]]}

        encoded = rows.map(encode, batched=True, cache_file_name=f"{folder}/encoded.arrow")
        train = encoded.filter(
            lambda splits: [split == "train" for split in splits], batched=True, input_columns="split"
        ).select_columns(["input_ids", "attention_mask", "labels"])
        lengths = np.asarray(pc.list_value_length(train.with_format("arrow")["input_ids"][:]))
        # Rows of like length go together, as modelmill does it: that is not what is compared.
        plan = batches(lengths.astype(np.int64), size=BATCH, seed=0, epoch=0)
        loader = DataLoader(
            train,
            batch_sampler=[batch.tolist() for batch in plan],
            collate_fn=DataCollatorWithPadding(tokenizer),
        )
        for _ in loader:
            pass
        end = cpu_seconds()
        if out is not None:
            _write_tokens(out, *(list(encoded[name]) for name in ("id", "split", "input_ids")))
    return {"dataset": built - begin, "batches": end - built}


def _distinct(texts: Any) -> list[int]:
    """Return the places of texts without those that equal an earlier one, or nearly so."""
    import re

    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    seen, kept = set(), []
    for place, text in enumerate(texts):
        digest = hashlib.sha256(text.encode()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        words = re.findall(r"[^\W_]+", text.lower())
        shingles = {f"{one} {other}" for one, other in pairwise(words)} or set(words)
        signature = MinHash(num_perm=128)
        for shingle in shingles:
            signature.update(shingle.encode())
        if not index.query(signature):
            index.insert(place, signature)
            kept.append(place)
    return kept


def _split(key: str) -> str:
    share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < 0.2 else "validation" if share < 0.28 else "train"


def _write_tokens(out: str, keys: list[str], splits: list[str], ids: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.array([np.asarray(row, np.int64) for row in ids], pa.list_(pa.int64()))
    pq.write_table(pa.table({"id": keys, "split": splits, "ids": lists}), out)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


# The parts


def end_to_end(folder: Path, rounds: int, divide: int) -> None:
    from deltalake import write_deltalake
    from demo.samples import prepare

    _, model = prepare(Settings.from_environment().home)
    rows = {"ours": 100_000 // divide, "usual": USUAL_ROWS // divide}
    table, pairs = planted_rows(Texts(100), rows["ours"])
    for way, count in rows.items():
        write_deltalake(str(folder / way), table.slice(0, count))
    asked = {way: {"table": str(folder / way), "model": str(model)} for way in rows}
    for way in rows:
        in_child(way, **asked[way], out=str(folder / f"{way}.parquet"))
    print(_compared(folder, pairs))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in rows}
    for turn in range(rounds):
        for way in rows if turn % 2 else reversed(rows):
            found[way].append(in_child(way, **asked[way]))
    print(f"\n{rows['ours']:,} rows, {rows['usual']:,} for the usual way; medians of {rounds} rounds\n")
    print("| rows per CPU second, without imports | usual | modelmill | ratio |\n| --- | --- | --- | --- |")
    for title, parts in {
        "Delta to batches": ("dataset", "batches"),
        "of that: deduplicated and split": ("dataset",),
        "of that: tokenised and padded": ("batches",),
    }.items():
        seconds = {
            way: statistics.median(sum(run[part] for part in parts) for run in found[way]) for way in rows
        }
        slow, fast = (rows[way] / seconds[way] for way in ("usual", "ours"))
        print(f"| {title} | {slow:,.0f} | {fast:,.0f} | {fast / slow:.1f} |")


def _compared(folder: Path, pairs: list[tuple[str, str]]) -> str:
    """Return what came out on both sides; equal texts must have equal ids."""
    import pyarrow.parquet as pq

    ours_, usual_ = (pq.read_table(folder / f"{way}.parquet") for way in ("ours", "usual"))
    ids = dict(zip(usual_["id"].to_pylist(), usual_["ids"].to_pylist(), strict=True))
    both = [row for row in ours_.to_pylist() if row["id"] in ids]
    if not both or any(row["ids"] != ids[row["id"]] for row in both):
        raise SystemExit("rows that both keep must have the same token ids")
    lines = [f"{len(both):,} rows are kept by both ways: all have the same token ids"]
    for name, found in (("modelmill", ours_), ("usual", usual_)):
        splits = dict(zip(found["id"].to_pylist(), found["split"].to_pylist(), strict=True))
        kept = [(splits[one], splits[other]) for one, other in pairs if one in splits and other in splits]
        across = sum(one != other for one, other in kept)
        lines.append(f"{name}: {len(kept)} planted near-duplicates are kept beside their original, ")
        lines[-1] += f"{across} of them in another split"
        if name == "modelmill" and across:
            raise SystemExit(lines[-1])
    return "\n".join(lines)


def incremental(folder: Path, rounds: int, divide: int) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    rows, table = 200_000 // divide, str(folder / "source")
    # Among frequent words some buckets get crowded, and new rows in such a bucket need a full build.
    texts = Texts(60, evenly=True)
    first, _ = planted_rows(texts, rows)
    write_deltalake(table, first, configuration={"delta.enableChangeDataFeed": "true"})
    in_child("build", table=table, version=0, to=str(folder / "first"))
    count = rows // 100
    olds = first.column("text").take(texts.random.permutation(rows)[: count // 20]).to_pylist()
    fresh = [" ".join(text) for text in texts.fresh(count - len(olds))]
    near = [" ".join(texts.near(np.array(text.split(" "), object))) for text in olds]
    keys = [f"{rows + place:07d}" for place in range(count)]
    topics = [f"topic {number}" for number in texts.random.integers(0, 20, count)]
    write_deltalake(table, pa.table({"id": keys, "text": [*fresh, *near], "topic": topics}), mode="append")
    found: dict[str, list[dict[str, Any]]] = {"update": [], "build": []}
    for turn in range(rounds):
        for way in found if turn % 2 else reversed(found):
            to = folder / way
            for suffix in ("", "_quarantine"):
                shutil.rmtree(f"{to}{suffix}", ignore_errors=True)
                if way == "update":
                    shutil.copytree(f"{folder / 'first'}{suffix}", f"{to}{suffix}")
            found[way].append(in_child(way, table=table, version=1, to=str(to)))
    hashes = {run["hash"] for runs in found.values() for run in runs}
    if len(hashes) > 1:
        raise SystemExit(f"both ways must make the same dataset: {hashes}")
    print(f"{rows:,} rows and {count:,} new ones; medians of {rounds} rounds; the content hashes are equal\n")
    print("| CPU seconds | full build | a night with 1 % new rows | ratio |\n| --- | --- | --- | --- |")
    for name, key in (("with imports", "cpu"), ("without", "work")):
        slow, fast = (statistics.median(run[key] for run in found[way]) for way in ("build", "update"))
        print(f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |")
    whole = [in_child("steps", table=table, home=str(folder / f"home {turn}")) for turn in range(rounds)]
    slow, fast = (statistics.median(run[way] for run in whole) for way in ("build", "update"))
    print(f"| whole steps in one process | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |")


def memory(folder: Path, rounds: int, divide: int) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    sizes = [200_000 // divide, 2_000_000 // divide]
    for rows in sizes:
        batches = short_rows(rows)
        first = next(batches)
        write_deltalake(
            str(folder / str(rows)), pa.RecordBatchReader.from_batches(first.schema, _after(first, batches))
        )
    found: dict[int, list[dict[str, Any]]] = {rows: [] for rows in sizes}
    for _ in range(rounds):
        for rows in sizes:
            with tempfile.TemporaryDirectory(dir=folder) as to:
                found[rows].append(
                    in_child("build", table=str(folder / str(rows)), version=0, to=f"{to}/dataset")
                )
    print(f"rows of 8 words; medians of {rounds} rounds, largest in brackets\n")
    print("| rows | CPU s, with imports | peak memory |\n| --- | --- | --- |")
    peaks = {}
    for rows, runs in found.items():
        peaks[rows] = statistics.median(run["peak"] for run in runs) / 1e6
        cpu, largest = statistics.median(run["cpu"] for run in runs), max(run["peak"] for run in runs) / 1e6
        print(f"| {rows:,} | {cpu:.1f} | {peaks[rows]:,.0f} MB ({largest:,.0f}) |")
    print(f"\n10 times the rows take {peaks[sizes[1]] / peaks[sizes[0]]:.2f} times the memory")


def _after(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


CHILDREN = {"build": build, "update": update, "steps": steps, "ours": ours, "usual": usual}
PARTS = {"end_to_end": end_to_end, "incremental": incremental, "memory": memory}

if __name__ == "__main__":
    main()
