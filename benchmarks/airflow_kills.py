"""Airflow's processes and its database are killed while pipelines run, and are started again.

    python -m benchmarks.airflow_kills --executors LocalExecutor CeleryExecutor

Runs of a pipeline of six steps (ingest, dataset, a tiny teacher, gate, promotion, scoring) go on side by
side in a real Airflow with PostgreSQL, beside a real MLflow, whose database is in the same PostgreSQL. Each
component is killed once with SIGKILL, with everything that descends from it, while one of the runs builds
its dataset, has its teacher learn, or promotes its champion. Three seconds later it is started again, as a
service manager does; what ends by itself meanwhile is, too. So each run meets all six kills. What the end
has to be says the same pipeline, run by ``modelmill run``: the same rows in as many commits, the same bits
of the champion, one version and one row of the ledger, one finished run for each step and none RUNNING.

Only the times after which Airflow misses somebody are shortened. Needs PostgreSQL, and Redis for Celery.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from benchmarks.night import cpu_seconds
from demo.servers import LocalAirflow, LocalMlflow, LocalPostgres, LocalRedis
from demo.servers.guard import family

from modelmill.system.scratch import scratch_folder

NOTHING = "nothing"
COMPONENTS = ("scheduler", "worker", "triggerer", "dag-processor", "api-server", "database")
KILLED_AT = ("dataset", "teacher", "champion")
BEFORE = {"dataset": "raw", "teacher": "dataset", "champion": "verdict"}
QUEUE = "default"
ROWS = 120
RESTART_SECONDS = 3.0
START_SECONDS = 400.0
MOST_SECONDS = 1500.0
TABLES = ("raw", "dataset", "scored")
DAG_FILE = """
from pathlib import Path
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(Path(__file__).parent / "pipelines"))  # a file for Airflow and its DAG parser
"""
PIPELINE = """
pipeline: {name}
steps:
  raw: {{component: ingest, config: {{source: "{folder}/landing/*.jsonl", to: "{folder}/{name}/raw"}}}}
  dataset:
    component: build_dataset
    inputs: {{table: raw.table}}
    config:
      {{key: id, text: text, labels: [label], split: {{test: 0.3, validation: 0.1}}, near_duplicates: null,
       to: "{folder}/{name}/dataset"}}
  teacher:
    component: fine_tune
    inputs: {{dataset: dataset.dataset}}
    config: {{base_model: "{folder}/base", max_tokens: 16, frozen_layers: 0, epochs: 200, batch_size: 8,
      learning_rate: 3.0e-3, head_learning_rate: 1.0e-2, checkpoint_seconds: 0.2}}
  verdict:
    component: gate
    inputs: {{dataset: dataset.dataset, challenger: teacher.model}}
    config:  # what a model with random weights learns does not matter here
      {{name: {name}, resamples: 200, max_drop: 0.5, max_drift: 0.5, max_below_baseline: 0.99,
       beat_majority: false, min_recall: null, max_calibration_error: null}}
  champion: {{component: promote, inputs: {{verdict: verdict.verdict}}}}
  scored:
    component: score_table
    inputs: {{table: raw.table, model: champion.model}}
    config: {{to: "{folder}/{name}/scored"}}
"""
MISSED_SOONER = {
    "AIRFLOW__MODELMILL__RETRY_DELAY": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
}
SLOW_MACHINE = {
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
    "AIRFLOW__CORE__PARALLELISM": "3",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "60",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--executors", nargs="+", default=["LocalExecutor", "CeleryExecutor"])
    parser.add_argument("--components", nargs="+", default=list(COMPONENTS))
    parser.add_argument("--runs", type=int, default=len(COMPONENTS), help="of each executor, side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keeps tables, logs and what has to come out there")
    options = parser.parse_args()
    place = contextlib.nullcontext(options.folder) if options.folder else scratch_folder("modelmill-kills-")
    with place as given:
        folder = given.absolute()
        names = {executor: names_of(executor, options.runs) for executor in options.executors}
        prepare(folder, [NOTHING, *(name for some in names.values() for name in some)])
        wrong = 0
        with services(folder) as (postgres, environment):
            os.environ |= environment
            expected = undisturbed(folder)
            for executor in options.executors:
                with airflow_with(executor, folder, postgres, environment) as airflow:
                    runs = Runs(folder, executor, airflow, postgres, random.Random(options.seed))
                    wrong += runs.play(names[executor], options.components, expected)
    sys.exit(wrong > 0)


def is_its_turn(component: str, step: str, states: Mapping[str, str | None]) -> bool:
    """Return whether a step is with a component. The triggerer has it for a second, before it runs."""
    if component != "triggerer":
        return states.get(step) == "running"
    before = states.get(BEFORE[step])
    return states.get(step) == "deferred" or (before == "success" and states.get(step) != "running")


def names_of(executor: str, runs: int) -> list[str]:
    """Return the names of an executor's pipelines, which are those of their models, too."""
    return [f"{executor.removesuffix('Executor').lower()}_{number}" for number in range(runs)]


