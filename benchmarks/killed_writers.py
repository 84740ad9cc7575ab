"""Processes that write to one Delta table at the same time, and processes that are killed while they write.

``./run python -m benchmarks.killed_writers`` lets 16 processes append 25 times each, then kills 100 writers
with SIGKILL after a random time, each of which another process tries again under the same transaction.
Afterwards the rows of each transaction must be there once, whole.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROWS = 5
"""Rows of a transaction."""


def write(place: str, transaction: str) -> None:
    """Append the rows of a transaction."""
    import pyarrow as pa

    from modelmill.tables.commits import write_rows

    rows = pa.table({"transaction": [transaction] * ROWS, "n": list(range(ROWS))})
    write_rows(place, rows, mode="append", transaction=transaction)


def child(work: Callable[[], None]) -> int:
    """Do some work in a process of its own, which has no threads of this one; return its id."""
    number = os.fork()
    if number == 0:
        status = 1
        try:
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return number


def ended(number: int) -> int:
    """Wait for a process; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def race(place: str, writers: int, commits: int) -> int:
    """Let writers append at the same time; return how many ended with an error."""

    def work(writer: int) -> None:
        for number in range(commits):
            write(place, f"{writer}-{number}")

    started = [child(functools.partial(work, writer)) for writer in range(writers)]
    return sum(ended(number) != 0 for number in started)


def kill(place: str, kills: int, seconds: float) -> tuple[int, int]:
    """Kill writers, and try each again; return how many were at work, and how many tries failed."""
    source, at_work, failed = random.SystemRandom(), 0, 0
    for number in range(kills):
        transaction = f"killed-{number}"
        writer = child(functools.partial(write, place, transaction))
        time.sleep(source.uniform(0, seconds))
        os.kill(writer, signal.SIGKILL)
        at_work += ended(writer) == -signal.SIGKILL
        failed += ended(child(functools.partial(write, place, transaction))) != 0
    return at_work, failed


def wrong(place: str, expected: set[str]) -> list[str]:
    """Return the transactions whose rows are not there once."""
    from deltalake import DeltaTable

    rows = Counter(DeltaTable(place).to_pyarrow_table()["transaction"].to_pylist())
    return sorted(name for name in expected | set(rows) if rows[name] != ROWS)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--commits", type=int, default=25)
    parser.add_argument("--kills", type=int, default=100)
    options = parser.parse_args()
    # Imported here once, and by no child: none of them starts a thread before it is used.
    import modelmill.tables.commits  # noqa: F401 (children are forked with it)

    with tempfile.TemporaryDirectory() as folder:
        raced, killed = str(Path(folder) / "raced"), str(Path(folder) / "killed")
        errors = race(raced, options.writers, options.commits)
        began = time.monotonic()
        ended(child(lambda: write(killed, "first")))
        at_work, failed = kill(killed, options.kills, time.monotonic() - began)
        commits = {f"{writer}-{n}" for writer in range(options.writers) for n in range(options.commits)}
        lost = wrong(raced, commits)
        bad = wrong(killed, {"first"} | {f"killed-{number}" for number in range(options.kills)})
    print(
        f"{len(commits) - len(lost)} of {len(commits)} commits of {options.writers} writers; {errors} errors"
    )
    print(f"{options.kills} writers killed, {at_work} of them at work: {len(bad)} wrong, {failed} errors")
    sys.exit(bool(lost or bad or errors or failed))


if __name__ == "__main__":
    main()
