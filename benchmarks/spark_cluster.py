"""Jobs on a standalone Spark that loses a worker in each of them, beside the embedded engine.

``./run python -m benchmarks.spark_cluster --rows 100000 1000000`` makes tables of short rows (as
``benchmarks/growth.py``) and starts a master, two workers of two cores and a Connect server on the loopback
interface (``scripts/fetch_spark.sh .venv/bin/python`` fetches Spark). Each job runs embedded, and on the
cluster, where a worker is killed with SIGKILL as soon as tasks write, and another one starts. Right means:
the same rows, each once, and for a dataset the same content hash.

The driver is two processes, the one that asks and the Connect server: the peak of the first, which is new for
each job, that of the second, and what is in the second's heap after it was collected.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
from benchmarks.growth import REQUESTS, WARM_ROWS, make_table
from demo.servers import LocalSpark

from modelmill.datasets.dataset_rows import KEY_COLUMN
from modelmill.jobs import run_job
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table

CONF = {
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1500m",
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.files.maxPartitionBytes": "8m",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC",
    "spark.executor.extraJavaOptions": "-XX:+UseSerialGC",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=[*REQUESTS], default=[*REQUESTS])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "modelmill-growth")
    parser.add_argument("--ask", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.ask[0], Path(options.ask[1]), Path(options.ask[2]), options.ask[3])
        return
    distribution = LocalSpark.find(Path(__file__).parents[1])
    if distribution is None:
        raise SystemExit("a Spark distribution must be there: run scripts/fetch_spark.sh .venv/bin/python")
    for rows in (WARM_ROWS, *options.rows):
        make_table(options.folder / str(rows), rows)
    names = "job", "rows", "embedded, s", "with a worker killed, s", "lost executors", "client MB"
    print(f"| {' | '.join((*names, 'server MB', 'its heap MB', 'rows', 'keys', 'the same'))} |")
    print("|" + " --- |" * 11, flush=True)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as place,
        LocalSpark(Path(place) / "spark", distribution, conf=CONF, worker_memory="3g") as cluster,
    ):
        cluster.connect_server()
        for job in options.jobs:
            for rows in options.rows:
                compare(job, options.folder / str(rows), Path(place) / f"{job}-{rows}", cluster)


def compare(job: str, table: Path, place: Path, cluster: LocalSpark) -> None:
    """Run a job embedded and on the cluster, and print a line."""
    place.mkdir()
    here = asked(job, table, place / "embedded", None)
    lost = cluster.log("connect").count("Lost executor")
    with Memory(server_of(cluster)) as memory:
        there = cluster.kill_in(
            lambda: asked(job, table, place / "cluster", cluster.remote), writes=place / "cluster"
        )
    lost = cluster.log("connect").count("Lost executor") - lost
    found, expected = (digest(made["table"]) for made in (there, here))
    same = (found, there["summary"]) == (expected, here["summary"])  # a dataset's has its content hash
    cells = [f"{here['wall']:.0f}", f"{there['wall']:.0f}", lost, f"{there['peak']:.0f}", *memory.cells]
    print(
        f"| {' | '.join(map(str, (job, table.name, *cells, f'{found[0]:,}', found[1], same)))} |", flush=True
    )


def asked(job: str, table: Path, place: Path, remote: str | None) -> dict[str, Any]:
    """Run a job in a new process; return what :func:`ask` prints."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.spark_cluster",
        "--ask",
        job,
        str(table),
        str(place),
        remote or "",
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(done.splitlines()[-1])
    return found


def ask(job: str, table: Path, place: Path, remote: str) -> None:
    """Be the driver: run a job, and print what it made, in what time and memory."""
    settings = dataclasses.replace(Settings.from_environment(), spark_remote=remote or None)
    place.parent.mkdir(exist_ok=True)
    request = REQUESTS[job](table, place.parent, place.name, settings)
    began = time.monotonic()
    made: Any = run_job(request, settings=settings)
    status = Path("/proc/self/status").read_text()
    found = {
        "table": (made.dataset if job == "build" else made.table).uri,
        "summary": made.build.summary.model_dump_json() if job == "build" else None,
        "wall": time.monotonic() - began,
        "peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6,
    }
    print(json.dumps(found))


def digest(uri: str) -> tuple[int, int, str]:
    """Return a table's number of rows, of keys, and a hash of all rows in the order of their keys."""
    rows = read_arrow(resolve_table(uri))
    key = "id" if "id" in rows.column_names else KEY_COLUMN
    rows = rows.select(sorted(rows.column_names)).sort_by(key).combine_chunks()
    hashed = hashlib.sha256()
    for batch in rows.to_batches(max_chunksize=10_000):
        hashed.update(repr(batch.to_pylist()).encode())
    return rows.num_rows, pc.count_distinct(rows.column(key)).as_py(), hashed.hexdigest()


def server_of(cluster: LocalSpark) -> psutil.Process:
    """Return the Connect server's JVM."""
    for process in psutil.Process().children(recursive=True):
        line = " ".join(process.cmdline())
        if "SparkConnectServer" in line and str(cluster.connect_port) in line and "java" in process.name():
            return process
    raise SystemExit("the Connect server must run")


class Memory:
    """The Connect server's peak while a job runs, and its heap afterwards.

    :param server: the Connect server's JVM.
    """

    def __init__(self, server: psutil.Process) -> None:
        self._server = server
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._peak, self._heap = 0, 0.0

    def __enter__(self) -> Memory:
        self._watch.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._watch.join()
        command = ["jcmd", str(self._server.pid)]
        subprocess.run([*command, "GC.run"], check=True, stdout=subprocess.DEVNULL)
        said = subprocess.run(
            [*command, "GC.heap_info"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        used = [line.partition("used ")[2].partition("K")[0] for line in said.splitlines() if "total" in line]
        self._heap = sum(map(int, used)) / 1e3

    @property
    def cells(self) -> list[str]:
        """Megabytes, for the table."""
        return [f"{self._peak / 1e6:.0f}", f"{self._heap:.0f}"]

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self._peak = max(self._peak, self._server.memory_info().rss)


if __name__ == "__main__":
    main()
