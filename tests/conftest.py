"""Fixtures that several test folders share. Everything in them is real and tiny."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmill.pipeline.catalogue import catalogue
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

TOY_COMPONENTS = '''
"""Components of another distribution: what a third party ships."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from modelmill.artifacts import TableRef
from modelmill.errors import DatasetError, TransientError
from modelmill.pipeline.component import Component, Config, Inputs, Outputs


class CountConfig(Config):
    """Write down a number, once for each real run."""

    journal: str
    number: int = 0
    behaviour: str = "work"


class MaybeTable(Inputs):
    table: TableRef | None = None


class Table(Outputs):
    table: TableRef


def _run(config, inputs, context):
    journal = Path(config.journal)
    with journal.open("a") as file:
        file.write(f"{context.step}\\n")
    attempts = journal.read_text().count(f"{context.step}\\n")
    context.progress(1, 2, number=config.number)
    context.log(f"attempt {attempts} of {context.step}")
    if config.behaviour == "refuse":
        raise DatasetError("a number must be even", got=config.number, remedy="add one")
    if config.behaviour == "flaky" and attempts == 1:
        raise TransientError("the weather must be fine", remedy="wait")
    if config.behaviour == "die" and attempts == 1:
        (context.workdir / "checkpoint").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    if config.behaviour == "die" and (context.workdir / "checkpoint").read_text() != "half":
        raise RuntimeError("the dead attempt's checkpoint is gone")
    if config.behaviour == "sleep":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        journal.with_suffix(".pid").write_text(str(child.pid))
        time.sleep(600)
    version = config.number + (inputs.table.version if inputs.table else 0)
    return Table(table=TableRef(uri="/toy", version=version))


count = Component(
    name="count", title="Count", group="Data", config=CountConfig, inputs=MaybeTable, outputs=Table, run=_run
)
'''


@pytest.fixture
def toy_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install another distribution that adds a component ``count``, for this process and its children."""
    site = tmp_path / "site"
    info = site / "toy_components-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "toy_components.py").write_text(textwrap.dedent(TOY_COMPONENTS))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-components\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[modelmill.components]\ntoy = toy_components\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    importlib.invalidate_caches()
    catalogue.cache_clear()
    yield
    catalogue.cache_clear()
    sys.modules.pop("toy_components", None)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: that takes seconds, copying it takes none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def settings(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment of its own: home and MLflow below the test's folder, for this process and its children."""
    home = tmp_path / "home"
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MODELMILL_LEDGER", "MODELMILL_SPARK_REMOTE", "MODELMILL_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return Settings.from_environment()
