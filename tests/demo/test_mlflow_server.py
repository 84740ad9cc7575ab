"""The local MLflow's database."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from demo.servers.mlflow_server import LocalMlflow, write_ahead
from mlflow.exceptions import MlflowException

from modelmill.registry.tracking import make_tracking_database, tracking_client
from modelmill.registry.versions import champion_of, version_numbered


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


def test_a_user_asks_in_vain_for_a_model_that_is_not_there_and_may_not_change_another_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalMlflow(tmp_path / "mlflow", users=f"sqlite:///{tmp_path}/users.db") as server:
        client = tracking_client(server.url)
        for user in ("maker", "reader"):
            server.make_user(user, f"{user}'s password")
        for user in ("maker", "reader"):
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"{user}'s password")
            # MLflow forbids the question where there is no model.
            assert champion_of(client, "unknown") is None
            assert version_numbered(client, "unknown", 1) is None
            if user == "maker":
                client.create_registered_model("topics")
        with pytest.raises(MlflowException, match="Permission denied"):
            client.set_registered_model_tag("topics", "a", "b")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        with pytest.raises(MlflowException, match="not authenticated"):
            champion_of(client, "topics")


def mode(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
