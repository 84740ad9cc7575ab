"""How many signals a night takes: a trunk, a head, a gate and a promotion for each signal, in a real Airflow.

    python -m benchmarks.factory --signals 100 --parts floor night parse

`floor`: what Airflow itself takes for tasks that do nothing: a DAG of `EmptyOperator`, which the scheduler
ends, and one whose tasks begin and end in the triggerer. `night`: one pipeline on one trunk, with the copies
of a group for each signal; two nights in one process, one by `modelmill run`, then Airflow (LocalExecutor,
SQLite) beside a real MLflow server. `seed`: the two nights in one process alone, in `--folder`, where `night`
finds them. `parse`: as many small pipelines, read as Airflow's DAG processor does. CPU seconds are those of
all processes of a server, and of what it has started, read from the kernel. `--plain` takes Airflow's own
triggerer instead of `python -m modelmill_operators triggerer`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from benchmarks.factory_pipeline import ROWS, STEPS, pipeline_text, write_base_model, write_rows
from benchmarks.night import DAG_FILE, cpu_of_step_servers, run_locally, run_once

if TYPE_CHECKING:
    from demo.servers import LocalAirflow
    from demo.servers.airflow_client import AirflowClient

CHANGED = 5
PARTS = ("floor", "seed", "night", "parse")
SERVERS = ("scheduler", "triggerer", "dag processor", "api server", "mlflow")
COLUMNS = (*SERVERS, "workers", "steps")
FLOOR_FILE = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator
from airflow.triggers.base import StartTriggerArgs

class Ended(BaseOperator):
    start_trigger_args = StartTriggerArgs("ended_trigger.EndedTrigger", next_method="", trigger_kwargs={{}})
    start_from_trigger = True

with DAG("empty", max_active_tasks=4096):
    for number in range({tasks}):
        EmptyOperator(task_id=f"t{{number}}")
with DAG("ended", max_active_tasks=4096):
    for number in range({tasks}):
        Ended(task_id=f"t{{number}}")
"""
TRIGGER_FILE = """
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent

class EndedTrigger(BaseTrigger):
    def serialize(self):
        return "ended_trigger.EndedTrigger", {}

    async def run(self):
        yield TaskSuccessEvent()
"""


def cpu_by_server() -> Counter[str]:
    """Return CPU seconds by server, without forked steps; a scheduler's children are the workers."""
    used: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        try:
            times, parents = process.cpu_times(), [process, *process.parents()]
            names = [" ".join(one.cmdline()).replace("-", " ").replace("_", " ") for one in parents]
        except psutil.Error:
            continue
        found = next((name for line in names for name in SERVERS if name in line), None)
        if found is None:
            continue
        own, below = times.user + times.system, times.children_user + times.children_system
        if found == "scheduler":
            is_child = any("scheduler" in line for line in names[1:])
            used["workers"] += below + (own if is_child else 0.0)
            used["scheduler"] += 0.0 if is_child else own
        else:
            used[found] += own + below
    return used


def night(client: AirflowClient, dag_id: str, tasks: int, **params: str) -> tuple[str, int]:
    """Run a DAG; return how its tasks ended, and how many of them a worker has had."""
    run_id = client.trigger(dag_id, params)
    while client.run_state(dag_id, run_id) not in ("success", "failed"):
        time.sleep(2)
    states: Counter[str] = Counter()
    on_workers = 0
    while states.total() < tasks:
        page = {"limit": 100, "offset": states.total()}  # Airflow gives no more at once
        found = client.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params=page)
        if not found["task_instances"]:
            raise SystemExit(f"{dag_id} must have {tasks} tasks; it has {states.total()}")
        states.update(task["state"] for task in found["task_instances"])
        on_workers += sum(task["pid"] is not None for task in found["task_instances"])
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())), on_workers


def row(what: str, client: AirflowClient, dag_id: str, tasks: int) -> None:
    """Measure a night, and print its row."""
    before, forked, began = cpu_by_server(), cpu_of_step_servers(), time.monotonic()
    load = os.getloadavg()[0]
    how, on_workers = night(client, dag_id, tasks)
    wall, after = time.monotonic() - began, cpu_by_server()
    cpu = {name: max(after[name] - before[name], 0.0) for name in COLUMNS}
    cpu["steps"] = sum(used - forked[pid] for pid, used in cpu_of_step_servers().items())
    total = sum(cpu.values())
    cells = [f"{cpu[name]:.1f}" for name in COLUMNS]
    cells = [what, f"{wall:.1f}", f"{total:.1f}", f"{total / tasks:.3f}", *cells]
    print(f"| {' | '.join(cells)} | {on_workers} | {how} | {load:.1f} |", flush=True)


def print_header() -> None:
    """Print the head of the table of nights."""
    names = ["night", "wall s", "CPU s", "CPU s a task", *COLUMNS, "on a worker", "tasks", "load before"]
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}", flush=True)


def airflow_of(folder: Path, dags: Path, *, plain: bool, python_path: str = "") -> LocalAirflow:
    """Return an Airflow with the settings that docs/production.md names."""
    from demo.servers import LocalAirflow

    more = {"PYTHONPATH": os.pathsep.join([python_path, os.environ.get("PYTHONPATH", "")])}
    return LocalAirflow(folder / "airflow", dags, environment={**SETTINGS, **more}, plain_triggerer=plain)


SETTINGS = {
    "AIRFLOW__MODELMILL__ASK_IN_TRIGGERER": "True",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "4096",
    "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "200",
    # As in production: the DAG processor does not read the files again all the time.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "300",
}


