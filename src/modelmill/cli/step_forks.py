"""The process that forks steps: see :mod:`modelmill.pipeline.forked_steps`.

``python -m modelmill.cli.step_forks serve SOCKET`` answers one process, at the other end of a socket that it
has inherited, and ends with it. ``… share NAME OWNER`` answers all processes of its user that know its name,
and takes no more steps once the process OWNER has ended: see :mod:`modelmill.pipeline.step_forkserver`.

A message brings three files: a pipe for what the step prints; a pipe that gets the process's id, then its
exit status; a file in memory with the request, the step's folder and its environment. Who has asked keeps the
other ends of the pipes: when they are closed, the step is asked to stop.

What a step has imported is imported here before the next one is forked, if the package is known to start no
thread and to open nothing when it is imported: a fork has none of its parent's threads.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import sysconfig
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from modelmill.cli.main import told
from modelmill.cli.step_run import die_with_parent, exit_now, run_request
from modelmill.errors import EXIT_FAILED
from modelmill.pipeline.forked_steps import GRACE_SECONDS
from modelmill.pipeline.step_forkserver import address, is_own
from modelmill.system.imports import without_collections

MODULES = (
    *("modelmill.pipeline.runner", "pandas", "mlflow", "mlflow.tracking", "sqlalchemy"),
    *("mlflow.tracking.request_header.registry", "opentelemetry.sdk.metrics", "matplotlib.figure"),
    "pyspark.sql.connect.session",  # MLflow's client asks it for a cluster with each request to a server
    *("pyarrow.dataset", "modelmill.datasets.building", "scipy.sparse", "scipy.stats"),
    *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.svm"),
    "modelmill.models",  # keeps torchao, which transformers imports, from warning
    *("torch", "torch._dynamo", "torch.export", "torch.onnx", "transformers", "transformers.modeling_utils"),
)
"""What takes long to import, and starts no thread that a fork would miss, in the order of imports."""
_IDLE_SECONDS = 180.0
"""After so long without a step, a server that is shared ends: it holds some hundred MB."""
_ASK_SECONDS = 5.0
"""How long a connected process may take to send its request."""


@dataclass
class _Fork:
    """A step's process."""

    status: int
    """Pipe that is told how it ends."""
    imported: int
    """File in memory with what it has imported of MODULES."""
    dies_at: float | None = None
    """When it is killed: nobody waits for it any more."""


