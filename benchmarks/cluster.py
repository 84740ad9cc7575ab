"""Jobs on a standalone Spark of two workers, one of which is killed in each: rows, hashes, memory, CPU.

``./run python -m benchmarks.cluster 100000 1000000`` builds a dataset, scores and decides on tables of so
many short rows, embedded and on the cluster (through a Connect server; ``--submit``: by ``spark-submit``),
and compares what both made. A worker is killed as soon as tasks write, and another one starts.

*Driver*: peak memory of the process that asks (``VmHWM``), and of the JVM of the Connect server. *CPU*: of
all processes of the cluster while the job ran, by row; what dies with a killed worker is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from benchmarks.dataset_builds import OPTIONS, cpu_seconds, short_rows
from tests.jobs.standalone_spark import StandaloneSpark

from modelmill.artifacts import ModelRef, TableRef
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.jobs import JobRequest, run_job
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.rules.lifecycle.table_decisions import DecideRequest, table_decider
from modelmill.rules.pinned_rule_set import pin_rule_set
from modelmill.rules.reading import parse_rule_set
from modelmill.serving.scoring import ScoreTableRequest
from modelmill.settings import Settings
from modelmill.tables.opening import open_table
from modelmill.tables.reading import scan_arrow

HOME = Path(os.environ.get("MODELMILL_TEST_SPARK_HOME") or ".modelmill/spark/pyspark").absolute()
JOBS = ("build_dataset", "score_table", "decide")
COMPARED = ("id", "prediction", "score", "decision", "rule", "because")
CONF = {"spark.driver.memory": "1g", "spark.executor.memory": "1g", "spark.sql.shuffle.partitions": "4"}
RULES = """
rule_set: words
key: id
signals:
  word: {kind: phrases, column: text, phrases: [word7]}
  topic: {kind: model, column: text, model: MODEL, label: topic 0}
rules:
  - {name: word, when: word, then: remove}
  - {name: topic, when: topic > 0.6, then: review}
