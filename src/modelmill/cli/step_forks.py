"""The process that forks steps: ``python -m modelmill.cli.step_forks SOCKET``.

See :mod:`modelmill.pipeline.forked_steps`. A message names a request and its result, and brings two pipes:
one for what the step prints, one that is told its process's id and its exit status.

What a step has imported is imported here before the next one is forked, if the package is known to start no
thread and to open nothing when it is imported: a fork has none of its parent's threads.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

from modelmill.cli.main import told
from modelmill.cli.step_run import die_with_parent, exit_now, run_request
from modelmill.errors import EXIT_FAILED
from modelmill.system.imports import without_collections

MODULES = (
    *("modelmill.pipeline.runner", "pandas", "mlflow", "mlflow.tracking", "sqlalchemy", "matplotlib.pyplot"),
    *("scipy.sparse", "scipy.stats"),
    *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.svm"),
    "modelmill.models",  # keeps torchao, which transformers imports, from warning
    *("torch", "torch._dynamo", "torch.export", "torch.onnx", "transformers", "transformers.modeling_utils"),
)
"""What takes long to import, and starts no thread that a fork would miss, in the order of imports."""
_LARGEST_MESSAGE = 1 << 16


@dataclass
class _Forks:
    """The steps that run, and the modules that steps have asked for."""

    control: socket.socket
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of each process the pipe for its status, and a file in memory with what it imported of MODULES."""
    wanted: set[str] = field(default_factory=lambda: {"modelmill.pipeline.runner"})

    def serve(self) -> None:
        """Fork steps until the other end of the socket is closed."""
        ended, wakeup = os.pipe()
        os.set_blocking(ended, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.control, selectors.EVENT_READ)
            waiting.register(ended, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in waiting.select()}
                if ended in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(ended, 4096)
                    self._reap()
                if self.control in ready:
                    message, pipes, _flags, _address = socket.recv_fds(self.control, _LARGEST_MESSAGE, 2)
                    if not message:
                        return
                    self._fork(json.loads(message), *pipes)

    def _fork(self, asked: Mapping[str, str], printed: int, status: int) -> None:
        self._import()
        imported = os.memfd_create("imported")
        gc.freeze()  # a fork's collection would copy every page
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            self.control.close()
            # A pipe that another process holds open has no end.
            for number in (status, *(pipe for step in self.steps.values() for pipe in step)):
                os.close(number)
            _run_in_fork(asked, printed, imported, server)
        with contextlib.suppress(OSError):  # the fork may have done so, or be gone
            os.setpgid(pid, pid)
        os.close(printed)
        self.steps[pid] = status, imported
        with contextlib.suppress(BrokenPipeError):
            os.write(status, b"%d\n" % pid)

    def _reap(self) -> None:
        for pid in list(self.steps):
            found, code = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            status, imported = self.steps.pop(pid)
            with os.fdopen(imported, "rb") as names:
                names.seek(0)
                self.wanted |= set(names.read().decode().split())
            with os.fdopen(status, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
                pipe.write(b"%d\n" % os.waitstatus_to_exitcode(code))

    def _import(self) -> None:
        with without_collections():
            for name in MODULES:
                if name in self.wanted and name not in sys.modules:
                    importlib.import_module(name)


def _run_in_fork(asked: Mapping[str, str], printed: int, imported: int, server: int) -> Never:
    """Run a step in the process that was forked for it, as ``modelmill step`` does in one of its own."""
    status = EXIT_FAILED
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent(server)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        try:
            status = run_request(Path(asked["request"]), Path(asked["result"]))
        except Exception as error:
            status = told(error)
        os.write(imported, " ".join(sys.modules.keys() & set(MODULES)).encode())
    except BaseException:
        traceback.print_exc()
    exit_now(status)


if __name__ == "__main__":
    # NumPy's threads, which Python 3.12 warns of, are made anew in a fork by OpenBLAS.
    warnings.filterwarnings(
        "ignore", message="This process .* is multi-threaded", category=DeprecationWarning
    )
    _Forks(socket.socket(fileno=int(sys.argv[1]))).serve()
