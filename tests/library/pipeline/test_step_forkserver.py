"""Steps of tasks that are alike are forked from one process, which outlives each task and not the worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from modelmill.cli import step_forks
from modelmill.pipeline import step_forkserver
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.step_forkserver import SharedStepServer, can_share, server_name
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

pytestmark = [
    pytest.mark.usefixtures("toy_components"),
    pytest.mark.skipif(not can_share(), reason="steps are forked on Linux only"),
]

TASK = """
import sys
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.step_forkserver import SharedStepServer
from modelmill.pipeline.step_process import StepProcess
process = StepProcess(
    StepRequest.model_validate_json(sys.argv[1]),
    python=sys.executable,
    environment={"MODELMILL_USER": sys.argv[2]},
    server=SharedStepServer(sys.executable),
)
process.run(lambda line: None)
"""
WORKER = """
import json, subprocess, sys
for line in sys.stdin:
    print(subprocess.Popen([sys.executable, "-c", *json.loads(line)]).pid, flush=True)
"""


class Task:
    """A task's process, and the step that it has asked for, which sleeps in a child of its own."""

    def __init__(self, worker: subprocess.Popen[str], folder: Path, user: str) -> None:
        assert worker.stdin
        assert worker.stdout
        config = {"journal": str(folder / user), "behaviour": "sleep"}
        request = StepRequest(pipeline="toy", step=user, component="count", config=config)
        worker.stdin.write(json.dumps([TASK, request.model_dump_json(), user]) + "\n")
        worker.stdin.flush()
        self.pid = int(worker.stdout.readline())
        sleeper = (folder / user).with_suffix(".pid")
        wait_until(lambda: sleeper.exists() and sleeper.read_text() != "")
        self.sleeper = int(sleeper.read_text())
        self.step = parent(self.sleeper)
        self.server = parent(self.step)


@pytest.fixture
def worker(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """What starts tasks, as an executor's worker does."""
    del settings  # the environment that tasks inherit is its
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def states(settings: Settings) -> dict[str, str]:
    client = tracking_client(settings.tracking_uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run.info.status for run in client.search_runs(ids)}


def test_tasks_share_a_server_and_each_step_ends_with_its_task(
    worker: subprocess.Popen[str], tmp_path: Path, settings: Settings
) -> None:
    ann, bob = (Task(worker, tmp_path, user) for user in ("ann", "bob"))
    assert ann.server == bob.server
    assert os.getpgid(ann.step) == ann.step  # a group of its own
    for task, user in ((ann, "ann"), (bob, "bob")):
        environment = Path(f"/proc/{task.sleeper}/environ").read_bytes().split(b"\0")
        assert f"MODELMILL_USER={user}".encode() in environment
    os.kill(ann.pid, signal.SIGKILL)  # as Airflow does with a task that nobody wants any more
    wait_until(lambda: not is_alive(ann.sleeper) and not is_alive(ann.step))
    assert is_alive(bob.sleeper)
    assert states(settings) == {"ann": "KILLED", "bob": "RUNNING"}
    worker.kill()  # its server takes no more steps; those that run are of tasks that may be another worker's
    time.sleep(1.5)
    assert is_alive(bob.sleeper)
    os.kill(bob.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, (bob.server, bob.step, bob.sleeper))))
    assert states(settings) == {"ann": "KILLED", "bob": "KILLED"}


@pytest.mark.parametrize("python", ["no-such-python", "true"])
def test_without_a_server_there_is_no_process(python: str, tmp_path: Path) -> None:
    assert SharedStepServer(python).start(tmp_path / "request", tmp_path / "result", {}) is None


def test_tasks_that_are_alike_have_one_server() -> None:
    usual = {"PATH": "/bin", "HF_HOME": "/models"}
    name = server_name("python", usual)
    assert server_name("python", usual | {"AIRFLOW_CTX_TASK_ID": "one", "DB_PASSWORD": "secret"}) == name
    assert server_name("python", usual | {"OMP_NUM_THREADS": "1"}) != name
    assert server_name("python3", usual) != name


def test_a_server_that_nobody_asks_ends() -> None:
    name = f"idle-{os.getpid()}"
    share = f"f.main('share', {name!r}, '{os.getpid()}')"
    body = f"import modelmill.cli.step_forks as f; f._IDLE_SECONDS = 3.0; {share}"
    with subprocess.Popen([sys.executable, "-c", body]) as server:
        wait_until(lambda: f"@modelmill-steps-{name}" in Path("/proc/net/unix").read_text())
        assert server.wait(timeout=60) == 0


def test_a_server_that_is_stopped_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_forkserver, "_ANSWER_SECONDS", 0.5)
    name = server_name("true", os.environ)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nobody:
        nobody.bind(step_forkserver.address(name))
        nobody.listen(1)
        for _ in range(4):  # those that fit into its queue, and those that do not
            assert SharedStepServer("true").start(tmp_path / "request", tmp_path / "result", {}) is None


def test_a_changed_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("modelmill.of_this_test")
    module.__file__ = str(tmp_path / "of_this_test.py")
    (tmp_path / "of_this_test.py").write_text("")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert not step_forks._is_outdated()
    os.utime(module.__file__, (1, 1))
    assert step_forks._is_outdated()
