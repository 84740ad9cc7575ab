"""MLflow's SQLite database is made whole or not at all, and one that was left half-made is replaced."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from modelmill.registry.tracking import tracking_client
from modelmill.system.database import make_database

DIES = """
import os, signal, sys

steps = []
import mlflow.store.db.utils as utils
upgrade = utils._upgrade_db

def killed(engine):
    from alembic import op
    made = op.create_table
    def create_table(*arguments, **options):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return made(*arguments, **options)
    op.create_table = create_table
    upgrade(engine)

utils._upgrade_db = killed
"""
OURS = """
from modelmill.registry.tracking import tracking_client
tracking_client(sys.argv[1]).search_experiments()
"""
MLFLOWS = "import mlflow\nmlflow.MlflowClient(sys.argv[1]).search_experiments()"


@pytest.mark.parametrize("made_by", [OURS, MLFLOWS], ids=["ours", "mlflow"])
def test_a_database_whose_maker_was_killed_is_made_again(tmp_path: Path, made_by: str) -> None:
    database = tmp_path / "home" / "mlflow.db"
    database.parent.mkdir()
    uri = f"sqlite:///{database}"
    child = subprocess.run(
        [sys.executable, "-c", DIES + made_by, uri], capture_output=True, timeout=120, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr[-500:]
    assert database.exists() == (made_by == MLFLOWS)
    client = tracking_client(uri)
    client.create_experiment("kept")
    tracking_client.cache_clear()
    assert {each.name for each in tracking_client(uri).search_experiments()} == {"Default", "kept"}
    assert not list(database.parent.glob("*.new-*"))
    assert Path(f"{database}.half-made").exists() == (made_by == MLFLOWS)


def test_a_database_that_is_not_known_or_not_readable_is_left_alone(tmp_path: Path) -> None:
    def make(place: Path) -> None:
        raise AssertionError(place)

    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine (n INTEGER)")
    (tmp_path / "text.db").write_text("not a database, and long enough to look like something" * 100)
    for path in (other, tmp_path / "text.db"):
        assert not make_database(path, make, table="experiments")
