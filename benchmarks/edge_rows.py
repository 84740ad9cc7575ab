"""What a click on an edge costs, by the number of rows in its table: ``python benchmarks/edge_rows.py``.

The tables hold the same rows over and over, written with the defaults of deltalake, and have one version more
than the one that is shown. Measured is what the route calls: twenty rows, and with them the classes of the
first 100,000. CPU time is that of the process with all its threads; bytes are those that it asks for, by
``/proc/self/io``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from modelmill.tables.files import active_files
from modelmill.tables.preview import TablePreview, preview

SIZES = (100_000, 1_000_000, 10_000_000)
BATCH = 100_000
ROUNDS = 9
CLASSES = ("billing", "delivery", "returns", "other")


def batch() -> pa.RecordBatch:
    """Return rows of a message, its class and a number, which do not compress away."""
    random = Random(1)
    words = [f"{random.getrandbits(40):x}" for _ in range(20_000)]
    texts = [" ".join(random.choices(words, k=8)) for _ in range(BATCH)]
    labels = random.choices(CLASSES, k=BATCH)
    columns: dict[str, object] = {"id": [f"T{number}" for number in range(BATCH)], "text": texts}
    return pa.RecordBatch.from_pydict({**columns, "label": labels, "length": list(map(len, texts))})


def write(place: Path, rows: int, part: pa.RecordBatch) -> None:
    """Write a table of so many rows as its version 0, and one more row as version 1."""

    def parts() -> Iterator[pa.RecordBatch]:
        for _ in range(rows // BATCH):
            yield part

    write_deltalake(str(place), pa.RecordBatchReader.from_batches(part.schema, parts()))
    write_deltalake(str(place), pa.Table.from_batches([part.slice(0, 1)]), mode="append")


def bytes_read() -> int:
    """Return how many bytes this process has asked for so far."""
    said = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(said["rchar"])


def cost(act: Callable[[], TablePreview]) -> tuple[float, float, float]:
    """Return milliseconds of CPU, milliseconds of waiting and megabytes read: medians."""
    found = []
    for _ in range(ROUNDS):
        cpu, clock, read = time.process_time(), time.perf_counter(), bytes_read()
        act()
        measured = time.process_time() - cpu, time.perf_counter() - clock, bytes_read() - read
        found.append((1000 * measured[0], 1000 * measured[1], measured[2] / 1e6))
    return tuple(map(statistics.median, zip(*found, strict=True)))  # type: ignore[return-value] # three of them


def main() -> None:
    """Write the tables, and print a line for each."""
    part = batch()
    with tempfile.TemporaryDirectory() as folder:
        print("rows | files, rows in the first | shown | CPU ms | ms | MB read")
        for rows in SIZES:
            place = Path(folder, str(rows))
            write(place, rows, part)
            files = active_files(DeltaTable(str(place), version=0), str(place))
            layout = f"{len(files)}, {files[0].rows:,}"
            for shown, labels in (("20 rows", ()), ("and classes", ("label",))):
                cpu, clock, read = cost(partial(preview, str(place), version=0, labels=labels))
                print(f"{rows:,} | {layout} | {shown} | {cpu:.0f} | {clock:.0f} | {read:.2f}", flush=True)


if __name__ == "__main__":
    main()