class _Forks:
    """The steps that run, and the modules that steps have asked for.

    :param control: socket that brings messages, or, if the server is shared, connections that do.
    :param owner: process whose end is the end of a server that is shared; None: it is not.
    """

    def __init__(self, control: socket.socket, owner: int | None = None) -> None:
        self._control = control
        self._shared = owner is not None
        self._steps: dict[int, _Fork] = {}
        self._wanted = {"modelmill.pipeline.runner"}
        self._ends_at = time.monotonic() + _IDLE_SECONDS
        """When a server that is shared ends, if it has no step."""
        self._poll = select.poll()
        self._ended, wakeup = os.pipe()
        os.set_blocking(self._ended, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        self._owner = -1 if owner is None else os.pidfd_open(owner)
        for number in (control.fileno(), self._ended, self._owner):
            if number >= 0:
                self._poll.register(number, select.POLLIN)
        _is_outdated()  # notes how the files are now

    def serve(self) -> None:
        """Fork steps until nobody can ask any more."""
        while True:
            ready = {number for number, _ in self._poll.poll(1000)}
            if self._ended in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._ended, 4096)
                self._reap()
            self._stop_unwanted(ready)
            if self._owner in ready:  # steps that run belong to tasks, which other workers may have
                self._poll.unregister(self._owner)
                self._retire()
            elif self._control.fileno() in ready:
                message, files = self._message()
                if message:
                    self._fork(*files)
                elif not self._shared:
                    return
            elif self._shared and not self._steps and time.monotonic() > self._ends_at:
                return

    def _message(self) -> tuple[bytes, list[int]]:
        if not self._shared:
            message, files, _flags, _address = socket.recv_fds(self._control, 64, 3)
            return message, files
        files = list[int]()
        try:
            connection, _ = self._control.accept()
            with connection:
                connection.settimeout(_ASK_SECONDS)
                if is_own(connection):
                    message, files, _flags, _address = socket.recv_fds(connection, 64, 3)
        except OSError:
            return b"", []
        if _is_outdated():
            self._retire()
        elif len(files) == 3:
            return message, files
        for number in files:
            os.close(number)  # who has asked sees that nobody answers
        return b"", []

    def _retire(self) -> None:
        """Take no more steps: the next one who asks starts another server."""
        if self._shared and self._control.fileno() >= 0:
            self._poll.unregister(self._control)
            self._control.close()
            self._ends_at = 0.0

    def _fork(self, printed: int, status: int, letter: int) -> None:
        server, imported = os.getpid(), -1
        try:
            if _is_closed(status):
                raise BrokenPipeError  # whoever asked has not waited so long
            self._import()
            imported = os.memfd_create("imported")
            gc.freeze()  # a fork's collection would copy every page
            pid = os.fork()
        except Exception:  # the steps that run are not to end with this one
            for number in (printed, status, letter, imported):
                if number >= 0:
                    os.close(number)
            if imported >= 0:
                self._retire()
            return
        if pid == 0:
            self._control.close()
            # A pipe that another process holds open has no end.
            others = (number for step in self._steps.values() for number in (step.status, step.imported))
            for number in (status, *others):
                os.close(number)
            _run_in_fork(letter, printed, imported, server)
        with contextlib.suppress(OSError):  # the fork may have done so, or be gone
            os.setpgid(pid, pid)
        os.close(printed)
        os.close(letter)
        self._steps[pid] = _Fork(status, imported)
        with contextlib.suppress(BrokenPipeError):
            os.write(status, b"%d\n" % pid)
        self._poll.register(status, 0)  # says when its other end is closed

    def _stop_unwanted(self, ready: set[int]) -> None:
        """Stop the steps whose asker has gone, as when an Airflow task is killed."""
        for pid, step in self._steps.items():
            if step.status in ready:
                self._poll.unregister(step.status)
                step.dies_at = time.monotonic() + GRACE_SECONDS
                os.kill(pid, signal.SIGTERM)
            elif step.dies_at is not None and time.monotonic() > step.dies_at:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._steps):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(
                    pid, signal.SIGKILL
                )  # children may outlive it; its id is its own until it is reaped
            _, code = os.waitpid(pid, 0)
            step = self._steps.pop(pid)
            with os.fdopen(step.imported, "rb") as names:
                names.seek(0)
                self._wanted |= set(names.read().decode().split())
            if step.dies_at is None:
                self._poll.unregister(step.status)
            with os.fdopen(step.status, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
                pipe.write(b"%d\n" % os.waitstatus_to_exitcode(code))
        if self._control.fileno() >= 0:
            self._ends_at = time.monotonic() + _IDLE_SECONDS

    def _import(self) -> None:
        with without_collections():
            for name in MODULES:
                if name in self._wanted and name not in sys.modules:
                    importlib.import_module(name)
                    _is_outdated()


def _is_closed(pipe: int) -> bool:
    """Return whether nobody reads a pipe any more."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def _is_outdated() -> bool:
    """Return whether a package was installed, or a file of modelmill's changed, since they were looked at."""
    own = [module for name, module in [*sys.modules.items()] if name.partition(".")[0] == "modelmill"]
    files = [file for module in own if (file := getattr(module, "__file__", None))]
    for file in (*files, sysconfig.get_path("purelib")):
        try:
            changed = Path(file).stat().st_mtime_ns
        except OSError:
            return True
        if _CHANGED.setdefault(file, changed) != changed:
            return True
    return False


_CHANGED: dict[str, int] = {}
"""Modification time of each file when it was looked at first: once it had been imported."""


def _run_in_fork(letter: int, printed: int, imported: int, server: int) -> Never:
    """Run a step in the process that was forked for it, as ``modelmill step`` does in one of its own."""
    status = EXIT_FAILED
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(server)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        with os.fdopen(letter, "rb") as file:
            file.seek(0)  # read here, so that the server, and with it other steps, sees no secret
            asked = json.load(file)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"], PYTHONUNBUFFERED="1")
        try:
            status = run_request(Path(asked["request"]), Path(asked["result"]))
        except Exception as error:
            status = told(error)
        os.write(imported, " ".join(sys.modules.keys() & set(MODULES)).encode())
    except BaseException:
        traceback.print_exc()
    exit_now(status)


def main(kind: str, *arguments: str) -> None:
    """Serve, as the module says."""
    # NumPy's threads, which Python 3.12 warns of, are made anew in a fork by OpenBLAS.
    warnings.filterwarnings(
        "ignore", message="This process .* is multi-threaded", category=DeprecationWarning
    )
    if kind == "serve":
        _Forks(socket.socket(fileno=int(arguments[0]))).serve()
        return
    for number in [int(file.name) for file in Path("/proc/self/fd").iterdir()]:
        if number > 2:
            with contextlib.suppress(OSError):
                os.close(number)  # a pipe that this process holds open has no end
    name, owner = arguments
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        try:
            control.bind(address(name))
            control.listen()
            forks = _Forks(control, int(owner))
        except OSError:  # another one was faster, or the worker has gone
            return
        forks.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
