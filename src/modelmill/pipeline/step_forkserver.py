"""The process that forks the steps of Airflow's tasks: one for all tasks of a worker that are alike.

A task's process ends with its step, so it cannot keep a server for the next one. The first task starts one
that outlives it; the next ones find it by its name, which is made of all that a process takes from its
environment before it runs a step. It ends some time after its last step. It takes no more of them once the
worker that it was started for has ended, a file of modelmill's has changed, or a package was installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from modelmill.errors import TransientError
from modelmill.pipeline.forked_steps import ForkedStep, ask_for_step
from modelmill.redaction import is_secret_name

_log = logging.getLogger(__name__)
_START_SECONDS, _ANSWER_SECONDS = 20.0, 120.0
"""How long a task waits for a new server, and for the step: the server may be importing."""
_OF_A_TASK = ("AIRFLOW_CTX_", "_AIRFLOW_", "__AIRFLOW_")
"""How variables begin that differ from task to task."""


class SharedStepServer:
    """Starts steps as forks of a process that other tasks of this worker share. On Linux only.

    :param python: the interpreter, with modelmill installed.
    """

    def __init__(self, python: str) -> None:
        self.python = python

    def start(self, request: Path, result: Path, environment: Mapping[str, str]) -> ForkedStep | None:
        """Start a step.

        :param request: JSON file with the request.
        :param result: JSON file that gets the result.
        :param environment: of the step's process.
        :return: the process; None if there is no server, and none can be started.
        """
        try:
            with self._connected() as connection:
                return ask_for_step(connection, request, result, environment, timeout=_ANSWER_SECONDS)
        except (OSError, TransientError) as error:
            _log.warning(
                "the step gets an interpreter of its own: no process can be forked for it: %s", error
            )
            return None

    def _connected(self) -> socket.socket:
        name = server_name(self.python, os.environ)
        with contextlib.suppress(ConnectionRefusedError):
            return _connect(name)
        server = _start(self.python, name)
        deadline, has_ended = time.monotonic() + _START_SECONDS, False
        while True:
            try:
                return _connect(name)
            except ConnectionRefusedError:
                if has_ended or time.monotonic() > deadline:
                    raise
            # It ends at once where another task's was faster, or where modelmill is older there.
            has_ended = os.waitpid(server, os.WNOHANG) != (0, 0)
            time.sleep(0.0 if has_ended else 0.02)


def server_name(python: str, environment: Mapping[str, str]) -> str:
    """Return the name of the server for an interpreter and an environment.

    Names of Linux's abstract sockets belong to a network namespace, which containers may share: so the
    namespaces of files and of processes are part of the name.

    :param python: the interpreter.
    :param environment: of the task; what only the step reads (secrets, who has triggered it) is left out.
    :return: 32 hexadecimal digits.
    """
    seen = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OF_A_TASK) and not is_secret_name(name)
    }
    spaces = [_files_seen_by("self"), Path("/proc/self/ns/pid").stat().st_ino]
    told = json.dumps([python, os.getuid(), spaces, str(Path.cwd()), sorted(seen.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def address(name: str) -> str:
    """Return the address of a server's socket: an abstract one, which leaves no file behind."""
    return f"\0modelmill-steps-{name}"


def is_own(connection: socket.socket) -> bool:
    """Return whether the other end of a connection is a process of this user, and of no other container."""
    pid, user = _peer(connection)
    return pid > 0 and user == os.getuid()


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the id of the process at the other end, 0 if it cannot be seen from here, and its user."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", told)
    return pid, user


def _files_seen_by(process: str) -> int:
    """Return the namespace of files that a process of this user sees."""
    return Path(f"/proc/{process}/ns/mnt").stat().st_ino


def _connect(name: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_ANSWER_SECONDS)  # else a server that has been stopped would hold us for ever
        connection.connect(address(name))
        # It will read secrets: nobody else may have taken the name.
        if not is_own(connection) or _files_seen_by(str(_peer(connection)[0])) != _files_seen_by("self"):
            raise PermissionError("the server of this name is not of this user and container")
    except BaseException:
        connection.close()
        raise
    return connection


def _start(python: str, name: str) -> int:
    """Start a server that outlives this process, and ends with the one that this process is a child of."""
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    command = [python, "-m", "modelmill.cli.step_forks", "share", name, str(os.getppid())]
    return os.posix_spawnp(python, command, os.environ, file_actions=nothing, setsid=True)


def can_share() -> bool:
    """Return whether steps can be forked here by a process that tasks share."""
    return sys.platform.startswith("linux")
