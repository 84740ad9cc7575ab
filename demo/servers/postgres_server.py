"""PostgreSQL on the loopback interface."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo.servers.processes import LOOPBACK, LocalServer, Servers


class LocalPostgres(LocalServer):
    """PostgreSQL without durability, in a folder of its own that goes when it stops.

    Root hands it to the user that Debian's package makes, for whom the folders of this user may be closed.

    :param home: folder for its log.
    :param databases: databases that it has beside ``postgres``.
    :param port: port to listen on; None: a free one.
    """

    def __init__(self, home: Path, *, databases: Sequence[str] = (), port: int | None = None) -> None:
        super().__init__(home, port=port)
        self.databases = tuple(databases)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def address(self, database: str = "postgres") -> str:
        """Return user, host, port and database, as they stand in a URL."""
        return f"postgres@{LOOPBACK}:{self.port}/{database}"

    @staticmethod
    def binaries() -> Path | None:
        """Return the folder of the newest installed version's programs; None if there is none."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        return found[-1].parent if found else None

    def start(self) -> None:
        """Make its files and start it; returns before it answers."""
        self._scratch = tempfile.TemporaryDirectory(prefix="modelmill-postgres-", ignore_cleanup_errors=True)
        data = self._data
        data.mkdir()
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            data.parent.chmod(0o711)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        init = self._command("initdb", "-D", data, "-U", "postgres", "--auth", "trust", "--no-sync")
        subprocess.run(init, check=True, capture_output=True, cwd="/")
        self.servers = Servers(self.home / "logs", {**os.environ, "PWD": "/"})
        self.start_server()

    def start_server(self) -> None:
        """Start it on the files that are there, such as those of one that has been killed."""
        if self.servers is None:
            raise RuntimeError("start() comes before start_server()")
        options = ["-D", str(self._data), "-h", LOOPBACK, "-p", str(self.port), "-k", "", "-c", "fsync=off"]
        self.servers.start("postgres", self._command("postgres", *options))

    @property
    def _data(self) -> Path:
        if self._scratch is None:
            raise RuntimeError("start() comes before its files")
        return Path(self._scratch.name) / "data"

    def _command(self, program: str, *options: str | Path) -> list[str]:
        root = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        binaries = self.binaries() or Path("postgresql")
        return [*(root if os.getuid() == 0 else ()), str(binaries / program), *map(str, options)]

    def wait_ready(self, *, timeout: float = 60.0) -> None:
        """Wait until it answers, and make its databases.

        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        import psycopg2

        servers = self.servers
        if servers is None:
            raise RuntimeError("start() comes before wait_ready()")

        def answers() -> bool:
            try:
                psycopg2.connect(f"postgresql://{self.address()}").close()
            except psycopg2.OperationalError:
                return False
            return True

        servers.wait_until(answers, what="PostgreSQL", timeout=timeout)
        with contextlib.closing(psycopg2.connect(f"postgresql://{self.address()}")) as connection:
            connection.autocommit = True  # a database is not made within a transaction
            for name in self.databases:
                connection.cursor().execute(f'CREATE DATABASE "{name}"')

    def stop(self) -> None:
        """End it, and remove its files."""
        super().stop()
        if self._scratch:
            shutil.rmtree(self._scratch.name, ignore_errors=True)
            self._scratch.cleanup()
