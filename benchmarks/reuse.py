"""What small steps cost: CPU seconds for each, the first time and when nothing has changed.

    python -m benchmarks.reuse --steps 20

One pipeline on the embedded default (SQLite, no server) runs for the first time, with a new interpreter for
each step, and with forks of one process. Then all its steps are reused, by a process for each of them, as
operators do it, and by ``modelmill run``, which asks in its own process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

PIPELINE = """
pipeline: unchanged
groups:
  each: {{steps: [table], for_each: {{number: [{numbers}]}}}}
steps:
  table: {{component: delta_table, config: {{uri: "{table}"}}}}
  read: {{component: delta_table, config: {{uri: "{table}"}}}}
  dataset:
    component: build_dataset
    inputs: {{table: read.table}}
    config: {{text: text, labels: [label], key: id}}
"""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of this process and of its children that a call takes."""

    def used() -> float:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        usages = [resource.getrusage(kind) for kind in kinds]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = used()
    work()
    return used() - before


def write_table(path: Path) -> None:
    """Write a table of 2,000 short texts with two labels."""
    import pyarrow as pa
    from deltalake import write_deltalake

    rows = [
        {"id": str(n), "text": f"text {n} of {n * 7919 % 104729}", "label": "ab"[n % 2]} for n in range(2000)
    ]
    write_deltalake(str(path), pa.Table.from_pylist(rows))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="copies of the small step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELMILL_HOME"] = f"{folder}/home"
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        write_table(Path(folder) / "table")
        numbers = ", ".join(map(str, range(options.steps)))
        (Path(folder) / "p.yaml").write_text(PIPELINE.format(table=f"{folder}/table", numbers=numbers))
        first_runs(f"{folder}/p.yaml", Path(folder), options.steps + 2)
        compare(f"{folder}/p.yaml")


def first_runs(pipeline: str, folder: Path, steps: int) -> None:
    """Measure both ways to run all steps, in a home of its own each time."""
    other = Path(sys.executable).with_name("python3")  # by its path, steps are forked from it or not
    ways = {"a new interpreter for each step": str(other), "forks of one process": sys.executable}
    command = [sys.executable, "-m", "modelmill", "run", pipeline]
    print(f"| {steps} steps that run | CPU s | CPU s for each step |\n| --- | --- | --- |")
    for number in range(2 * len(ways)):
        name, python = list(ways.items())[number % len(ways)]
        environment = {"MODELMILL_HOME": f"{folder}/first-{number}", "MODELMILL_PYTHON": python}
        work = partial(subprocess.run, command, env=os.environ | environment, check=True, capture_output=True)
        seconds = cpu_seconds(work)
        print(f"| {name} | {seconds:.2f} | {seconds / steps:.3f} |", flush=True)


def compare(pipeline: str) -> None:
    """Run a pipeline, and measure both ways to reuse it."""
    from modelmill.pipeline.expansion import expand
    from modelmill.pipeline.local_run import request_for, run_pipeline
    from modelmill.pipeline.step_process import StepProcess
    from modelmill.pipeline.validation import load_pipeline
    from modelmill.settings import Settings

    settings, spec = Settings.from_environment(), load_pipeline(pipeline)
    results = run_pipeline(spec, settings=settings, say=lambda line: print(line, file=sys.stderr))
    outputs = {name: result.outputs for name, result in results.items()}
    expansion = expand(spec)

    def by_processes() -> None:
        for name in results:
            request = request_for(expansion, name, spec.param_values(), outputs)
            assert StepProcess(request, python=settings.python).run(lambda _line: None).reused

    command = ["-m", "modelmill", "run", pipeline]
    ways: dict[str, Callable[[], object]] = {
        "a process for each step": by_processes,
        "`modelmill run`, with its own start": lambda: os.spawnv(
            os.P_WAIT, sys.executable, [sys.executable, *command]
        ),
        "asked in a process that has asked before": lambda: run_pipeline(
            spec, settings=settings, say=lambda _line: None
        ),
    }
    print(f"| {len(results)} steps, nothing changed | CPU s | CPU s for each step |\n| --- | --- | --- |")
    for name, work in ways.items():
        seconds = cpu_seconds(work)
        print(f"| {name} | {seconds:.2f} | {seconds / len(results):.3f} |", flush=True)


if __name__ == "__main__":
    main()
