"""A limited process that works on videos, and is started again after its death."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from modelmill.errors import ConfigError, TransientError
from modelmill.system.pipes import read_exactly, write_all
from modelmill.videos.limits import VideoLimits
from modelmill.videos.messages import LARGEST, LENGTH, Message, packed, unpacked
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.tasks import TASKS

_START_SECONDS = 120.0
_VIDEOS_EACH = 200
"""Videos after which a process is replaced: what libav leaks goes with it."""
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
"""Variables that the process gets; credentials are not among them."""


class LimitedProcess:
    """Works on videos in a process of its own; use it in a ``with`` block.

    :param limits: limits for each video.
    :param tasks: names of the tasks that it has to do; none: all that need PyAV alone.
    """

    def __init__(self, limits: VideoLimits, *, tasks: Sequence[str] = ()) -> None:
        self._limits = limits
        self._tasks = tuple(tasks)
        self._process: subprocess.Popen[bytes] | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def work(self, task: str, source: Mapping[str, Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Work on a video.

        :param task: name of a task: see :data:`modelmill.videos.tasks.TASKS`.
        :param source: see :func:`modelmill.videos.sources.open_source`.
        :param options: the task's options, JSON.
        :return: its rows.
        :raises RefusedVideoError: if the video is refused, or the process did not survive it.
        :raises TransientError: if no process can be started.
        """
        if self._done >= _VIDEOS_EACH:
            self.close()
        process = self._process or self._started()
        self._done += 1
        request = {
            "task": task,
            "source": dict(source),
            "options": dict(options),
            "limits": self._limits.model_dump(mode="json"),
        }
        deadline = time.monotonic() + self._limits.deadline_seconds
        try:
            write_all(process.stdin, packed(request), deadline)
            answer = _received(process, deadline)
        except TimeoutError as error:
            self.close()
            raise RefusedVideoError("deadline", f"{self._limits.deadline_seconds:g} s") from error
        except (OSError, ValueError) as error:
            raise self._death(process, error) from error
        if "reason" in answer:
            raise RefusedVideoError(str(answer["reason"]), str(answer["detail"]))
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    def _extras(self) -> str:
        return ",".join(sorted({"video", *(TASKS[name].extra for name in self._tasks)}))

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process, self._done = self._process, None, 0
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | threads
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # whoever looks for them reads every package
        process = subprocess.Popen(
            [sys.executable, "-m", "modelmill.videos.child", *self._tasks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self._process, self._done = process, 0
        try:
            if process.stdin is not None:
                os.set_blocking(process.stdin.fileno(), False)
            ready = _received(process, time.monotonic() + _START_SECONDS)
        except (TimeoutError, OSError, ValueError) as error:
            self.close()
            raise TransientError(
                f"a process that decodes videos must start ({error})",
                remedy=f"try {sys.executable} -m modelmill.videos.child",
            ) from error
        if "failed" in ready:
            self.close()
            raise ConfigError(
                f"the process that decodes videos lacks a part ({ready['failed']})",
                remedy=f"pip install 'modelmill[{self._extras()}]' where Spark's workers run",
            )
        return process

    def _death(self, process: subprocess.Popen[bytes], error: Exception) -> RefusedVideoError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        status = process.returncode
        self.close()
        if status == -signal.SIGXCPU:
            return RefusedVideoError("cpu_limit", f"{self._limits.cpu_seconds} s")
        if status == -signal.SIGABRT:  # what libraries do where memory is refused
            return RefusedVideoError("memory_limit", f"{self._limits.memory_mb} MB; the process aborted")
        name = signal.Signals(-status).name if status and status < 0 else f"status {status}"
        return RefusedVideoError("crashed", f"{name}; {error}"[:200])


def _received(process: subprocess.Popen[bytes], deadline: float) -> Message:
    (size,) = LENGTH.unpack(read_exactly(process.stdout, LENGTH.size, deadline))
    if size > LARGEST:
        raise ValueError(f"an answer of {size:,} bytes")
    return unpacked(read_exactly(process.stdout, size, deadline))
