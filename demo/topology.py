"""``./run python -m demo.topology``: the demo's pipeline on a company's servers, and the same one embedded.

PostgreSQL, Redis, MLflow with a user and a password and artifacts in an S3-compatible store, a standalone
Spark with two workers, and Airflow with two Celery workers are started as plain processes on loopback. Then
the pipeline runs without any of them: SQLite, Sail in process, no Airflow. At the end it says whether both
have the same champion.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo import samples
from demo.__main__ import PIPELINE, ROOT, START_SECONDS, console, follow, stop
from demo.servers import Topology
from demo.servers.processes import relying_on
from demo.servers.topology import missing
from modelmill.artifacts import ModelRef, ReportRef
from modelmill.evaluation.results import EvaluationReport

_RUN_SECONDS = 5400.0
_LOADER = """
from pathlib import Path
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(Path(__file__).parent / "pipelines"))  # a file for Airflow and its DAG parser
"""


@dataclass(frozen=True)
class Outcome:
    """What a run of the pipeline has led to."""

    challenger: ModelRef
    """The exported student."""
    champion: str
    """URI of the registered version that it became; empty if the gate refused it, as with few rows it may."""
    scores: dict[str, float]
    """On the test rows, by metric."""

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.items())
        return f"{self.champion or 'refused by the gate'}, digest {self.challenger.digest[:16]}, {scores}"


def main() -> int:
    """Parse the command line, run the pipeline twice, and compare.

    :return: 0 if both have the same champion, or champions with the same scores.
    """
    parser = argparse.ArgumentParser(prog="./run python -m demo.topology", description=__doc__)
    parser.add_argument("--rows", type=int, help="take only so many train and test rows; all by default")
    parser.add_argument("--home", type=Path, default=ROOT / ".modelmill", help="where the samples are kept")
    options = parser.parse_args()
    if lacking := missing():
        console.print("python -m demo.topology needs:", *lacking, sep="\n  ")
        return 2
    signal.signal(signal.SIGTERM, stop)
    try:
        with tempfile.TemporaryDirectory(prefix="modelmill-topology-") as folder:
            Path(folder).chmod(0o711)  # PostgreSQL may run as another user
            return _compare(Path(folder), options.home.absolute(), rows=options.rows)
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left running")
        return 130


def _compare(folder: Path, home: Path, *, rows: int | None) -> int:
    landing, base_model = samples.prepare(home)
    for place in ("there", "here"):
        _land(landing / "landing" / "reuters_r8", folder / place / "landing" / "reuters_r8", rows)
    there, here = _on_servers(folder, base_model), _embedded(folder, base_model)
    console.print(f"on the servers: {there}\nembedded:       {here}")
    what = "champion" if there.champion else "challenger"
    if there.champion != here.champion:
        console.print("[red]not the same[/]: the gate lets one pass and not the other")
        return 1
    if there.challenger.digest == here.challenger.digest:
        console.print(f"[green]the same {what}[/]: its files are the same to the byte (same digest)")
    elif there.scores == here.scores:
        console.print(f"[green]{what}s with the same scores[/]; their files differ (other digest)")
    else:
        console.print(f"[red]another {what}[/]: neither the digest nor the scores are the same")
        return 1
    return 0


def _land(source: Path, target: Path, rows: int | None) -> None:
    target.mkdir(parents=True)
    for file in sorted(source.glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        # The corpus comes class by class: every n-th row has all classes.
        chosen = lines if rows is None else lines[:: max(1, len(lines) // rows)][:rows]
        (target / file.name).write_text("".join(chosen), encoding="utf-8")


def _on_servers(folder: Path, base_model: Path) -> Outcome:
    dags = folder / "dags"
    (dags / "pipelines").mkdir(parents=True)
    (dags / "loader.py").write_text(_LOADER)
    shutil.copy(ROOT / "dags" / "pipelines" / f"{PIPELINE}.yaml", dags / "pipelines")
    parameters = _parameters(folder / "there", base_model)
    console.print("[bold]servers[/]  PostgreSQL, Redis, S3, MLflow with users, Spark, Airflow with 2 workers")
    began = time.monotonic()
    with (
        Topology(folder / "servers", dags, environment=parameters) as servers,
        contextlib.closing(servers.airflow.client()) as client,
        relying_on(*(needed := (servers.mlflow.servers, servers.airflow.servers))),
    ):
        console.print(f"         all answer after {time.monotonic() - began:.0f} s")
        client.wait_for_dag(PIPELINE, timeout=START_SECONDS)
        client.unpause(PIPELINE)
        began = time.monotonic()
        run_id = client.trigger(PIPELINE)
        state = follow(client, run_id, *needed, seconds=_RUN_SECONDS)
        console.print(f"[bold]run[/]      {state} in {time.monotonic() - began:.0f} s")
        if state != "success":
            raise SystemExit(
                f"the pipeline must succeed on the servers; its steps: {client.states(PIPELINE, run_id)}"
            )
        challenger = ModelRef.model_validate(client.xcom(PIPELINE, run_id, "exported", "model"))
        report = ReportRef.model_validate(client.xcom(PIPELINE, run_id, "report", "report"))
        promoted = client.states(PIPELINE, run_id)["champion"] == "success"
        champion = client.xcom(PIPELINE, run_id, "champion", "model")["uri"] if promoted else ""
        with _environment(servers.environment):
            return Outcome(challenger, champion, _scores(report, servers.mlflow.url))


def _embedded(folder: Path, base_model: Path) -> Outcome:
    from modelmill.errors import InputError
    from modelmill.pipeline.local_run import StepEnd, run_pipeline
    from modelmill.pipeline.request import StepResult
    from modelmill.pipeline.validation import load_pipeline
    from modelmill.settings import Settings

    home = folder / "embedded"
    console.print("[bold]embedded[/] SQLite, Sail in process, no Airflow")
    began = time.monotonic()
    with _environment({"MODELMILL_HOME": str(home), **_parameters(folder / "here", base_model)}):
        settings = Settings.from_environment()
        spec = load_pipeline(str(ROOT / "dags" / "pipelines" / f"{PIPELINE}.yaml"))
        results: dict[str, StepResult] = {}

        def ended(end: StepEnd) -> None:
            console.print(f"         {end.step:10} {end.state} {end.seconds:6.1f} s")
            if end.result:
                results[end.step] = end.result

        with contextlib.suppress(InputError):  # where the gate refuses, there is no champion
            run_pipeline(spec, settings=settings, say=lambda _line: None, on_end=ended)
        console.print(f"[bold]run[/]      ended after {time.monotonic() - began:.0f} s")
        challenger = ModelRef.model_validate(results["exported"].outputs["model"])
        report = ReportRef.model_validate(results["report"].outputs["report"])
        promoted = results.get("champion")
        champion = ModelRef.model_validate(promoted.outputs["model"]).uri if promoted else ""
        return Outcome(challenger, champion, _scores(report, settings.tracking_uri))


def _parameters(data: Path, base_model: Path) -> dict[str, str]:
    return {"MODELMILL_PARAM_DATA": str(data), "MODELMILL_PARAM_BASE_MODEL": str(base_model)}


def _scores(report: ReportRef, tracking_uri: str) -> dict[str, float]:
    """Return the scores of the last model of a report: the exported student."""
    from modelmill.registry.tracking import tracking_client

    run_id, _, path = report.uri.removeprefix("runs:/").partition("/")
    with tempfile.TemporaryDirectory() as folder:
        file = tracking_client(tracking_uri).download_artifacts(run_id, path, folder)
        last = EvaluationReport.from_json(json.loads(Path(file).read_text())).models[-1]
    return {score.metric: score.value for score in last.scores}


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Have variables of modelmill and MLflow as given, and no others, for a while."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("MODELMILL_", "MLFLOW_")):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main())
