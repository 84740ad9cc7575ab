"""A process that has imported what steps need, and forks a process for each of them.

Most of what a small step takes is to import MLflow, PyTorch and the like: seconds, again for each step. Steps
of one run that have the same interpreter are forked from a process that imports these once. Each still owns
its process: its memory is given back at its end, and a step that is killed takes no other with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from modelmill.errors import TransientError

GRACE_SECONDS = 4.0
"""Time between SIGTERM and SIGKILL: enough to mark a run, and less than the 5 s after which Airflow kills the
process of a task that somebody has ended."""

_SECONDS_TO_END = 10.0
"""It may be importing."""
_SECONDS_TO_TELL = 120.0
"""How long a server may take to tell that a step has ended: it may be importing for another one."""


class ForkedStep:
    """A process that a server has forked: a :class:`~modelmill.pipeline.step_process.StartedProcess`.

    :param status: gets a line with the process's id, and at its end one with its exit status.
    :param stdout: what the process prints.
    :param timeout: seconds to wait for the process's id; None: as long as the server lives.
    :raises TransientError: if the server has ended, or does not answer in time.
    """

    def __init__(self, status: IO[str], stdout: IO[str], *, timeout: float | None = None) -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = threading.Event()
        ready, _, _ = select.select([status], [], [], timeout)
        first = status.readline() if ready else ""
        if not first:
            stdout.close()
            status.close()
            raise _dead()
        self.pid = int(first)
        threading.Thread(target=self._follow, args=(status,), daemon=True).start()

    def _follow(self, status: IO[str]) -> None:
        alive, last = _process_file(self.pid), ""
        with status:
            told = status.fileno()
            ready, _, _ = select.select([told] if alive is None else [told, alive], [], [])
            if told not in ready:  # the server tells at once, unless somebody has stopped it
                ready, _, _ = select.select([told], [], [], _SECONDS_TO_TELL)
            if ready:
                last = status.readline()
        if not last and alive is not None:  # nobody reaps it, and the kernel asks it to stop: let it
            select.select([alive], [], [], GRACE_SECONDS)
        if alive is not None:
            os.close(alive)
        self.returncode = int(last) if last else -signal.SIGTERM
        self._ended.set()

    def wait_for_exit(self) -> None:
        """Wait until the process has ended."""
        self._ended.wait()

    def has_exited(self) -> bool:
        """Return whether the process has ended."""
        return self._ended.is_set()

    def reap(self) -> int:
        """Wait for the end, and return the exit status: negative for a signal."""
        self._ended.wait()
        return self.returncode or 0


class StepServer:
    """Starts steps as forks of one process, which lives from the first step until :meth:`close`.

    For several threads.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting = threading.Lock()

    def start(self, request: Path, result: Path, environment: Mapping[str, str]) -> ForkedStep:
        """Start a step.

        :param request: JSON file with the request.
        :param result: JSON file that gets the result.
        :param environment: of the step's process.
        :return: the process.
        :raises TransientError: if the server cannot start it.
        """
        with self._starting:
            connection = self._connected()
        return ask_for_step(connection, request, result, environment)

    def close(self) -> None:
        """End the server: steps that still run are asked to stop."""
        with self._starting:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_SECONDS_TO_END)
            self._process.kill()
            self._process.wait()
        self._control = self._process = None

    def _connected(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "modelmill.cli.step_forks", "serve", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,  # Ctrl-C is for the run, which stops its steps
                )
        return self._control


def ask_for_step(
    connection: socket.socket,
    request: Path,
    result: Path,
    environment: Mapping[str, str],
    *,
    timeout: float | None = None,
) -> ForkedStep:
    """Ask a server for a step.

    :param connection: to the server; of the kind ``SOCK_SEQPACKET``.
    :param request: JSON file with the request.
    :param result: JSON file that gets the result.
    :param environment: of the step's process.
    :param timeout: see :class:`ForkedStep`.
    :return: the process.
    :raises TransientError: if the server does not start it.
    """
    asked = {"request": str(request), "result": str(result), "folder": str(Path.cwd())}
    output, printed = os.pipe()
    status, told = os.pipe()
    # A file in memory: an environment may be larger than a message, and its secrets are for no disk.
    letter = os.memfd_create("step")
    try:
        os.write(letter, json.dumps({**asked, "environment": dict(environment)}).encode())
        socket.send_fds(connection, [b"step"], [printed, told, letter])
    except OSError as error:
        os.close(output)
        os.close(status)
        raise _dead() from error
    finally:
        for number in (printed, told, letter):
            os.close(number)
    return ForkedStep(os.fdopen(status), os.fdopen(output, errors="replace"), timeout=timeout)


def can_fork(python: str) -> bool:
    """Return whether steps of this interpreter can be forked here: on Linux, by the interpreter that asks."""
    return sys.platform.startswith("linux") and python == sys.executable


def _process_file(pid: int) -> int | None:
    """Return a descriptor that can be read when a process has ended; None if it has."""
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None


def _dead() -> TransientError:
    return TransientError(
        "the process that starts steps has ended",
        remedy="run it again; if memory ran out, run fewer steps side by side",
    )
