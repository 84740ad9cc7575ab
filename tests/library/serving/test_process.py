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

import pytest
from pydantic import ValidationError

from modelmill.artifacts import ModelRef
from modelmill.cli.main import app
from modelmill.errors import ConfigError, GateError, ModelError, TransientError
from modelmill.registry.versions import reference
from modelmill.serving.config import serve_config
from modelmill.serving.deployments import Deployment, read_deployments, write_deployment
from modelmill.settings import Settings
from modelmill.steps.deploy import DeployConfig, DeployInputs, deploy


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
def serving(
    *arguments: str, log: Path, until: str = "/readyz"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    command = [sys.executable, "-m", "modelmill", "serve", "--port", str(port), *arguments]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ)) as process,
    ):
        try:
            wait_for(lambda: process.poll() is not None or ask(port, "GET", until)[0] == 200)
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


def test_a_deploy_step_waits_until_the_service_answers_with_the_champion(
    registry: Any, tmp_path: Path
) -> None:
    context = registry.context
    client = context.run.client
    first, second = registry.add("topics", "good"), registry.add("topics", "bad", skill=-1.0)
    registry.move("topics", first)

    def deployed(version: int, **config: Any) -> ModelRef:
        model = reference(client.get_model_version("topics", str(version)))
        return deploy.run(DeployConfig(service="live", **config), DeployInputs(model=model), context).model

    arguments = ["--service", "live", "--option", "poll_seconds=0.1"]
    with serving(*arguments, log=tmp_path / "log", until="/healthz") as (_, port):
        urls = (f"http://127.0.0.1:{port}",)
        assert deployed(first, urls=urls).uri == "models:/topics/1"
        assert ask(port, "GET", "/readyz")[0] == 200
        with pytest.raises(GateError, match="the champion of topics is version 1; got 2"):
            deployed(second, urls=urls)
        with pytest.raises(TransientError, match=r"must serve version 1 of topics in time; got 'no answer"):
            deployed(first, urls=(f"http://127.0.0.1:{free_port()}",), timeout_seconds=0.1)
        logged = registry.log("other")
        with pytest.raises(ConfigError, match="connect the output of promote"):
            deploy.run(DeployConfig(urls=urls), DeployInputs(model=logged), context)
        client.set_model_version_tag("topics", str(second), "modelmill.digest", "0" * 64)
        registry.move("topics", second)
        with pytest.raises(ModelError, match="must be able to load version 2 of topics"):
            deployed(second, urls=urls)
        assert ask(port, "GET", "/v1/models")[1]["models"][0]["version"] == first
        registry.move("topics", first)
        champion = reference(client.get_model_version("topics", str(first)))
        inputs = DeployInputs(model=champion, challenger=registry.log("proposed", skill=0.5))
        assert deploy.run(DeployConfig(service="live", urls=urls), inputs, context).model == champion
        assert ask(port, "GET", "/v1/models")[1]["models"][0]["challenger"] == 3
        inputs = DeployInputs(model=champion, challenger=champion)
        assert (
            deploy.run(DeployConfig(service="live", urls=urls, shadow=True), inputs, context).model
            == champion
        )
    stored = read_deployments("live", context.settings)
    assert (stored["topics"].shadow, stored["topics"].pipeline) == (True, "tests")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x", "file:///etc/passwd", "http://", "http://a b", "localhost:80", "http://me:word@a"),
        *("http://a?b", "http://a#b", "http://a/b?c", "http://a/b#c", "http://a\\b", "http://a@b/c"),
    ],
)
def test_a_service_has_an_http_address(url: str) -> None:
    with pytest.raises(ValidationError, match="urls"):
        DeployConfig(urls=(url,))


def test_a_damaged_deployment_is_named(settings: Settings) -> None:
    write_deployment(Deployment(model="topics"), "live", settings)
    place = Path(settings.deployments, "live")
    (place / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"live/broken\.json'; run the deploy step again"):
        read_deployments("live", settings)
    (place / "broken.json").write_text(Deployment(model="other").model_dump_json())
    with pytest.raises(ConfigError, match="a deployment's file is named after its model"):
        read_deployments("live", settings)


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
