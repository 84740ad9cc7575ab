"""An HTTP proxy on the loopback interface that loses, breaks, delays or doubles what passes through it."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = (
    *("refuse", "reset before", "reset after", "hang before", "hang after", "500 before", "500 after"),
    *("503 before", "truncated", "garbage", "empty", "duplicated", "slow"),
)
"""``before``: the server never sees the request; ``after`` and all others: it does what it was asked."""

_BROKEN = {"500 after": b'{"message": "out of order"}', "garbage": b"<html>", "empty": b""}
CALLS = {
    "create run": "POST .*/runs/create",
    "log parameters": "POST .*/runs/log-batch",
    "create model": "POST .*/mlflow/logged-models",
    "upload": "PUT .*/artifacts/.*",
    "finalise model": "PATCH .*/logged-models/[^/]*",
    "list outputs": "POST .*/runs/outputs",
    "create version": "POST .*/model-versions/create",
    "end run": "POST .*/runs/update",
}
"""What a step asks of MLflow, as method and path."""


class FaultProxy:
    """A proxy in front of one server.

    :param target: the server's URL.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.seen: list[str] = []
        self._fault, self._call, self._left = "", re.compile("$"), 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any  # noqa: N815 (http.server names them)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, fault: str, call: str, *, times: int = 1) -> None:
        """Break the next requests of a kind.

        :param fault: one of :data:`FAULTS`.
        :param call: one of :data:`CALLS`; ``any``: every request.
        :param times: requests to break.
        """
        with self._lock:
            self.seen.clear()
            self._fault, self._left = fault, times
            self._call = re.compile(CALLS.get(call, ".*"))

    def _next_fault(self, what: str) -> str:
        with self._lock:
            self.seen.append(what)
            if not self._left or not self._call.fullmatch(what):
                return ""
            self._left -= 1
            return self._fault

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        if "chunked" in request.headers.get("Transfer-Encoding", ""):
            body = b"".join(iter(lambda: _chunk(request.rfile), b""))
        fault = self._next_fault(f"{request.command} {urlsplit(request.path).path}")
        request.close_connection = True
        if fault in ("refuse", "reset before"):
            return _reset(request.connection)
        if fault == "hang before":
            return time.sleep(4)
        if fault.endswith("before"):
            return _answer(request, int(fault[:3]), b'{"message": "out of order"}', "application/json")
        status, kind, content = self._forward(request, body)
        if fault == "duplicated":
            self._forward(request, body)
        time.sleep({"slow": 1, "hang after": 4}.get(fault, 0))
        if fault == "reset after":
            return _reset(request.connection)
        if fault == "hang after":
            return None
        status = 500 if fault == "500 after" else status
        content = _BROKEN.get(fault, content)
        return _answer(request, status, content, kind, cut=fault == "truncated")

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        dropped = ("host", "connection", "transfer-encoding", "content-length")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        connection.request(request.command, request.path, body=body or None, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers.get("Content-Type", "application/json"), content


def _chunk(stream: Any) -> bytes:
    size = int(stream.readline().split(b";")[0], 16)
    content: bytes = stream.read(size)
    stream.readline()
    return content


def _answer(
    request: BaseHTTPRequestHandler, status: int, content: bytes, kind: str, *, cut: bool = False
) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(content[: len(content) // 2] if cut else content)


def _reset(connection: socket.socket) -> None:
    """Close a connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
