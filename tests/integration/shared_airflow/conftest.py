"""One Airflow for the files of this folder, which a process runs: a start costs a minute of CPU time.

It reads pipelines from a store, as the canvas needs it, and parses a DAG file again only when it is asked to.
A file may add a DAG file of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo.servers import LocalAirflow, LocalMlflow

DAG_FILE = """
import os
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(os.environ["MODELMILL_PIPELINES"]))  # a file for Airflow and its DAG parser
"""
VERDICTS = '''
"""A gate that says what it is told."""

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.component import Component, Config, Inputs, Outputs


class SayConfig(Config):
    """Say."""

    passed: bool


class Nothing(Inputs):
    pass


class Verdict(Outputs):
    verdict: VerdictRef


def _run(config, inputs, context):
    model = ModelRef(uri="models:/m-1", run_id="r", digest="0" * 64, format="onnx", role="exported")
    reasons = () if config.passed else ("worse",)
    return Verdict(verdict=VerdictRef(
        passed=config.passed, name="topics", challenger=model, champion_version=1, reasons=reasons,
        uri="runs:/r/gate/verdict.json", run_id="r", summary="**topics: passed.** {{ macros }} 2 checks",
    ))


say = Component(
    name="say", title="Say", group="Check", config=SayConfig, inputs=Nothing, outputs=Verdict, run=_run
)
'''
COUNTING = """
pipeline: other
steps:
  first: {component: count, config: {journal: JOURNAL}}
  second: {component: count, inputs: {table: first.table}, config: {journal: JOURNAL}}
"""
ASKING = """
pipeline: NAME
steps:
  verdict: {component: say, config: {passed: PASSED}}
  answer: {component: approve, inputs: {verdict: verdict.verdict}, config: {timeout_hours: HOURS}}
"""


@pytest.fixture(scope="package")
def verdict_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a distribution is installed that has a component that yields verdicts."""
    site = tmp_path_factory.mktemp("verdicts") / "site"
    info = site / "verdicts-1.dist-info"
    info.mkdir(parents=True)
    (site / "saying.py").write_text(VERDICTS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: verdicts\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[modelmill.components]\nverdicts = saying\n")
    return site


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Airflow, MLflow and all that they read, with the pipelines that are there at first."""
    home = tmp_path_factory.mktemp("shared")
    store = home / "pipelines"
    store.mkdir()
    (store / "other.yaml").write_text(COUNTING.replace("JOURNAL", str(home / "journal")))
    for name, passed, hours in (
        ("asked", "true", "1"),
        ("late", "true", "0.0015"),
        ("refused", "false", "1"),
    ):
        text = ASKING.replace("NAME", name).replace("PASSED", passed).replace("HOURS", hours)
        (store / f"{name}.yaml").write_text(text)
    (home / "dags").mkdir()
    (home / "dags" / "loader.py").write_text(DAG_FILE)
    return home


@pytest.fixture(scope="package")
def mlflow(deployment: Path) -> Iterator[LocalMlflow]:
    with LocalMlflow(deployment / "mlflow") as server:
        yield server


@pytest.fixture(scope="package")
def airflow(
    deployment: Path, mlflow: LocalMlflow, toy_site: Path, verdict_site: Path
) -> Iterator[LocalAirflow]:
    paths = [str(toy_site), str(verdict_site), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "MLFLOW_TRACKING_URI": mlflow.url,
        "MODELMILL_HOME": str(deployment / "home"),
        "MODELMILL_PIPELINES": str(deployment / "pipelines"),
        # Only what is asked for is parsed again within the time of these tests.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        # Else a second change within half a minute waits for the next parse.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
    }
    with LocalAirflow(deployment / "airflow", deployment / "dags", environment=environment) as server:
        yield server
