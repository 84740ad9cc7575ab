"""A night of many signals in a real Airflow: what it takes where nothing, or little, has changed.

    python -m benchmarks.night --signals 300 --before 20

One pipeline with a step for each signal, which reads a table of its own: a step has next to nothing to do, so
that the figures are those of starting it. Its steps are run once, in one process. Then Airflow
(LocalExecutor, SQLite, 4 slots) runs nights of it beside a real MLflow server: with nothing changed, with new
rows in the tables of five signals, and with one signal whose table is gone. With `--before` signals, a night
is run as it was before the triggerer asked (`[modelmill] ask_in_triggerer = False`), in an Airflow of its
own: each reused step is a task's process and a process of its own. What all processes of Airflow, of the
steps and of MLflow took is read from the kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

DAG_FILE = """
import os
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(os.environ["MODELMILL_PIPELINES"]))  # a file for Airflow and its DAG parser
"""
CHANGED = 5


def pipeline_text(name: str, signals: int, folder: Path) -> str:
    """Return the pipeline as JSON: a step for each signal, which reads a table of its own."""
    steps = {
        f"s{number:03d}": {"component": "delta_table", "config": {"uri": str(place_of(folder, number))}}
        for number in range(signals)
    }
    return json.dumps({"pipeline": name, "steps": steps})


def place_of(folder: Path, signal: int) -> Path:
    """Return where a signal's table lies."""
    return folder / "tables" / f"s{signal:03d}"


def write_rows(folder: Path, signal: int) -> None:
    """Append three rows to a signal's table."""
    import pyarrow as pa
    from deltalake import write_deltalake

    write_deltalake(str(place_of(folder, signal)), pa.table({"n": [1, 2, 3]}), mode="append")


def run_once(pipeline: str) -> None:
    """Run every step of a pipeline in this process."""
    from modelmill.artifacts import AnyReference
    from modelmill.pipeline.expansion import expand
    from modelmill.pipeline.local_run import request_for
    from modelmill.pipeline.runner import run_step
    from modelmill.pipeline.validation import load_pipeline
    from modelmill.settings import Settings

    spec, settings = load_pipeline(pipeline), Settings.from_environment()
    expansion = expand(spec)
    outputs: dict[str, dict[str, AnyReference]] = {}
    for name in expansion.spec.order():
        request = request_for(expansion, name, spec.param_values(), outputs)
        outputs[name] = run_step(request, settings).outputs


def cpu_seconds() -> float:
    """Return the CPU time of all processes below this one, those that have ended among them, and of steps."""
    import psutil

    return sum(map(_used, psutil.Process().children(recursive=True))) + cpu_of_step_servers().total()


def cpu_of_step_servers() -> Counter[int]:
    """Return the CPU time of the processes that fork steps, by their ids: they outlive what started them."""
    import psutil

    home, found = os.environ.get("MODELMILL_HOME"), Counter[int]()
    for process in psutil.process_iter(["cmdline"]):
        if "modelmill.cli.step_forks" in (process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("MODELMILL_HOME") == home:
                    found[process.pid] = _used(process) + sum(map(_used, process.children(recursive=True)))
    return found


def _used(process: psutil.Process) -> float:
    import psutil

    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system + used.children_user + used.children_system)


def measured(name: str, work: Callable[[], str], tasks: int) -> None:
    """Print a row: wall and CPU seconds of a night, and how its tasks ended."""
    before, began = cpu_seconds(), time.monotonic()
    how = work()
    wall, cpu = time.monotonic() - began, cpu_seconds() - before
    print(f"| {name} | {wall:.1f} | {cpu:.1f} | {cpu / tasks:.2f} | {how} |", flush=True)


