"""A real MLflow tracking server on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from demo.servers.processes import LOOPBACK, LocalServer, Servers
from modelmill.registry.tracking import make_tracking_database

_DATABASE = "mlflow.db"
AUTHENTICATION = """[mlflow]
default_permission = READ
database_uri = {database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# A password's check costs tens of milliseconds, and a step asks dozens of times.
auth_cache_ttl_seconds = 60
"""


class LocalMlflow(LocalServer):
    """MLflow that serves the artifacts itself: its clients need no key of the store behind it.

    :param home: folder for logs, and for database and artifacts where they are not elsewhere.
    :param port: port to listen on; None: a free one.
    :param database: URL of its database; None: SQLite below ``home``.
    :param artifacts: where artifacts go, such as ``s3://bucket/mlflow``; None: below ``home``.
    :param users: URL of a database of users: who asks needs a name and a password; None: anybody may ask.
    :param environment: more variables for the server, such as the store's keys.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        database: str | None = None,
        artifacts: str | None = None,
        users: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(home, port=port)
        self.database, self.artifacts, self.users = database, artifacts, users
        self._given = dict(environment or {})
        self._admin = ("admin", secrets.token_urlsafe(24))

    def start(self) -> None:
        """Start it; returns before it answers."""
        if self.database is None:
            make_tracking_database(self.home / _DATABASE, artifact_root="mlflow-artifacts:/")
            write_ahead(self.home / _DATABASE)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "GIT_PYTHON_REFRESH": "quiet"}
        environment |= self._given | self._authentication()
        self.servers = Servers(self.home / "logs", environment)
        self.servers.start("mlflow", [*self.command(), "--workers", "1"])

    def command(self) -> list[str]:
        """Return how it is started, here as in the images under ``docker/``."""
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(self.port)),
            *("--backend-store-uri", self.database or f"sqlite:///{self.home / _DATABASE}"),
            *("--serve-artifacts", "--artifacts-destination"),
            self.artifacts or (self.home / "artifacts").as_uri(),
            *(("--app-name", "basic-auth") if self.users else ()),
        ]

    def _authentication(self) -> dict[str, str]:
        """Write who keeps the users; return what the server's environment needs beside."""
        if self.users is None:
            return {}
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / "authentication.ini"
        path.write_text(AUTHENTICATION.format(database=self.users))
        return {
            "MLFLOW_AUTH_CONFIG_PATH": str(path),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self._admin[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        }

    def make_user(self, name: str, password: str) -> None:
        """Make a user who may do everything with what is his, and read the rest.

        :param name: the user's name.
        :param password: 12 characters or more.
        """
        httpx.post(
            f"{self.url}/api/2.0/mlflow/users/create",
            json={"username": name, "password": password},
            auth=self._admin,
            timeout=60,
        ).raise_for_status()

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
