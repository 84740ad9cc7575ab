"""Read every Delta table below some folders with our readers, and say what became of each.

Golden tables are those that other implementations of Delta keep to test their readers with:

- delta-io/delta: resources of connectors/golden-tables, kernel/kernel-defaults and spark
- delta-io/delta-rs: crates/test/tests/data
- delta-io/delta-kernel-rs: kernel/tests/data and kernel/tests/golden_data (unpack the archives there)

Where a table ``X/delta`` comes with Parquet files in ``X/expected``, those are the truth. For the others the
truth is what delta-kernel-rs reads: --oracle names an interpreter with ``delta-kernel-rust-sharing-wrapper``.

    python scripts/check_golden_tables.py --oracle /tmp/oracle/bin/python FOLDER...

Read right: the same rows. Refused: an error of ours, of one line, that names the feature or the damage.
Wrong: other rows, or an exception that is not ours. Exits with 1 if a table is read wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from modelmill.errors import InputError
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table

Outcome = Literal["right", "refused", "wrong", "no truth"]
Reader = Callable[[Path], pa.Table]

WRONG_TRUTH = {
    "data-reader-partition-values": "expected rows are seven hours off: delta-kernel-rs skips them too",
}
"""Golden tables whose own expected rows are known to be wrong."""

EDGE = "table_with_edge_timestamps"
"""delta-kernel-rs wraps these times round (INT96 beyond 2262); delta-rs's tests know better."""
EDGE_ROWS = ("9999-12-30T00:00:00", "9999-12-31T00:00:00")

_ORACLE = """
import sys
from pathlib import Path
import delta_kernel_rust_sharing_wrapper as kernel
import pyarrow as pa
place = Path(sys.argv[1]).as_uri() + "/"
store, table = kernel.PythonInterface(place), kernel.Table(place)
rows = kernel.ScanBuilder(table.snapshot(store)).build().execute(store).read_all()
with pa.OSFile(sys.argv[2], "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
    writer.write_table(rows)
"""


def rows_of(table: pa.Table) -> list[str]:
    """Return the rows as text, sorted: what two readers must agree in.

    :param table: the rows.
    :return: one string for each.
    """
    columns = {
        field.name: column.cast(pa.timestamp("us"), safe=False)  # zones may differ in their spelling
        if pa.types.is_timestamp(field.type)
        else column
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    return sorted(_text(row) for row in pa.table(columns).to_pylist())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(item)}" for name, item in sorted(value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return value.isoformat() if isinstance(value, datetime.datetime) else repr(value)


def truth(table: Path, oracle: str | None, scratch: Path) -> list[str] | None:
    """Return the rows that a table has.

    :param table: its directory.
    :param oracle: interpreter with delta-kernel-rs; None: without.
    :param scratch: folder for its answers, which are kept.
    :return: the rows as text; None if nobody says.
    """
    expected = table.parent / "expected"
    if table.name == "delta" and expected.is_dir() and table.parent.name not in WRONG_TRUTH:
        parts = [pq.read_table(path, partitioning=None) for path in sorted(expected.rglob("*.parquet"))]
        return rows_of(pa.concat_tables(parts, promote_options="permissive")) if parts else None
    if oracle is None or table.name == EDGE:
        return None
    answer = scratch / (str(table).strip("/").replace("/", "~") + ".arrow")
    if not answer.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        subprocess.run([oracle, "-c", _ORACLE, str(table), str(answer)], capture_output=True, check=False)
    with contextlib.suppress(OSError, pa.ArrowInvalid):  # it refused, or died half way
        return rows_of(pa.ipc.open_file(pa.memory_map(str(answer))).read_all())
    return None


def outcome(table: Path, read: Reader, known: list[str] | None) -> tuple[Outcome, str]:
    """Read a table and judge what came.

    :param table: its directory.
    :param read: the reader.
    :param known: its rows.
    :return: the outcome, and what to say of it.
    """
    try:
        found = rows_of(read(table))
    except InputError as error:
        return "refused", str(error).replace(str(table), "…")
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if table.name == EDGE:
        right = [any(time in row for row in found) for time in EDGE_ROWS]
        return ("right" if all(right) else "wrong"), f"{len(found)} rows"
    if known is None:
        return "no truth", f"{len(found)} rows"
    if found == known:
        return "right", f"{len(found)} rows"
    return "wrong", f"{len(found)} rows, {len(known)} expected, {len(set(found) ^ set(known))} differ"


@contextlib.contextmanager
def reader(engine: str) -> Iterator[Reader]:
    """Open a reader.

    :param engine: ``arrow``, ``sail`` or the URL of a Spark Connect server.
    :yields: a function from a table's directory to its rows.
    """
    if engine == "arrow":
        yield lambda table: read_arrow(resolve_table(str(table)))
        return
    from modelmill.settings import Settings
    from modelmill.spark import session
    from modelmill_jobs.reading import read_table

    remote = None if engine == "sail" else engine
    settings = Settings(home=Path(), ledger="", spark_remote=remote, python=sys.executable, tracking_uri="")
    with session(settings) as spark:
        yield lambda table: read_table(spark, resolve_table(str(table))).toArrow()


def main() -> int:
    """Check the folders that the command line names.

    :return: exit status.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--engine", default="arrow", help="arrow, sail or sc://HOST:PORT")
    parser.add_argument("--oracle", help="interpreter with delta-kernel-rust-sharing-wrapper")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path(tempfile.gettempdir(), "golden-truth"),
        help="the oracle's answers",
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    tables = sorted({log.parent.absolute() for folder in given.folders for log in folder.rglob("_delta_log")})
    seen: Counter[str] = Counter()
    with reader(given.engine) as read:
        for table in tables:
            result, said = outcome(table, read, truth(table, given.oracle, given.scratch))
            seen[result] += 1
            print(json.dumps({"outcome": result, "table": str(table), "said": said}), flush=True)
    print(
        f"{given.engine}: {len(tables)} tables: "
        + ", ".join(f"{n} {what}" for what, n in sorted(seen.items()))
    )
    return 1 if seen["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