def floor(folder: Path, tasks: int) -> None:
    """Measure tasks that do nothing."""
    folder.mkdir()
    dags = folder / "dags"
    dags.mkdir()
    (dags / "floor.py").write_text(FLOOR_FILE.format(tasks=tasks))
    (folder / "ended_trigger.py").write_text(TRIGGER_FILE)
    with (
        airflow_of(folder, dags, plain=True, python_path=str(folder)) as airflow,
        closing(airflow.client()) as client,
    ):
        for dag_id, what in {"empty": "`EmptyOperator`", "ended": "ended in the triggerer"}.items():
            client.wait_for_dag(dag_id)
            client.unpause(dag_id)
            row(f"floor: {tasks} tasks, {what}", client, dag_id, tasks)


def seed(folder: Path, signals: int) -> None:
    """Make the tables, and run the pipeline twice in one process, unless the folder has them from before."""
    from demo.servers import LocalMlflow

    if (folder / "seeded").exists():
        return
    folder.mkdir(parents=True)
    write_base_model(folder / "base")
    for signal in range(signals):
        write_rows(folder, signal)
    path = pipeline_file(folder)
    path.parent.mkdir()
    path.write_text(pipeline_text("factory", signals, folder))
    with LocalMlflow(folder / "mlflow") as mlflow:
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.factory", "--twice", str(path)]
        environment = {**os.environ, **home_of(folder), "MLFLOW_TRACKING_URI": mlflow.url}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds = time.monotonic() - began
    print(f"\nfirst two nights of {signals} signals, in one process: {seconds:.0f} s\n", flush=True)
    (folder / "seeded").touch()


def pipeline_file(folder: Path) -> Path:
    """Return where the pipeline lies."""
    return folder / "pipelines" / "factory.yaml"


def home_of(folder: Path) -> dict[str, str]:
    """Return the variables that say where everything lies."""
    return {"MODELMILL_HOME": str(folder / "home"), "MODELMILL_PIPELINES": str(folder / "pipelines")}


def nights(folder: Path, signals: int, *, plain: bool) -> None:
    """Run the pipeline twice, then a night of it by ``modelmill run``, and three in Airflow."""
    from demo.servers import LocalMlflow

    seed(folder, signals)
    os.environ |= home_of(folder)
    dags, tasks = folder / "dags", 1 + STEPS * signals
    dags.mkdir()
    (dags / "pipelines.py").write_text(DAG_FILE)
    with LocalMlflow(folder / "mlflow") as mlflow:
        os.environ["MLFLOW_TRACKING_URI"] = mlflow.url
        print("| night | wall s | CPU s | CPU s a step | steps |\n|" + " --- |" * 5)
        load = os.getloadavg()[0]
        run_locally(pipeline_file(folder), f"{signals} signals, nothing changed; load {load:.1f}", tasks)
        print(flush=True)
        print_header()
        with airflow_of(folder, dags, plain=plain) as airflow, closing(airflow.client()) as client:
            airflow.warm_up(timeout=60)
            client.wait_for_dag("factory")
            client.unpause("factory")
            row(f"{signals} signals, nothing changed", client, "factory", tasks)
            for signal in range(CHANGED):
                write_rows(folder, signal, first=ROWS)
            row(f"{signals} signals, {CHANGED} changed", client, "factory", tasks)
            (folder / "tables" / f"s{CHANGED:03d}").rename(folder / "gone")
            row(f"{signals} signals, one fails", client, "factory", tasks)


def parse(folder: Path, pipelines: int) -> None:
    """Read small pipelines as the DAG processor does, in a process of its own; print what that took."""
    for number in range(pipelines):
        path = folder / f"p{number:03d}" / f"p{number:03d}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(pipeline_text(f"p{number:03d}", 1, folder))
    code = (
        "import sys, time\nfrom modelmill_operators.loader import load_pipelines\n"
        "began = time.process_time()\n"
        "dags = load_pipelines(sys.argv[1])\nused = time.process_time() - began\n"
        "assert not any('invalid' in dag.tags for dag in dags.values())\n"
        "heavy = {'torch', 'mlflow', 'transformers', 'pandas', 'deltalake', 'pyspark'} & sys.modules.keys()\n"
        "print(f'{len(dags)} pipelines of 7 steps read: {used / len(dags):.4f} CPU s each, '\n"
        "      f'{time.process_time():.2f} CPU s with the imports; heavy imports: {sorted(heavy) or None}')"
    )
    script = folder / "parse.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script), str(folder)], check=True, env={**os.environ, **SETTINGS})


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=300, help="of the DAGs that do nothing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=("floor", "night", "parse"))
    parser.add_argument("--plain", action="store_true", help="take Airflow's own triggerer")
    parser.add_argument("--folder", type=Path, help="of `seed` and `night`, which stays; a new one that goes")
    parser.add_argument("--twice", metavar="PIPELINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.twice:
        run_once(options.twice)
        run_once(options.twice)  # the gates see the new champions: from the third night on nothing changes
        return
    with tempfile.TemporaryDirectory(prefix="modelmill-factory-") as place:
        os.environ["AIRFLOW_HOME"] = f"{place}/none"
        kept = options.folder or Path(place) / "night"
        parts: Mapping[str, Callable[[], None]] = {
            "floor": lambda: (print_header(), floor(Path(place) / "floor", options.tasks))[1],
            "seed": lambda: seed(kept, options.signals),
            "night": lambda: nights(kept, options.signals, plain=options.plain),
            "parse": lambda: parse(Path(place) / "parse", options.signals),
        }
        for part in options.parts:
            parts[part]()


if __name__ == "__main__":
    main()
