"""Local servers end for certain: with their descendants, and also when whoever started them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psutil
import pytest
from demo.servers.airflow_server import LocalAirflow
from demo.servers.processes import ServerError, Servers, free_port, relying_on, watch

from demo import __main__ as demo

ROOT = Path(__file__).parents[2]
SERVER = """
import os, socket, subprocess, sys, time
port, folder, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
# A child in a session of its own whose parent is gone: neither group nor tree leads to it.
grandchild = "import os, sys; os.setsid(); open(sys.argv[1], 'w').write(str(os.getpid())); "
grandchild += "import time; time.sleep(600)"
middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {grandchild!r}, sys.argv[1]])"
subprocess.run([sys.executable, "-c", middle, os.path.join(folder, name + ".orphan")])
listener = socket.create_server(("127.0.0.1", port))
open(os.path.join(folder, name + ".ready"), "w").close()
time.sleep(600)
"""
STARTER = """
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background may ignore it
from demo.servers.processes import Servers, free_port
folder = Path(sys.argv[1])
servers = Servers(folder / "logs", dict(os.environ))
pid = servers.start("one", [sys.executable, "-c", sys.argv[2], str(free_port()), str(folder), "one"])
(folder / "leader").write_text(str(pid))
time.sleep(600)
"""


def wait_for(path: Path, seconds: float = 30) -> str:
    deadline = time.monotonic() + seconds
    while not (path.exists() and (path.read_text() or path.suffix == ".ready")):
        assert time.monotonic() < deadline, f"waited in vain for {path}"
        time.sleep(0.05)
    return path.read_text()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_dead(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"still alive: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.05)


def test_a_killed_server_can_be_started_again(tmp_path: Path) -> None:
    servers, port = Servers(tmp_path / "logs", dict(os.environ)), free_port()
    command = [sys.executable, "-c", SERVER, str(port), str(tmp_path), "one"]
    first = servers.start("one", command)
    try:
        wait_for(tmp_path / "one.ready")
        servers.kill("one")
        assert not is_alive(first)
        servers.check()
        second = servers.start("one", command)
        servers.wait_until(lambda: servers.listens("one", port), what="one", timeout=30)
        assert second != first
        short = servers.start("short", ["true"])
        wait_until_dead(short)
        assert servers.ended() == ["short"]
        servers.check()  # it is no longer missed
    finally:
        servers.stop()
    assert not is_alive(second)


def test_stopping_ends_orphans_too(tmp_path: Path) -> None:
    servers, port = Servers(tmp_path / "logs", dict(os.environ)), free_port()
    leader = servers.start("one", [sys.executable, "-c", SERVER, str(port), str(tmp_path), "one"])
    try:
        wait_for(tmp_path / "one.ready")
        orphan = int(wait_for(tmp_path / "one.orphan"))
        assert is_alive(leader)
        assert is_alive(orphan)
        assert servers.listens("one", port)
        assert not servers.listens("one", free_port())
    finally:
        servers.stop()
    assert not is_alive(leader)
    assert not is_alive(orphan)
    servers.stop()  # a second time does nothing


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_starters_death_ends_them(tmp_path: Path, blow: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path), SERVER], stderr=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        wait_for(tmp_path / "one.ready")
        leader, orphan = int(wait_for(tmp_path / "leader")), int(wait_for(tmp_path / "one.orphan"))
        assert is_alive(leader)
        assert is_alive(orphan)
        starter.send_signal(blow)
        wait_until_dead(leader, orphan)
    finally:
        starter.kill()
        starter.wait()


def test_a_server_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "logs", dict(os.environ))
    servers.start("short", [sys.executable, "-c", "print('no such database\\nstopped')"])
    try:
        with pytest.raises(ServerError) as caught:
            servers.wait_until(lambda: False, what="it", timeout=30)
        with pytest.raises(ServerError, match=r"made must succeed; got 'exit status 3'(.|\n)*\n    on fire"):
            servers.run("made", [sys.executable, "-c", "print('on fire'); raise SystemExit(3)"])
    finally:
        servers.stop()
    assert str(caught.value).splitlines() == [
        f"short must keep running; got 'exit status 0'; see {tmp_path}/logs/short.log, which ends with:",
        "    no such database",
        "    stopped",
    ]


def test_a_server_that_dies_while_all_are_watched_is_named(tmp_path: Path) -> None:
    lives, dies = (Servers(tmp_path / name, dict(os.environ)) for name in ("lives", "dies"))
    forever = "import time; print('ready', flush=True); time.sleep(600)"
    try:
        lives.start("airflow", [sys.executable, "-c", forever])
        pid = dies.start("mlflow", [sys.executable, "-c", forever])
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(ServerError, match="mlflow must keep running; got 'exit status -9'"):
            watch(lives, None, dies)
        lives.check()
    finally:
        lives.stop()
        dies.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("command", "airflow"),
    [
        (["up"], {}),
        (["demo", "--exit"], {"run_state.return_value": "running", "tasks.return_value": {}}),
        (["demo", "--exit"], {"trigger.side_effect": httpx.ConnectError("refused")}),
    ],
    ids=["up", "demo", "before its run"],
)
def test_what_runs_no_more_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], airflow: dict[str, Any]
) -> None:
    """``./run up`` ends, and ``./run demo`` within its run, and says which of its servers has died."""

    class Server:
        """Stands for MLflow and Airflow; its one process has ended."""

        url, user, password = "http://127.0.0.1:1", "admin", "secret"

        def __init__(self, *_: object, **__: object) -> None:
            self.servers = Servers(tmp_path / "logs", dict(os.environ))

        def __enter__(self) -> Server:
            self.servers.start("api-server", [sys.executable, "-c", "print('out of memory')"])
            return self

        def __exit__(self, *_: object) -> None:
            self.servers.stop()

        def wait_ready(self, *, timeout: float) -> None:
            """Be ready at once."""

        warm_up = wait_ready

        def client(self) -> Any:
            return mock.Mock(**airflow)

    said: list[str] = []
    monkeypatch.setattr(demo, "LocalMlflow", Server)
    monkeypatch.setattr(demo, "LocalAirflow", Server)
    monkeypatch.setattr(demo.samples, "prepare", lambda home: (home, home))
    monkeypatch.setattr(demo.console, "print", lambda *text, **_: said.extend(map(str, text)))
    monkeypatch.setattr(sys, "argv", ["run", *command, "--home", str(tmp_path / "home")])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with mock.patch.dict(os.environ):
        assert demo.main() == 1
    assert any("api-server must keep running" in line and "out of memory" in line for line in said)


@pytest.mark.timeout(60)
def test_a_request_without_an_answer_names_the_server_that_has_ended(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "logs", dict(os.environ))
    try:
        pid = servers.start("api-server", [sys.executable, "-c", "import time; time.sleep(60)"])
        with (
            pytest.raises(ServerError, match=r"every server must answer; got .*refused"),
            relying_on(servers),
        ):
            httpx.get(f"http://127.0.0.1:{free_port()}")
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ServerError, match="api-server must keep running"), relying_on(None, servers):
            httpx.get(f"http://127.0.0.1:{free_port()}")
    finally:
        servers.stop()


def test_a_secret_that_was_half_written_is_made_again(tmp_path: Path) -> None:
    """Else Airflow would sign with an empty key, or never start again."""
    airflow = LocalAirflow(tmp_path, tmp_path, environment={})

    def die(handle: int, _mode: str) -> Any:
        os.close(handle)
        raise KeyboardInterrupt

    with mock.patch("os.fdopen", die), pytest.raises(KeyboardInterrupt):
        airflow._secret("key")
    made = airflow._secret("key")
    assert len(made) == 44
    assert airflow._secret("key") == made
    assert (tmp_path / "secrets" / "key").stat().st_mode & 0o777 == 0o600


def test_a_leftover_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    port = free_port()
    leftover, ours = Servers(tmp_path / "a", dict(os.environ)), Servers(tmp_path / "b", dict(os.environ))
    try:
        leftover.start("one", [sys.executable, "-c", SERVER, str(port), str(tmp_path), "old"])
        wait_for(tmp_path / "old.ready")
        ours.start("one", [sys.executable, "-c", "import time; time.sleep(600)"])
        assert leftover.listens("one", port)
        assert not ours.listens("one", port)
    finally:
        leftover.stop()
        ours.stop()
