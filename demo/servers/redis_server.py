"""Redis on the loopback interface: what Celery's workers get their tasks from."""

from __future__ import annotations

import os
import shutil

from demo.servers.processes import LOOPBACK, LocalServer, Servers


class LocalRedis(LocalServer):
    """Redis without a file."""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @staticmethod
    def program() -> str | None:
        """Return the path of ``redis-server``; None if it is not installed."""
        return shutil.which("redis-server")

    def start(self) -> None:
        """Start it; returns before it answers."""
        self.servers = Servers(self.home / "logs", dict(os.environ))
        command = [self.program() or "redis-server", "--bind", LOOPBACK, "--port", str(self.port)]
        self.servers.start("redis", [*command, "--save", "", "--appendonly", "no"])

    def wait_ready(self, *, timeout: float = 30.0) -> None:
        """Wait until it answers.

        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        import redis

        servers = self.servers
        if servers is None:
            raise RuntimeError("start() comes before wait_ready()")

        def answers() -> bool:
            try:
                with redis.Redis(LOOPBACK, self.port) as client:
                    return bool(client.ping())
            except redis.ConnectionError:
                return False

        servers.wait_until(answers, what="Redis", timeout=timeout)
