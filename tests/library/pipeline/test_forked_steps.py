"""Steps that are forked from one process: each is a process of its own all the same."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmill.errors import TransientError
from modelmill.pipeline.forked_steps import StepServer
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.step_process import StepProcess, StepRefusedError
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

pytestmark = [
    pytest.mark.usefixtures("toy_components"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="steps are forked on Linux only"),
]


@pytest.fixture
def server() -> Iterator[StepServer]:
    server = StepServer()
    yield server
    server.close()


def step(folder: Path, settings: Settings, server: StepServer, *, name: str, behaviour: str) -> StepProcess:
    config = {"journal": str(folder / name), "behaviour": behaviour}
    request = StepRequest(pipeline="toy", step=name, component="count", config=config)
    return StepProcess(request, python=settings.python, server=server)


class Thread(threading.Thread):
    """A step that runs meanwhile, until it is in its second line."""

    def __init__(self, process: StepProcess) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.error: Exception | None = None
        self.pid = 0
        self.start()
        pids = Path(process.request.config["journal"]).with_suffix(".pid")
        deadline = time.monotonic() + 120
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.pid = int(pids.read_text())

    def run(self) -> None:
        try:
            self.process.run(lambda line: None)
        except TransientError as error:
            self.error = error


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def states(settings: Settings) -> list[str]:
    client = tracking_client(settings.tracking_uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.status for run in client.search_runs(ids)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_step_that_is_killed_takes_no_other_with_it(
    tmp_path: Path, settings: Settings, server: StepServer
) -> None:
    other = Thread(step(tmp_path, settings, server, name="other", behaviour="sleep"))
    with pytest.raises(TransientError, match="step 'dies' ended with signal SIGKILL"):
        step(tmp_path, settings, server, name="dies", behaviour="die").run(lambda line: None)
    lines: list[str] = []
    result = step(tmp_path, settings, server, name="dies", behaviour="die").run(lines.append)
    assert result.outputs["table"].model_dump()["version"] == 0
    assert "attempt 2 of dies" in lines
    with pytest.raises(StepRefusedError, match="step 'odd': a number must be even; got 0; add one"):
        step(tmp_path, settings, server, name="odd", behaviour="refuse").run(lambda line: None)
    assert other.is_alive()
    leader = parent(other.pid)
    assert os.getpgid(other.pid) == leader  # a group of its own, whose leader is the step
    assert parent(leader) != os.getpid()
    other.process.stop()
    other.join(30)
    assert "signal SIGKILL" in str(other.error) or "signal SIGTERM" in str(other.error)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_dies_ends_its_steps_and_the_next_one_starts(
    sent: signal.Signals, tmp_path: Path, settings: Settings, server: StepServer
) -> None:
    running = Thread(step(tmp_path, settings, server, name="long", behaviour="sleep"))
    os.kill(parent(parent(running.pid)), sent)
    running.join(30)
    assert "step 'long' ended with signal SIGTERM" in str(running.error)
    assert not alive(running.pid)
    assert states(settings) == ["KILLED"]
    result = step(tmp_path, settings, server, name="next", behaviour="work").run(lambda line: None)
    assert not result.reused


def test_the_end_of_the_server_is_the_end_of_its_steps(
    tmp_path: Path, settings: Settings, server: StepServer
) -> None:
    running = Thread(step(tmp_path, settings, server, name="long", behaviour="sleep"))
    server.close()
    running.join(30)
    assert running.error is not None
    assert not alive(running.pid)
