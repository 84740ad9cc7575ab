"""A real Airflow in this process: its own home, a SQLite database, one DAG file that loads pipelines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import DAG

DAG_FILE = """
import os
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines(os.environ["MODELMILL_PIPELINES"]))  # a file for Airflow and its DAG parser
"""

MIGRATED = "migrated.db"
"""The database as the migration leaves it."""


@pytest.fixture(autouse=True)
def _steps_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork no steps: each test has another environment, so that each would leave a server behind."""
    monkeypatch.setenv("AIRFLOW__MODELMILL__FORK_STEPS", "False")


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Airflow's home with a migrated database and the DAG file."""
    home = Path(os.environ["AIRFLOW_HOME"])
    (home / "dags").mkdir(exist_ok=True)
    (home / "dags" / "pipelines.py").write_text(DAG_FILE)
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    shutil.copy(home / "airflow.db", home / MIGRATED)
    return home


@pytest.fixture
def own_airflow_home(tmp_path: Path, airflow_home: Path) -> Path:
    """A home for another process, with the same DAG file.

    A process that writes to the database of this one, and ends, leaves it malformed for this one: its
    connections are open, with the state of SQLite's log as they have read it.
    """
    home = tmp_path / "airflow"
    shutil.copytree(airflow_home / "dags", home / "dags")
    shutil.copy(airflow_home / MIGRATED, home / "airflow.db")
    return home


@pytest.fixture
def pipelines(tmp_path: Path, airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the DAG file reads."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    monkeypatch.setenv("MODELMILL_PIPELINES", str(folder))
    monkeypatch.setenv("AIRFLOW__MODELMILL__RETRY_DELAY", "0.1")
    return folder


@pytest.fixture
def parsed(pipelines: Path, airflow_home: Path) -> Callable[[], dict[str, DAG]]:
    """Parse the DAG file as Airflow does."""
    from airflow.dag_processing.dagbag import BundleDagBag

    def parse() -> dict[str, DAG]:
        folder = airflow_home / "dags"
        bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
        assert not bag.import_errors
        return dict(bag.dags)

    return parse
