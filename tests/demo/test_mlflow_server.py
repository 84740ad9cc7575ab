"""The local MLflow's database."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from demo.servers.mlflow_server import write_ahead

from modelmill.registry.tracking import make_tracking_database, tracking_client


def test_a_database_keeps_a_write_ahead_log_whether_it_is_new_or_not(
    tmp_path: Path, mlflow_database: Path
) -> None:
    old, busy, new = tmp_path / "old.db", tmp_path / "busy.db", tmp_path / "made" / "new.db"
    shutil.copy(mlflow_database, old)
    write_ahead(old)
    make_tracking_database(new)
    write_ahead(new)
    for path in (old, new):
        client = tracking_client(f"sqlite:///{path}")
        assert client.get_experiment(client.create_experiment("x")).name == "x"
        assert mode(path) == "wal"
    shutil.copy(mlflow_database, busy)
    with contextlib.closing(sqlite3.connect(busy)) as other:
        other.execute("BEGIN IMMEDIATE")
        write_ahead(busy)
        assert mode(busy) == "delete"


def mode(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
