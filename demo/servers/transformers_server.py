"""A language model behind transformers' own server, ``transformers serve``, on the loopback interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from demo.servers.processes import LOOPBACK, LocalServer, Servers


class LocalTransformers(LocalServer):
    """A language model that answers typed decisions at ``url`` + ``/v1/systemone``.

    A request names the folder as its model: the server has no other name for it.

    :param home: folder for the log.
    :param model: folder with the model.
    :param port: port to listen on; None: a free one.
    """

    def __init__(self, home: Path, model: Path, *, port: int | None = None) -> None:
        super().__init__(home, port=port)
        self.model = model

    def start(self) -> None:
        """Start it; returns before it answers."""
        command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(self.model)]
        command += ["--host", LOOPBACK, "--port", str(self.port), "--device", "cpu"]
        self.servers = Servers(self.home / "logs", {**os.environ, "HF_HUB_OFFLINE": "1"})
        self.servers.start("transformers", command)

    def wait_ready(self, *, timeout: float = 180.0) -> None:
        """Wait until it answers.

        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        self.wait_healthy("transformers", what="the language model", timeout=timeout)
