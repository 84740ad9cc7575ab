"""Running one step as a process group of its own: what operators and ``modelmill run`` share.

A step owns its process, because training wants its memory back at the end, because a kill must reach every
child (data loaders, the Spark engine), and because its interpreter may be another one than the caller's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from modelmill.errors import EXIT_REFUSED, InputError, ModelmillError, TransientError
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.redaction import redacted, secret_values
from modelmill.system.scratch import scratch_folder

GRACE_SECONDS = 4.0
"""Time between SIGTERM and SIGKILL: enough to mark a run, and less than the 5 s after which Airflow kills the
process of a task that somebody has ended."""


class StepProcess:
    """One step in its own process group.

    :param request: what to run.
    :param python: the interpreter, with modelmill installed.
    :param environment: variables besides this process's own, such as secrets that only the step may have; one
        that is None is not handed on.
    """

    def __init__(
        self, request: StepRequest, *, python: str, environment: Mapping[str, str | None] | None = None
    ) -> None:
        self.request = request
        self.python = python
        self.environment = environment or {}
        self._process: subprocess.Popen[str] | None = None

    def run(self, on_line: Callable[[str], None]) -> StepResult:
        """Run the step to its end.

        :param on_line: gets each line that the step prints, as it is printed, without secrets.
        :return: what the step yields.
        :raises InputError: if the step refuses its input: a retry cannot help.
        :raises TransientError: if it fails in another way.
        """
        with scratch_folder("modelmill-step-") as folder:
            request_path, result_path = folder / "request.json", folder / "result.json"
            request_path.write_text(self.request.model_dump_json())
            last = self._stream(request_path, result_path, on_line)
            status = self._process.returncode if self._process else 1
            if status == 0 and result_path.exists():
                return StepResult.model_validate_json(result_path.read_text())
            raise _failure(self.request.step, status, result_path, last)

    def _stream(self, request_path: Path, result_path: Path, on_line: Callable[[str], None]) -> str:
        command = [self.python, "-m", "modelmill", "step", str(request_path), "--result", str(result_path)]
        environment: dict[str, str | None] = {**os.environ, **self.environment}
        environment |= {"PYTHONUNBUFFERED": "1", "MODELMILL_PARENT": str(os.getpid())}
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={name: value for name, value in environment.items() if value is not None},
            start_new_session=True,
        )
        last, secrets = "", secret_values(environment)
        # A child may outlive the leader and hold the pipe open, so that reading it would never end.
        threading.Thread(target=_end_group_with_leader, args=(self._process.pid,), daemon=True).start()
        try:
            for line in self._process.stdout or ():
                shown = redacted(line.rstrip(), secrets=secrets)
                last = shown or last
                on_line(shown)
            _wait_for_exit(self._process.pid)
        finally:
            self.stop()
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
        return last

    def stop(self) -> None:
        """End the whole process group: SIGTERM, after :data:`GRACE_SECONDS` SIGKILL. Safe to call twice."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        # A signal handler may call this while Popen's own lock is held: Popen.wait() would never return.
        with contextlib.suppress(ProcessLookupError):
            if not _has_exited(process.pid):
                os.killpg(process.pid, signal.SIGTERM)
                deadline = time.monotonic() + GRACE_SECONDS
                while not _has_exited(process.pid) and time.monotonic() < deadline:
                    time.sleep(0.05)
            # Children may outlive the leader: the group ends as a whole.
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for_exit(pid: int) -> None:
    """Wait for a child without reaping it, so that its group's id stays its own."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _has_exited(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _end_group_with_leader(pid: int) -> None:
    _wait_for_exit(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class StepRefusedError(InputError):
    """A step's own refusal, as the step worded it, and the step's name."""

    def __init__(self, message: str) -> None:
        ModelmillError.__init__(self, message)


def _failure(step: str, status: int, result_path: Path, last: str) -> ModelmillError:
    message = last
    with contextlib.suppress(OSError, ValueError, KeyError):
        message = json.loads(result_path.read_text())["error"]
    if status == EXIT_REFUSED:
        return StepRefusedError(f"step {step!r}: {message}")
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    remedy = "its log says more"
    if status == -signal.SIGKILL:  # which nobody can write down: what it printed last need not be why
        remedy = "if nobody has killed it, memory ran out: give it less to do at once, or a larger machine"
        message = f"it printed last: {message}" if message else "it printed nothing"
    return TransientError(f"step {step!r} ended with {how}: {message}", remedy=remedy)