def undisturbed(folder: Path) -> dict[str, Any]:
    """Run the pipeline without Airflow, once for a folder; return what it leaves behind."""
    kept = folder / "expected.json"
    if not kept.exists():
        pipeline = folder / "dags" / "pipelines" / f"{NOTHING}.yaml"
        subprocess.run([sys.executable, "-m", "modelmill", "run", str(pipeline)], check=True)
        kept.write_text(json.dumps(left_behind(folder, NOTHING)))
    return dict(json.loads(kept.read_text()))


def prepare(folder: Path, names: list[str]) -> None:
    """Write what the pipelines read, and the pipelines."""
    from benchmarks.factory_pipeline import WORDS, write_base_model

    source = random.Random(0)
    (folder / "landing").mkdir(parents=True, exist_ok=True)
    (folder / "dags" / "pipelines").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(ROWS):
        topic, own = (("sport", WORDS[:4]), ("trade", WORDS[4:8]))[number % 2]
        text = (
            f"{source.choice(own)} {source.choice(own)} {' '.join(source.choices(WORDS[8:], k=5))} {number}"
        )
        rows.append(json.dumps({"id": f"row-{number}", "text": text, "label": topic}))
    (folder / "landing" / "rows.jsonl").write_text("\n".join(rows))
    if not (folder / "base").exists():
        write_base_model(folder / "base")
    (folder / "dags" / "pipelines.py").write_text(DAG_FILE)
    for name in names:
        path = folder / "dags" / "pipelines" / f"{name}.yaml"
        path.write_text(PIPELINE.format(name=name, folder=folder))


@contextlib.contextmanager
def services(folder: Path) -> Iterator[tuple[LocalPostgres, dict[str, str]]]:
    """Start PostgreSQL and MLflow, which Airflow with either executor uses."""
    with LocalPostgres(folder / "postgres", databases=("airflow", "mlflow")) as postgres:
        # Without the driver's name, SQLAlchemy 2.1 would want psycopg, which nobody installs.
        database = f"postgresql+psycopg2://{postgres.address('mlflow')}"
        with LocalMlflow(folder / "mlflow", database=database) as mlflow:
            work = {"MODELMILL_HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": mlflow.url}
            yield postgres, {**work, "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def airflow_with(
    executor: str, folder: Path, postgres: LocalPostgres, environment: Mapping[str, str]
) -> Iterator[LocalAirflow]:
    """Start Airflow with an executor; the database is that of the one before."""
    database = f"postgresql+psycopg2://{postgres.address('airflow')}"
    settings: dict[str, str | None] = {
        **environment,
        **MISSED_SOONER,
        **SLOW_MACHINE,
        "MODELMILL_PIPELINES": None,
        "AIRFLOW__CORE__EXECUTOR": executor,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
    }
    with contextlib.ExitStack() as stack:
        celery = executor == "CeleryExecutor"
        if celery:
            settings["AIRFLOW__CELERY__BROKER_URL"] = stack.enter_context(LocalRedis(folder / "redis")).url
            settings["AIRFLOW__CELERY__RESULT_BACKEND"] = f"db+{database}"
        home, queues = folder / f"airflow-{executor}", (QUEUE,) if celery else ()
        airflow = LocalAirflow(home, folder / "dags", environment=settings, queues=queues)
        stack.callback(airflow.stop)
        airflow.start()
        airflow.wait_ready(timeout=START_SECONDS)
        airflow.warm_up(timeout=START_SECONDS)
        yield airflow


