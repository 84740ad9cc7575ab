"""Replies of a tracking server that are none: a step is then not known, and nothing breaks."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from modelmill.registry.finished_runs import RunPlace, finished_run, finished_runs

REPLIES = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "breaks off": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "nothing": b"",
}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that replies with the same bytes to everything."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(REPLIES[request.param])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("server", REPLIES, indirect=True)
def test_a_reply_that_is_none_is_no_finished_run(server: str) -> None:
    assert finished_run(server, "desks", "a" * 64) is None
    assert finished_runs(server, [RunPlace("1", "f" * 32)]) == {}
