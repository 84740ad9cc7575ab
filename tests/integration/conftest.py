"""PostgreSQL and Redis on loopback, for tests of Airflow on several machines."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo.servers.processes import LOOPBACK, LocalServer, Servers


class LocalRedis(LocalServer):
    """Redis without a file."""

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        self.servers = Servers(self.home / "logs", {})
        command = [shutil.which("redis-server") or "", "--bind", LOOPBACK, "--port", str(self.port)]
        self.servers.start("redis", [*command, "--save", "", "--appendonly", "no", "--dir", str(self.home)])

    def wait_ready(self, *, timeout: float = 30.0) -> None:
        import redis

        def answers() -> bool:
            try:
                with redis.Redis(LOOPBACK, self.port) as client:
                    return bool(client.ping())
            except redis.ConnectionError:
                return False

        assert self.servers
        self.servers.wait_until(answers, what="Redis", timeout=timeout)


class LocalPostgres(LocalServer):
    """PostgreSQL with one database; root hands it to the user that Debian's package makes."""

    @property
    def address(self) -> str:
        return f"postgres@{LOOPBACK}:{self.port}/postgres"

    @staticmethod
    def binaries() -> Path | None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        return found[-1].parent if found else None

    def start(self) -> None:
        binaries = self.binaries()
        assert binaries
        data = self.home / "data"
        data.mkdir(parents=True)
        user: list[str] = []
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            self.home.chmod(0o711)
            os.chown(data, owner.pw_uid, owner.pw_gid)
            user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        init = [binaries / "initdb", "-D", data, "-U", "postgres", "--auth", "trust", "--no-sync"]
        subprocess.run([*user, *map(str, init)], check=True, capture_output=True, cwd="/")
        self.servers = Servers(self.home / "logs", {"PWD": "/"})
        options = ["-D", str(data), "-h", LOOPBACK, "-p", str(self.port), "-k", "", "-c", "fsync=off"]
        self.servers.start("postgres", [*user, str(binaries / "postgres"), *options])

    def wait_ready(self, *, timeout: float = 60.0) -> None:
        import psycopg2

        def answers() -> bool:
            try:
                psycopg2.connect(f"postgresql://{self.address}").close()
            except psycopg2.OperationalError:
                return False
            return True

        assert self.servers
        self.servers.wait_until(answers, what="PostgreSQL", timeout=timeout)


@pytest.fixture
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL: user, host, port and database."""
    if LocalPostgres.binaries() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    # Not in tmp_path: each pytest that starts takes away other users' way into the folders of all of them.
    with (
        tempfile.TemporaryDirectory(prefix="modelmill-postgres-") as home,
        LocalPostgres(Path(home)) as server,
    ):
        yield server.address


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """URL of a Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs Redis: apt-get install redis-server")
    with LocalRedis(tmp_path / "redis") as server:
        yield server.url
