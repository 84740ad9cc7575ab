"""A real Airflow on the loopback interface: API server, scheduler, DAG processor, triggerer."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from demo.servers.airflow_client import AirflowClient
from demo.servers.processes import LOOPBACK, LocalServer, Servers
from modelmill.system.database import make_database

_CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
SERVERS = ("api-server", "scheduler", "dag-processor", "triggerer")


class LocalAirflow(LocalServer):
    """Airflow with one user, and secrets that are made at the first start.

    Its database is SQLite below ``home`` and its executor the local one, unless ``environment`` says
    otherwise.

    :param home: ``AIRFLOW_HOME``: database, logs, password and secrets.
    :param dags_folder: folder with DAG files.
    :param environment: more variables for Airflow and its tasks; None as a value removes one.
    :param port: port of the API server; None: a free one.
    :param queues: queues of CeleryExecutor; each gets a worker of its own.
    :param python: interpreter of Airflow's environment; None: this one.
    :param plain_triggerer: whether it has Airflow's own triggerer, and not that of ``modelmill_operators``.
    """

    user = "admin"

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        environment: Mapping[str, str | None] | None = None,
        port: int | None = None,
        queues: Sequence[str] = (),
        python: str | None = None,
        plain_triggerer: bool = False,
    ) -> None:
        super().__init__(home, port=port)
        self.plain_triggerer = plain_triggerer
        self.queues = tuple(queues)
        self.python = python or sys.executable
        self.dags_folder = dags_folder.absolute()
        self._given = dict(environment or {})

    @property
    def password(self) -> str:
        """Password of :attr:`user`; there is one once the server has been started."""
        return str(json.loads(self._passwords_path.read_text())[self.user])

    @property
    def _passwords_path(self) -> Path:
        return self.home / "passwords.json"

    def environment(self) -> dict[str, str]:
        """Return the environment of every process; an ``airflow`` command run in it is this Airflow's."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW_", "_AIRFLOW_"))
        }
        options = {
            "core": {
                "dags_folder": str(self.dags_folder),
                "plugins_folder": str(self.home / "plugins"),
                "load_examples": "False",
                "executor": "LocalExecutor",
                "parallelism": "4",
                "execution_api_server_url": f"{self.url}/execution/",
                "simple_auth_manager_users": f"{self.user}:admin",
                "simple_auth_manager_passwords_file": str(self._passwords_path),
                "fernet_key": self._secret("fernet_key"),
            },
            "api": {
                "host": LOOPBACK,
                "port": str(self.port),
                "base_url": self.url,
                "workers": "1",
                "secret_key": self._secret("api_secret_key"),
            },
            "api_auth": {"jwt_secret": self._secret("jwt_secret")},
            "dag_processor": {
                "refresh_interval": "5",
                # Each parse takes half a second of CPU; the canvas asks for one when it has saved.
                "min_file_process_interval": "15",
                "parsing_processes": "1",
            },
            "logging": {"base_log_folder": str(self.home / "task-logs")},
            # Airflow's own second delays each step; at 0.05 s an idle scheduler takes a third of a core.
            "scheduler": {"scheduler_idle_sleep_time": "0.4"},
            "usage_data_collection": {"enabled": "False"},
        }
        settings = {
            f"AIRFLOW__{section}__{name}".upper(): value
            for section, values in options.items()
            for name, value in values.items()
        }
        merged = {**inherited, "AIRFLOW_HOME": str(self.home), **settings, **self._given}
        return {name: value for name, value in merged.items() if value is not None}

    def start(self) -> None:
        """Make or upgrade the database, start the servers; returns before they answer.

        :raises ServerError: if the database cannot be made.
        """
        (self.home / "plugins").mkdir(parents=True, exist_ok=True)
        if not self._passwords_path.exists():
            _write_private(self._passwords_path, json.dumps({self.user: secrets.token_urlsafe(12)}))
        self.servers = Servers(self.home / "logs", self.environment())
        self._migrate(self.servers)
        if "AIRFLOW__MODELMILL__PROFILES" in self.servers.environment:
            self.servers.run("profiles", command("profiles", python=self.python))
        for name in (*SERVERS, *(f"worker-{queue}" for queue in self.queues)):
            self.start_server(name)

    def _migrate(self, servers: Servers) -> None:
        """Make the database, SQLite beside its place so that a kill leaves none half-made; or upgrade it."""
        migrate = command("db-migrate", python=self.python)

        def make(place: Path) -> None:
            servers.run("db-migrate", migrate, {_CONNECTION: f"sqlite:///{place}"})

        own = _CONNECTION not in servers.environment
        if not (own and make_database(self.home / "airflow.db", make, table="alembic_version")):
            servers.run("db-migrate", migrate)

    def start_server(self, name: str) -> None:
        """Start one of the servers, such as one that has been killed.

        :param name: one of :data:`SERVERS`, or ``worker-QUEUE``.
        """
        if self.servers is None:
            raise RuntimeError("start() comes before start_server()")
        # All servers write to one folder, so nobody has to serve logs to another.
        more = ["--host", LOOPBACK, "--port", str(self.port)] if name == "api-server" else []
        more += [] if name in ("api-server", "dag-processor") else ["--skip-serve-logs"]
        if name.startswith("worker-"):
            # Workers of one machine need names of their own, else Celery takes them for one.
            more += ["--concurrency", "2", "--celery-hostname", f"{name}@%h"]
        plain = [self.python, "-m", "airflow", name] if self.plain_triggerer and name == "triggerer" else None
        self.servers.start(name, [*(plain or command(name, python=self.python)), *more])

    def wait_ready(self, *, timeout: float = 120.0) -> None:
        """Wait until the API server answers and the other servers have reported.

        :param timeout: seconds.
        :raises ServerError: if one ends, or the time is over.
        """
        servers = self.servers
        if servers is None:
            raise RuntimeError("start() comes before wait_ready()")
        servers.wait_until(self._is_ready, what="Airflow", timeout=timeout)
        # A leftover of another Airflow on the same port would know neither the port's owner nor the password.
        servers.wait_until(lambda: servers.listens("api-server", self.port), what="our API server", timeout=5)
        self.client().close()

    def warm_up(self, *, timeout: float) -> None:
        """Make the API server build the versions of the API that tasks talk to.

        Airflow does so at the first request, and answers nobody else meanwhile: the pages would stand still
        when the first task starts.

        :param timeout: seconds.
        """
        httpx.get(f"{self.url}/execution/health", timeout=timeout).raise_for_status()

    def client(self) -> AirflowClient:
        """Return a client that is logged in."""
        return AirflowClient(self.url, self.user, self.password, servers=self.servers)

    def _is_ready(self) -> bool:
        health = httpx.get(f"{self.url}/api/v2/monitor/health").json()
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return all(health[part]["status"] == "healthy" for part in parts)

    def _secret(self, name: str) -> str:
        """Return a secret that is made once and kept below ``home``: tokens survive a restart."""
        path = self.home / "secrets" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        return path.read_text()


def command(name: str, *, python: str) -> list[str]:
    """Return how a part of Airflow is started, here as in the images under ``docker/``.

    :param name: one of :data:`SERVERS`, ``worker-QUEUE``, ``db-migrate``, or ``profiles``, which makes the
        pools of the profiles of machines.
    :param python: interpreter of Airflow's environment.
    :return: the command, without addresses and sizes.
    """
    if name == "profiles":
        return [python, "-m", "modelmill_operators", "profiles", "--apply"]
    airflow = [python, "-m", "airflow"]
    if name == "db-migrate":
        return [*airflow, "db", "migrate"]
    if name.startswith("worker-"):
        return [*airflow, "celery", "worker", "--queues", name.removeprefix("worker-")]
    if name == "triggerer":
        return [python, "-m", "modelmill_operators", "triggerer"]
    return [*airflow, name]


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is there whole or not at all."""
    aside = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    aside.replace(path)
