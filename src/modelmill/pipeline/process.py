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
import tempfile
from collections.abc import Callable
from pathlib import Path

from modelmill.errors import EXIT_REFUSED, InputError, ModelmillError, TransientError
from modelmill.pipeline.request import StepRequest, StepResult

GRACE_SECONDS = 20.0
"""Time between SIGTERM and SIGKILL: enough to mark a run, and less than Airflow's 60 s."""


class StepProcess:
    """One step in its own process group.

    :param request: what to run.
    :param python: the interpreter, with modelmill installed.
    """

    def __init__(self, request: StepRequest, *, python: str) -> None:
        self.request = request
        self.python = python
        self._process: subprocess.Popen[str] | None = None

    def run(self, on_line: Callable[[str], None]) -> StepResult:
        """Run the step to its end.

        :param on_line: gets each line that the step prints, as it is printed.
        :return: what the step yields.
        :raises InputError: if the step refuses its input: a retry cannot help.
        :raises TransientError: if it fails in another way.
        """
        with tempfile.TemporaryDirectory(prefix="modelmill-") as folder:
            request_path, result_path = Path(folder) / "request.json", Path(folder) / "result.json"
            request_path.write_text(self.request.model_dump_json())
            last = self._stream(request_path, result_path, on_line)
            status = self._process.returncode if self._process else 1
            if status == 0 and result_path.exists():
                return StepResult.model_validate_json(result_path.read_text())
            raise _failure(self.request.step, status, result_path, last)

    def _stream(self, request_path: Path, result_path: Path, on_line: Callable[[str], None]) -> str:
        command = [self.python, "-m", "modelmill", "step", str(request_path), "--result", str(result_path)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MODELMILL_PARENT": str(os.getpid())}
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
        last = ""
        try:
            for line in self._process.stdout or ():
                last = line.rstrip() or last
                on_line(line.rstrip())
            self._process.wait()
        finally:
            self.stop()
            if self._process.stdout:
                self._process.stdout.close()
        return last

    def stop(self) -> None:
        """End the whole process group: SIGTERM, after :data:`GRACE_SECONDS` SIGKILL. Safe to call twice."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_SECONDS)
            # Children may outlive the leader: the group ends as a whole.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class StepRefusedError(InputError):
    """A step's own refusal, as the step worded it."""

    def __init__(self, message: str) -> None:
        ModelmillError.__init__(self, message)


def _failure(step: str, status: int, result_path: Path, last: str) -> ModelmillError:
    message = last
    with contextlib.suppress(OSError, ValueError, KeyError):
        message = json.loads(result_path.read_text())["error"]
    if status == EXIT_REFUSED:
        return StepRefusedError(message)
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return TransientError(f"step {step!r} ended with {how}: {message}", remedy="its log says more")