class Runs:
    """The runs of one executor, which go on side by side."""

    def __init__(
        self,
        folder: Path,
        executor: str,
        airflow: LocalAirflow,
        postgres: LocalPostgres,
        source: random.Random,
    ) -> None:
        self.folder, self.executor = folder, executor
        self.airflow, self.postgres, self.source = airflow, postgres, source
        self.restarted: Counter[str] = Counter()
        """What has ended by itself, and was started again."""
        self.kills: dict[str, list[str]] = {}
        """By run: what was killed, and at which of its steps."""

    def play(self, names: Sequence[str], components: Sequence[str], expected: Mapping[str, Any]) -> int:
        """Run the pipelines, and print a row for each; return how many ended otherwise than they should."""
        cpu, began = _cpu(), time.monotonic()
        with contextlib.closing(self.airflow.client()) as client:
            for name in names:
                client.wait_for_dag(name, timeout=START_SECONDS)
                client.unpause(name)
                client.trigger(name)
        steps = [self.source.choice(KILLED_AT) for _ in components]
        if len(names) < len(components):  # several for one run: each at another step
            steps = [KILLED_AT[number // len(names) % len(KILLED_AT)] for number in range(len(components))]
        targets = {
            component: (names[number % len(names)], step)
            for number, (component, step) in enumerate(zip(components, steps, strict=True))
        }
        left = self.run(names, targets)
        print(f"| {self.executor} | killed at its steps | tries | end |\n| --- | --- | --- | --- |")
        wrong = [self._judged(name, expected) for name in names].count(False)
        wall, used = time.monotonic() - began, _cpu() - cpu
        print(f"{self.executor}: {len(names) - wrong} of {len(names)} right; never killed: {sorted(left)};")
        print(
            f"ended by themselves: {dict(self.restarted)}; {wall:.0f} s, {used:.0f} CPU s or more", flush=True
        )
        return wrong + len(left)

    def _judged(self, name: str, expected: Mapping[str, Any]) -> bool:
        found, state = left_behind(self.folder, name), self.run_state(name)
        differs = {what: (one, expected[what]) for what, one in found.items() if one != expected[what]}
        tries = ", ".join(f"{task} {number}" for task, number in self.tries(name).items() if number > 1)
        right = state == "success" and not differs
        told = "right" if right else f"WRONG: {state} {differs or self.states(name)}"
        print(f"| {name} | {', '.join(self.kills.get(name, []))} | {tries} | {told} |", flush=True)
        return right

    def run(self, names: Sequence[str], targets: Mapping[str, tuple[str, str]]) -> set[str]:
        """Kill each component once, while a run is at a step; return those for which it was too late.

        :param names: the runs.
        :param targets: by component, the run and its step.
        """
        left = dict(targets)
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline:
            self.keep_up()
            for component, (name, step) in list(left.items()):
                states = self.states(name)
                if step != KILLED_AT[-1] and states.get(step) == "success":  # it was too quick
                    left[component] = (name, KILLED_AT[-1])
                elif is_its_turn(component, step, states):
                    if component != "triggerer":
                        time.sleep(self.source.uniform(0, 1))
                    if self.kill(component, name):
                        self.kills.setdefault(name, []).append(f"{component} ({step})")
                        del left[component]
            if all(self.run_state(name) in ("success", "failed") for name in names):
                break
            time.sleep(0.2 if left else 1)
        return set(left)

    def kill(self, component: str, name: str) -> bool:
        """Kill a component while a pipeline runs, and start it again; return whether it was there."""
        servers = self.airflow.servers
        assert servers is not None
        if component == "database":
            assert self.postgres.servers is not None
            self.postgres.servers.kill("postgres")
            time.sleep(RESTART_SECONDS)
            self.postgres.start_server()
            return True
        if component == "worker" and self.executor == "LocalExecutor":
            return self._kill_local_worker(name)
        server = f"worker-{QUEUE}" if component == "worker" else component
        servers.kill(server)
        time.sleep(RESTART_SECONDS)
        self.airflow.start_server(server)
        return True

    def _kill_local_worker(self, name: str) -> bool:
        """Kill the process of LocalExecutor that has a pipeline's task, and all below it."""
        query = "SELECT id FROM task_instance WHERE dag_id = %s AND state = 'running'"
        tasks = [str(task) for (task,) in self.asked(query, name)]
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("airflow worker -- LocalExecutor") and title.endswith(tuple(tasks)):
                    for one in family([process.pid], mark="").values():
                        with contextlib.suppress(psutil.Error):
                            one.kill()
                    return True
        return False

    def keep_up(self) -> None:
        """Start what has ended by itself, as a service manager does."""
        servers = self.airflow.servers
        for name in servers.ended() if servers else ():
            self.restarted[name] += 1
            self.airflow.start_server(name)

    def asked(self, query: str, name: str) -> list[tuple[Any, ...]]:
        """Return what Airflow's database says of a pipeline; nothing while it does not answer."""
        try:
            address = f"postgresql://{self.postgres.address('airflow')}"
            with contextlib.closing(psycopg2.connect(address)) as connection:
                cursor = connection.cursor()
                cursor.execute(query, (name,))
                return list(cursor.fetchall())
        except psycopg2.Error:
            return []

    def states(self, name: str) -> dict[str, str | None]:
        return dict(self.asked("SELECT task_id, state FROM task_instance WHERE dag_id = %s", name))

    def tries(self, name: str) -> dict[str, int]:
        return dict(self.asked("SELECT task_id, try_number FROM task_instance WHERE dag_id = %s", name))

    def run_state(self, name: str) -> str | None:
        found = self.asked("SELECT state FROM dag_run WHERE dag_id = %s", name)
        return found[0][0] if found else None


def left_behind(folder: Path, name: str) -> dict[str, Any]:
    """Return what a run has left behind, to be compared with one that nobody has disturbed."""
    from deltalake import DeltaTable

    from modelmill.registry.bundles import TAG_DIGEST
    from modelmill.registry.ledger import entries
    from modelmill.registry.tracking import tracking_client
    from modelmill.registry.versions import all_pages, champion_of
    from modelmill.settings import Settings
    from modelmill.tables.reading import read_arrow
    from modelmill.tables.versions import resolve_table

    found: dict[str, Any] = {}
    for table in TABLES:
        path = folder / name / table
        if not (path / "_delta_log").is_dir():
            found[table] = "not there"
            continue
        rows = read_arrow(resolve_table(str(path))).to_pylist()
        shown = sorted(repr([(key, row[key]) for key in sorted(row) if key in COLUMNS]) for row in rows)
        found[table] = f"{len(shown)} rows, {hashlib.sha256(repr(shown).encode()).hexdigest()}"
        found[f"{table}'s commits"] = DeltaTable(str(path)).version()
    settings = Settings.from_environment()
    client = tracking_client(settings.tracking_uri)
    versions = list(all_pages(client.search_model_versions, filter_string=f"name = '{name}'"))
    alias = champion_of(client, name)
    found["versions"] = [version.status for version in versions]
    found["champion"] = alias and [int(alias.version), alias.tags[TAG_DIGEST]]
    ledger = entries(settings, model=name)
    found["ledger"] = [[row.action, row.to_version] for row in ledger]
    experiment = client.get_experiment_by_name(name)
    known = [experiment.experiment_id] if experiment else []
    runs = list(all_pages(client.search_runs, experiment_ids=known)) if known else []
    finished = Counter(run.data.tags["modelmill.step"] for run in runs if run.info.status == "FINISHED")
    found["finished runs"] = dict(sorted(finished.items()))
    found["running"] = sum(run.info.status in ("RUNNING", "SCHEDULED") for run in runs)
    models = list(all_pages(client.search_logged_models, experiment_ids=known)) if known else []
    found["models"] = Counter(model.status.value for model in models)["READY"]
    return found


COLUMNS = frozenset({"id", "text", "label", "prediction", "score", "example_key", "split"})


def _cpu() -> float:
    """Return the CPU seconds of all processes that this one has started, as far as they are known."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds() + used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
