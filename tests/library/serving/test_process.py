"""``modelmill serve`` as a process: it follows aliases by itself, and loses no request at its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelmill.cli import app
from modelmill.serving.service.config import serve_config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def wait_for(what: Any, *, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = what()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@contextmanager
def serving(*arguments: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    command = [sys.executable, "-m", "modelmill", "serve", "--port", str(port), *arguments]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ)) as process,
    ):
        try:
            wait_for(lambda: process.poll() is not None or ask(port, "GET", "/readyz")[0] == 200)
            assert process.poll() is None, log.read_text()
            yield process, port
        finally:
            process.kill()


def test_a_service_follows_moves_and_loses_no_request_at_its_end(registry: Any, tmp_path: Path) -> None:
    versions = [registry.add("topics", "good"), registry.add("topics", "bad", skill=-1.0)]
    registry.move("topics", versions[0])
    answers: list[tuple[int, int, str]] = []
    body = {"rows": [{"text": "goal"}]}

    def client(port: int) -> None:
        while ask(port, "GET", "/readyz")[0] == 200:
            status, answer = ask(port, "POST", "/v1/predict", body)
            version = answer["models"]["topics"]["version"]
            answers.append((status, version, answer["rows"][0]["topics"]["prediction"]))

    arguments = ["--model", "topics", "--option", "poll_seconds=0.1", "--option", "leave_seconds=1"]
    with serving(*arguments, log=tmp_path / "log") as (process, port), ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client, port) for _ in range(3)]
        for number in range(1, 7):
            version = versions[number % 2]
            registry.move("topics", version)
            wait_for(lambda version=version: answers and answers[-1][1] == version)
        # A request that has begun when the port is closed is answered all the same.
        with socket.create_connection(("127.0.0.1", port)) as late:
            content = json.dumps(body).encode()
            late.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}".encode())
            late.sendall(b"\r\n\r\n" + content[:5])
            process.send_signal(signal.SIGTERM)
            for future in clients:
                future.result(60)
            wait_for(lambda: not reachable(port))
            late.sendall(content[5:])
            assert late.recv(15) == b"HTTP/1.1 200 OK"
        process.wait(60)
    assert len(answers) > 20
    assert set(answers) == {(200, 1, "sport"), (200, 2, "trade")}
    assert (tmp_path / "log").read_text() == ""


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_settings_are_checked_before_anything_is_loaded() -> None:
    from typer.testing import CliRunner

    assert serve_config({"threads": "3"}).threads == 3
    for option, said in (
        ("thread=3", "did you mean 'threads'?"),
        ("queue_rows=0", "queue_rows: Input should be greater than or equal to 1"),
        ("port", "a parameter is given as NAME=VALUE"),
    ):
        result = CliRunner().invoke(app, ["serve", "--option", option])
        assert said in str(result.exception)
