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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, cast

from modelmill.errors import EXIT_REFUSED, InputError, ModelmillError, TransientError, WaitingError
from modelmill.pipeline.forked_steps import GRACE_SECONDS
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.redaction import redacted, secret_values
from modelmill.system.scratch import scratch_folder


class StartedProcess(Protocol):
    """A process that runs a step, and leads a group of its own."""

    pid: int
    stdout: IO[str]

    def wait_for_exit(self) -> None:
        """Wait until it has ended."""

    def has_exited(self) -> bool:
        """Return whether it has ended."""

    def reap(self) -> int:
        """Wait for its end, and return the exit status: negative for a signal."""


class StepStarter(Protocol):
    """Starts processes for steps otherwise than by a new interpreter each."""

    def start(self, request: Path, result: Path, environment: Mapping[str, str]) -> StartedProcess | None:
        """Start a step's process; None if a new interpreter has to run it."""


class _Child:
    """A child of this process, in an interpreter of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        self.pid, self.stdout = self._process.pid, cast("IO[str]", self._process.stdout)

    def wait_for_exit(self) -> None:
        """Wait for the child without reaping it, so that its group's id stays its own."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def has_exited(self) -> bool:
        """Return whether it has ended, reaped or not."""
        # A signal handler may ask this while Popen's own lock is held: Popen.poll() would never return.
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def reap(self) -> int:
        """Wait for its end, and return the exit status."""
        return self._process.wait()


class StepProcess:
    """One step in its own process group.

    :param request: what to run.
    :param python: the interpreter, with modelmill installed.
    :param environment: variables besides this process's own, such as secrets that only the step may have; one
        that is None is not handed on.
    :param server: forks the process; None: it is a new interpreter.
    """

    def __init__(
        self,
        request: StepRequest,
        *,
        python: str,
        environment: Mapping[str, str | None] | None = None,
        server: StepStarter | None = None,
    ) -> None:
        self.request = request
        self.python = python
        self.environment = environment or {}
        self.server = server
        self._process: StartedProcess | None = None
        self._status: int | None = None
        self._stopped = threading.Event()

    @property
    def pid(self) -> int | None:
        """Id of the process, which leads a group of its own; None before it has started."""
        return self._process.pid if self._process else None

    def run(self, on_line: Callable[[str], None]) -> StepResult:
        """Run the step to its end.

        :param on_line: gets each line that the step prints, as it is printed, without secrets.
        :return: what the step yields.
        :raises InputError: if the step refuses its input: a retry cannot help.
        :raises WaitingError: if it waits for others.
        :raises TransientError: if it fails in another way.
        """
        with scratch_folder("modelmill-step-") as folder:
            request_path, result_path = folder / "request.json", folder / "result.json"
            request_path.write_text(self.request.model_dump_json())
            last = self._stream(request_path, result_path, on_line)
            status = 1 if self._status is None else self._status
            if status == 0 and result_path.exists():
                return StepResult.model_validate_json(result_path.read_text())
            raise _failure(self.request.step, status, result_path, last)

    def run_to_end(self, on_line: Callable[[str], None]) -> StepResult:
        """Run the step, and again each time it has waited for others.

        :param on_line: as for :meth:`run`.
        :return: what the step yields.
        :raises InputError: as :meth:`run`.
        :raises TransientError: as :meth:`run`, or if it is stopped while it waits.
        """
        while True:
            try:
                return self.run(on_line)
            except WaitingError as waiting:
                on_line(str(waiting))
                if self._stopped.wait(waiting.seconds):
                    raise
            self._process = self._status = None

    def _stream(self, request_path: Path, result_path: Path, on_line: Callable[[str], None]) -> str:
        given = {**os.environ, **self.environment}
        environment = {name: value for name, value in given.items() if value is not None}
        process = self._process = self._start(request_path, result_path, environment)
        last, secrets = "", secret_values(environment)
        # A child may outlive the leader and hold the pipe open, so that reading it would never end.
        threading.Thread(target=_end_group_with_leader, args=(process,), daemon=True).start()
        try:
            for line in process.stdout:
                shown = redacted(line.rstrip(), secrets=secrets)
                last = shown or last
                on_line(shown)
            process.wait_for_exit()
        finally:
            self._end_group()
            self._status = process.reap()
            process.stdout.close()
        return last

    def _start(self, request_path: Path, result_path: Path, environment: Mapping[str, str]) -> StartedProcess:
        if self.server is not None:
            forked = self.server.start(request_path, result_path, environment)
            if forked is not None:
                return forked
        command = [self.python, "-m", "modelmill", "step", str(request_path), "--result", str(result_path)]
        added = {"PYTHONUNBUFFERED": "1", "MODELMILL_PARENT": str(os.getpid())}
        return _Child(command, {**environment, **added})

    def stop(self) -> None:
        """End the whole process group: SIGTERM, SIGKILL after some seconds. Safe to call twice."""
        self._stopped.set()
        self._end_group()

    def _end_group(self) -> None:
        process = self._process
        if process is None or self._status is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if not process.has_exited():
                os.killpg(process.pid, signal.SIGTERM)
                deadline = time.monotonic() + GRACE_SECONDS
                while not process.has_exited() and time.monotonic() < deadline:
                    time.sleep(0.05)
            # Children may outlive the leader: the group ends as a whole.
            os.killpg(process.pid, signal.SIGKILL)


def _end_group_with_leader(process: StartedProcess) -> None:
    process.wait_for_exit()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class StepRefusedError(InputError):
    """A step's own refusal, as the step worded it, and the step's name."""

    def __init__(self, message: str) -> None:
        ModelmillError.__init__(self, message)


def _failure(step: str, status: int, result_path: Path, last: str) -> ModelmillError:
    message = last
    with contextlib.suppress(OSError, ValueError, KeyError):
        found = json.loads(result_path.read_text())
        message = found["error"]
        if "waiting" in found:
            return WaitingError(**found["waiting"])
    if status == EXIT_REFUSED:
        return StepRefusedError(f"step {step!r}: {message}")
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    said, remedy = message or "it printed nothing", "its log says more"
    if status == -signal.SIGKILL:  # which nobody can write down: what it printed last need not be why
        remedy = "if nobody has killed it, memory ran out: give it less to do at once, or a larger machine"
        said = f"it printed last: {message}" if message else said
    return TransientError(f"step {step!r} ended with {how}: {said}", remedy=remedy)
