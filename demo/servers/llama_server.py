"""A real language model on the loopback interface: llama.cpp's server, of the package ``xllamacpp``."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

from demo.servers.processes import LOOPBACK, LocalServer, Servers

TOKENS = 2048
"""Of a request and its answer together."""


class LocalLlama(LocalServer):
    """A language model that answers chat completions below ``url`` + ``/v1``.

    :param home: folder for the log.
    :param model: GGUF file.
    :param port: port to listen on; None: a free one.
    """

    def __init__(self, home: Path, model: Path, *, port: int | None = None) -> None:
        super().__init__(home, port=port)
        self.model = model

    def start(self) -> None:
        """Start it; returns before it answers."""
        command = [
            sys.executable,
            "-m",
            "demo.servers.llama_server",
            str(self.model),
            "--port",
            str(self.port),
        ]
        self.servers = Servers(self.home / "logs", dict(os.environ))
        self.servers.start("llama", command)

    def wait_ready(self, *, timeout: float = 120.0) -> None:
        """Wait until it answers.

        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        self.wait_healthy("llama", what="the language model", timeout=timeout)


def main() -> None:
    """Serve until the process is ended."""
    import xllamacpp

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = given.model
    parameters.hostnames = [LOOPBACK]
    parameters.port = given.port
    parameters.n_ctx = TOKENS
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    print(f"{Path(given.model).stem} listens on {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
