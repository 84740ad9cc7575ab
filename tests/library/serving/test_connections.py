"""Connections that send nothing, or too slowly, or too much: they end, and nobody else waits for them."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from modelmill.http_service import server_config
from modelmill.serving.config import ServeConfig
from modelmill.serving.service import Service

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture
def served_at(registry: Any) -> Callable[..., Any]:
    """Return a context manager that serves over a socket and gives its port."""

    @contextmanager
    def run(**config: Any) -> Iterator[int]:
        service = Service(
            ServeConfig(port=0, threads=1, poll_seconds=3600, **config), registry.context.settings
        )
        service.follower.poll = lambda: None  # type: ignore[method-assign]
        server = uvicorn.Server(server_config(service))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()

    return run


def opened(port: int, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    with connection, suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def alive(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/healthz")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def test_a_head_and_a_body_have_their_time(served_at: Callable[..., Any]) -> None:
    with served_at(header_seconds=0.3, body_seconds=0.3) as port:
        assert received(opened(port)) == b""
        assert received(opened(port, HEAD)) == b""
        slow = opened(port, HEAD + b"Content-Length: 9\r\n\r\n{")
        assert b"408 Request Timeout" in received(slow)
        second = opened(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in second.recv(65536)
        second.sendall(b"GET /hea")  # the next head of the same connection
        assert received(second) == b""
        assert alive(port)


def test_a_head_has_a_size(served_at: Callable[..., Any]) -> None:
    with served_at(header_bytes=2000) as port:
        assert b"400 Bad Request" in received(opened(port, HEAD + b"X: " + b"a" * 3000))
        endless = opened(port, HEAD)
        with suppress(ConnectionError):
            for _ in range(1000):
                endless.sendall(b"X: " + b"a" * 100 + b"\r\n")
        assert b"200 OK" not in received(endless)
        assert alive(port)


def test_idle_connections_lock_nobody_out(served_at: Callable[..., Any]) -> None:
    with served_at(connections=5, body_seconds=100) as port:
        idle = [opened(port) for _ in range(20)]
        busy = [opened(port, HEAD + b"Content-Length: 9\r\n\r\n{") for _ in range(4)]
        assert alive(port)
        for connection in idle:
            assert received(connection) == b""
        busy.append(opened(port, HEAD + b"Content-Length: 9\r\n\r\n{"))
        assert received(opened(port)) == b""  # nobody is idle but itself
        for connection in busy:
            connection.close()
        assert alive(port)


def test_a_request_with_two_lengths_is_refused_with_what_follows_it(served_at: Callable[..., Any]) -> None:
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with served_at() as port:
        for path in (b"/v1/predict", b"/healthz"):
            head = HEAD.replace(b"/v1/predict", path)
            if path == b"/healthz":
                head = head.replace(b"POST", b"GET")
            lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            answer = received(opened(port, head + lengths + smuggled))
            assert answer.count(b"HTTP/1.1 ") == 1
            assert b"400 Bad Request" in answer
            assert b"modelmill_requests_total" not in answer
        assert alive(port)


def test_a_body_that_ends_early_is_no_error_of_the_service(
    served_at: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with served_at() as port:
        opened(port, HEAD + b"Content-Length: 9\r\n\r\n{").close()
        received(opened(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        deadline = time.monotonic() + 10
        figures = ""
        while 'requests_total{status="400"} 2.0' not in figures and time.monotonic() < deadline:
            connection.request("GET", "/metrics")
            figures = connection.getresponse().read().decode()
        connection.close()
    assert 'requests_total{status="400"} 2.0' in figures
    assert 'status="500"' not in figures
    assert "Traceback" not in caplog.text
