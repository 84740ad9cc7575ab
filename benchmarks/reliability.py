"""All long runs with faults, one after the other, with the numbers that goals R1 to R20 ask for.

``./run python -m benchmarks.reliability --folder FOLDER`` takes most of a night on two cores. What each run
prints is kept in the folder, and a run that has ended right is not made again: the same command goes on.
``NAME ...`` makes these alone. At the end stands a table: what was run, for which goals, whether it ended
right, its CPU minutes and its last line. Goal R21, mutants of the core, has a tool of its own
(CONTRIBUTING.md), and the controls against attackers are all in ``./run test``.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_INPUTS = (
    "tests/library/training/test_checkpoints.py",
    "tests/library/training/test_loop.py",
    "tests/library/training/test_multi_device.py",
    "tests/library/tables/test_damage.py",
    "tests/jobs/test_bad_datasets.py",
    "tests/jobs/test_bad_corpus.py",
    "tests/integration/test_bad_inputs.py",
)
_ASKED = (
    "tests/jobs/test_label_steps.py",
    "tests/jobs/test_data_steps.py",
    "tests/integration/test_whole_pipeline.py",
)


@dataclass(frozen=True)
class Run:
    """A command that ends with status 0 if nothing was lost, doubled or silently wrong."""

    goals: str
    command: tuple[str, ...]
    """A module of Python, and its arguments."""
    environment: Mapping[str, str] = field(default_factory=dict)


RUNS = {
    "step_deaths": Run("R1, R16", ("benchmarks.step_deaths",)),
    "step_deaths_of_exports": Run(
        "R1", ("benchmarks.step_deaths", "--components", "distill", "prune", "quantize")
    ),
    "system_call_kills": Run("R1", ("benchmarks.system_call_kills",)),
    "kills": Run("R2, R3", ("benchmarks.kills", "--kills", "200")),
    "inputs": Run("R4, R7, R8, R15, R20", ("pytest", "-q", "--timeout", "0", *_INPUTS)),
    "killed_writers": Run("R5, R6", ("benchmarks.killed_writers",)),
    "promotions": Run("R9", ("benchmarks.promotions",)),
    "left_running": Run("R10", ("benchmarks.left_running",)),
    "lost_replies": Run("R11, R12", ("benchmarks.lost_replies",)),
    "full_disks": Run("R13", ("benchmarks.full_disks",)),
    "airflow_kills": Run("R14", ("benchmarks.airflow_kills",)),
    "asked_again": Run("R16", ("benchmarks.asked_again", "pytest", "-q", "--timeout", "0", *_ASKED)),
    "overlapping_tries": Run("R17", ("benchmarks.overlapping_tries", "--overlaps", "50")),
    "state_machines": Run(
        "R18",
        ("pytest", "-q", "-n", "2", "tests/library/simulation", "-k", "machine"),
        {"MODELMILL_EXAMPLES": "1000", "MODELMILL_NEW_EXAMPLES": "1"},
    ),
    "simulated_nights": Run(
        "R19", ("benchmarks.simulated_nights", "--seeds", "10000", "--nights", "1", "--processes", "2")
    ),
    "video_kills": Run("R1", ("benchmarks.video_kills",)),
    "soak": Run("R10", ("benchmarks.soak", "--nights", "200", "--folder", "{folder}/nights")),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="for what the runs print; is gone on with")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"without any all: {', '.join(RUNS)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(RUNS)):
        parser.error(f"{unknown[0]} is not a run; there are {', '.join(RUNS)}")
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    names = options.names or list(RUNS)
    rows = [_row(name, folder) for name in names]
    print("| run | goals | | CPU minutes | last line |", "| --- | --- | --- | --- | --- |", *rows, sep="\n")
    sys.exit(any("**wrong**" in row for row in rows))


def _row(name: str, folder: Path) -> str:
    """Make a run, unless it has ended right before; return its line of the table."""
    run, done = RUNS[name], folder / f"{name}.md"
    if done.exists():
        return done.read_text()
    command = [part.format(folder=folder) for part in run.command]
    print(f"{time.strftime('%H:%M')} {name}: python -m {' '.join(command)}", flush=True)
    log, before = folder / f"{name}.log", _cpu_seconds()
    with log.open("w") as file:
        status = subprocess.run(
            [sys.executable, "-m", *command],
            env=os.environ | dict(run.environment),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip(" =")] or [""]
    result = "right" if status == 0 else "**wrong**"
    last = said[-1].strip(" =").replace("|", "/")[:120]
    row = f"| {name} | {run.goals} | {result} | {(_cpu_seconds() - before) / 60:.1f} | {last} |"
    if status == 0:
        done.write_text(row)
    else:
        print(f"  it ended with status {status}; see {log}", flush=True)
    return row


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
