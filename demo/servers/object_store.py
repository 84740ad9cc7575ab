"""An S3-compatible object store on the loopback interface: moto's server, which keeps objects in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from demo.servers.processes import LOOPBACK, LocalServer, Servers


class LocalObjectStore(LocalServer):
    """A store that speaks S3.

    :param home: folder for its log.
    :param buckets: buckets that it has.
    :param port: port to listen on; None: a free one.
    """

    def __init__(self, home: Path, *, buckets: Sequence[str], port: int | None = None) -> None:
        super().__init__(home, port=port)
        self.buckets = tuple(buckets)

    def start(self) -> None:
        """Start it; returns before it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
        self.servers = Servers(self.home / "logs", dict(os.environ))
        self.servers.start("store", command)

    def wait_ready(self, *, timeout: float = 60.0) -> None:
        """Wait until it answers, and make its buckets.

        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        servers = self.servers
        if servers is None:
            raise RuntimeError("start() comes before wait_ready()")
        servers.wait_until(
            lambda: (
                httpx.get(f"{self.url}/moto-api/data.json", timeout=30).is_success
                and servers.listens("store", self.port)
            ),
            what="the object store",
            timeout=timeout,
        )
        for bucket in self.buckets:
            httpx.put(f"{self.url}/{bucket}", timeout=30).raise_for_status()

    def environment(self, key: str, secret: str) -> dict[str, str]:
        """Return what a client of S3 reads; the store takes any key.

        :param key: id of a key.
        :param secret: the key.
        :return: environment variables.
        """
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,  # of boto3 and delta-rs
            "MLFLOW_S3_ENDPOINT_URL": self.url,
        }