default: allow
on_unknown: look
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--jobs", nargs="*", choices=JOBS, default=JOBS)
    parser.add_argument("--submit", action="store_true", help="by spark-submit, without a Connect server")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(**json.loads(options.child))))
        return
    print("| job | rows | killed | same | driver, MB | server's JVM, MB | CPU µs a row | embedded |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="modelmill-cluster-") as folder:
            measure(Path(folder), rows, options.jobs, submit=options.submit)


def measure(folder: Path, rows: int, jobs: tuple[str, ...], *, submit: bool) -> None:
    """Run the jobs on one size of table, on both engines, and print a line for each."""
    from deltalake import write_deltalake

    schema = next(short_rows(1)).schema
    write_deltalake(str(folder / "in"), pa.RecordBatchReader.from_batches(schema, short_rows(rows)))
    make_bundle(folder / "model")
    cluster = StandaloneSpark(HOME, folder / "spark", conf=CONF, worker_memory="3g")
    with cluster.running():
        os.environ.update({k: v for k, v in cluster.environment.items() if k.startswith("SPARK_")})
        remote = cluster.url if submit else cluster.connect_server()
        for job in jobs:
            embedded = in_child(folder, job, None)
            before, to = cluster_cpu(cluster), folder / "cluster" / job
            lost = cluster.log("connect").count("Lost executor") if not submit else 0
            there = cluster.kill_in(lambda job=job: in_child(folder, job, remote), writes=to)
            cpu = there["cpu"] + cluster_cpu(cluster) - before
            killed = submit or cluster.log("connect").count("Lost executor") > lost
            same = embedded["content"] == there["content"]
            server = "" if submit else f"{peak_memory(cluster.server.pid) / 1e6:,.0f}"
            peaks = f"{there['peak'] / 1e6:,.0f} | {server}"
            costs = f"{cpu / rows * 1e6:,.0f} | {embedded['cpu'] / rows * 1e6:,.0f}"
            print(f"| {job} | {rows:,} | {killed} | {same} | {peaks} | {costs} |", flush=True)


def in_child(folder: Path, job: str, remote: str | None) -> dict[str, Any]:
    """Run a job in a process of its own, which is then the driver or the one that asks it."""
    asked = json.dumps({"folder": str(folder), "job": job, "remote": remote})
    command = [sys.executable, "-m", "benchmarks.cluster", "--child", asked]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def child(folder: str, job: str, remote: str | None) -> dict[str, Any]:
    """Run a job, and say what it made and what it took."""
    settings = dataclasses.replace(Settings.from_environment(), spark_remote=remote)
    place = Path(folder)
    asked = request(place, job, place / ("cluster" if remote else "embedded") / job, settings)
    result: Any = run_job(asked, settings=settings)
    peak, cpu = peak_memory(os.getpid()), cpu_seconds()
    if job == "build_dataset":
        content = [result.build.summary.hash, result.build.summary.rows, result.build.fates.model_dump()]
    else:
        content = content_of(result.table)
    return {"content": content, "peak": peak, "cpu": cpu}


def request(folder: Path, job: str, to: Path, settings: Settings) -> JobRequest[Any]:
    """Return what a job is asked."""
    table = TableRef(uri=str(folder / "in"), version=0)
    common = {"table": table, "to": str(to), "transaction": "k"}
    if job == "build_dataset":
        return BuildDatasetRequest(options=OPTIONS, **common)
    if job == "decide":
        rules = parse_rule_set(RULES.replace("MODEL", str(folder / "model")))
        return DecideRequest(decider=table_decider(pin_rule_set(rules, settings), table, settings), **common)
    digest = bundle_digest(folder / "model")
    model = ModelRef(uri="models:/words/1", run_id="0", digest=digest, format="onnx", role="exported")
    return ScoreTableRequest(
        model=model, bundle=str(folder / "model"), text="text", answer_type="string", keep=("id",), **common
    )


def content_of(table: TableRef) -> list[Any]:
    """Return the number of rows, and a sum of hashes of them, which does not depend on their order."""
    import pyarrow.compute as pc

    there = [field.name for field in open_table(table.uri, version=table.version).schema().fields]
    names = [name for name in there if name in COMPARED]
    count, total = 0, 0
    for batch in scan_arrow(table, columns=names, batch_rows=65_536):
        texts = [pc.fill_null(pc.cast(column, pa.string()), "\0") for column in batch.columns]
        for row in pc.binary_join_element_wise(*texts, "\1").to_pylist():
            total += int.from_bytes(hashlib.blake2b(row.encode(), digest_size=8).digest(), "big")
        count += batch.num_rows
    return [count, total % 2**64]


def make_bundle(folder: Path) -> None:
    """Make a model of the words' numbers: the mean of an embedding a word, which is its logits."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir()
    words = {"[UNK]": 0, **{f"word{number}": number + 1 for number in range(30_000)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = np.random.default_rng(0).normal(size=(len(words), 5)).astype(np.float32)
    inputs = ("input_ids", "attention_mask")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["tokens"]),
            helper.make_node("ReduceSum", ["tokens", "axis"], ["logits"], keepdims=0),
        ],
        "words",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 5])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    classes = tuple(f"topic {number}" for number in range(5))
    info = BundleInfo(
        format="onnx", label="topic", classes=classes, text="text", max_tokens=16, parameters=weights.size
    )
    info.save(folder)


def cluster_cpu(cluster: StandaloneSpark) -> float:
    """Return the CPU seconds of all processes of the cluster that live, and of their children that ended."""
    total = 0.0
    alive = [one.pid for one in cluster.started if one.poll() is None]
    for root in map(psutil.Process, alive):
        for process in [root, *root.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
    return total


def peak_memory(pid: int) -> int:
    """Return the largest resident size that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:,.0f} s", file=sys.stderr)
