"""A real MLflow tracking server on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

from demo.servers.processes import LOOPBACK, LocalServer, Servers
from modelmill.registry.tracking import make_tracking_database

_DATABASE = "mlflow.db"


class LocalMlflow(LocalServer):
    """MLflow with a SQLite database and served artifacts below ``home``.

    :param home: folder for database, artifacts and logs.
    :param port: port to listen on; None: a free one.
    """

    def __init__(self, home: Path, *, port: int | None = None) -> None:
        super().__init__(home, port=port)

    def start(self) -> None:
        """Start it; returns before it answers."""
        make_tracking_database(self.home / _DATABASE, artifact_root="mlflow-artifacts:/")
        write_ahead(self.home / _DATABASE)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "GIT_PYTHON_REFRESH": "quiet"}
        self.servers = Servers(self.home / "logs", environment)
        self.servers.start("mlflow", [*self.command(), "--workers", "1"])

    def command(self) -> list[str]:
        """Return how it is started, here as in the images under ``docker/``."""
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self.home / _DATABASE}"),
            *("--serve-artifacts", "--artifacts-destination", (self.home / "artifacts").as_uri()),
        ]

    def wait_ready(self, *, timeout: float = 120.0) -> None:
        """Wait until it answers.

        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        self.wait_healthy("mlflow", what="MLflow", timeout=timeout)


def write_ahead(database: Path) -> None:
    """Have a SQLite database keep a write-ahead log, as its file says from now on.

    MLflow's writes then cost three quarters of the CPU time and a third of the time, and nobody who reads
    waits for one who writes. All who open the file must be on one machine. A busy one stays as it is.

    :param database: its file.
    """
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(database)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