def nights(
    folder: Path, name: str, signals: int, runs: Mapping[str, Callable[[], object]], *, ask: bool
) -> None:
    """Start an Airflow, and run nights of a pipeline in it.

    :param folder: where everything lies.
    :param name: the pipeline's name.
    :param signals: its signals.
    :param runs: what happens before each night, by what the table says of it.
    :param ask: whether the triggerer asks for results.
    """
    from demo.servers import LocalAirflow

    dags = folder / f"dags-{name}"
    dags.mkdir()
    (dags / "pipelines.py").write_text(DAG_FILE)
    options = {
        "AIRFLOW__MODELMILL__ASK_IN_TRIGGERER": str(ask),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        # As in production: the DAG processor does not read the files again all the time.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "120",
        "MODELMILL_PIPELINES": str(folder / name),
    }
    with (
        LocalAirflow(folder / f"airflow-{name}", dags, environment=options) as airflow,
        closing(airflow.client()) as client,
    ):
        airflow.warm_up(timeout=60)
        client.wait_for_dag(name)
        client.unpause(name)

        def night() -> str:
            run_id = client.trigger(name)
            while client.run_state(name, run_id) not in ("success", "failed"):
                time.sleep(2)  # not client.wait: to list 300 tasks twice a second is work, too
            states: Counter[str] = Counter()
            while states.total() < signals:
                page = {"limit": 100, "offset": states.total()}  # Airflow gives no more at once
                found = client.call("GET", f"/dags/{name}/dagRuns/{run_id}/taskInstances", params=page)
                states.update(task["state"] for task in found["task_instances"])
            return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))

        for what, happens in runs.items():
            happens()
            measured(f"{what}, {signals} signals", night, signals)


def run_locally(pipeline: Path, name: str, tasks: int) -> None:
    """Measure the command line on the night in which nothing has changed, and print a row as for Airflow.

    :param pipeline: its file.
    :param name: what the row says of it.
    :param tasks: its steps.
    """
    command = [sys.executable, "-m", "modelmill", "run", str(pipeline), "--json"]

    def work() -> str:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        states = Counter(one["state"] for one in json.loads(done.stdout).values())
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))

    from benchmarks.reuse import cpu_seconds as children_too

    began, how = time.monotonic(), list[str]()
    cpu = children_too(lambda: how.append(work()))
    wall = time.monotonic() - began
    print(f"| `modelmill run`, {name} | {wall:.1f} | {cpu:.1f} | {cpu / tasks:.3f} | {how[0]} |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--signals", type=int, default=300)
    parser.add_argument("--before", type=int, default=20, help="signals as each step was a process; 0: none")
    parser.add_argument("--seed", metavar="PIPELINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed:
        run_once(options.seed)
        return
    from demo.servers import LocalMlflow

    with tempfile.TemporaryDirectory(prefix="modelmill-night-") as place:
        folder = Path(place)
        os.environ["MODELMILL_HOME"] = str(folder / "home")
        for signal in range(options.signals):
            write_rows(folder, signal)
        sizes = {"night": options.signals, "before": options.before}
        with LocalMlflow(folder / "mlflow") as mlflow:
            os.environ["MLFLOW_TRACKING_URI"] = mlflow.url
            for name, signals in sizes.items():
                if signals:
                    (folder / name).mkdir()
                    path = folder / name / f"{name}.json"
                    path.write_text(pipeline_text(name, signals, folder))
                    began = time.monotonic()
                    subprocess.run(
                        [sys.executable, "-m", "benchmarks.night", "--seed", str(path)], check=True
                    )
                    print(f"{signals} signals made in {time.monotonic() - began:.0f} s", file=sys.stderr)
            print("| night | wall s | CPU s | CPU s a signal | tasks |\n| --- | --- | --- | --- | --- |")
            if options.before:
                nights(folder, "before", options.before, {"nothing changed, before": lambda: None}, ask=False)
            pipeline = folder / "night" / "night.json"
            run_locally(pipeline, f"{options.signals} signals", options.signals)
            runs: dict[str, Callable[[], object]] = {
                "nothing changed": lambda: None,
                f"{CHANGED} changed": lambda: [write_rows(folder, signal) for signal in range(CHANGED)],
                "one fails": lambda: shutil.rmtree(place_of(folder, CHANGED)),
            }
            nights(folder, "night", options.signals, runs, ask=True)


if __name__ == "__main__":
    main()
