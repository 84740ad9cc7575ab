"""A process that answers which steps have a result already: see :func:`modelmill.pipeline.reuse.reusable`.

Who asks for hundreds of steps lives long and has other work, such as Airflow's triggerer. Nothing of a
question may hold it up: not a tracking server that does not answer, not a file system that hangs, not what a
component looks at. So the answers come from a process of its own, which a deadline ends, and which has of the
environment only what a question needs: no credentials of the orchestrator.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from modelmill.errors import TransientError
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.reuse import ReuseAnswer
from modelmill.system.pipes import read_line, write_all

_KEPT = frozenset(
    {
        *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
_KEPT_PREFIXES = ("MODELMILL_", "MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "HF_", "TRANSFORMERS_")
"""Variables of the deployment: where things lie, and how the tracking server and the stores are reached."""
_LEAST_SECONDS = 1.0
_LEFT_OUT = ("MODELMILL_LLM_", "MODELMILL_SIGNING_KEY", "HF_TOKEN")
"""Beginnings of those among them that no question needs."""


class ReuseProcess:
    """Answers in a process of its own, which lives from question to question; for several threads.

    It is started with the first question, and again after its end, or after a change of the environment.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] = {}
        self._asking = threading.Lock()

    def answers(self, requests: Sequence[StepRequest], *, seconds: float) -> list[ReuseAnswer]:
        """Return the results that may be reused.

        :param requests: see :func:`~modelmill.pipeline.reuse.reusable`.
        :param seconds: how long the answers may take, the process's start included. After that it is ended.
        :return: an answer for each request.
        :raises TransientError: if they take longer, or the process does not live long enough.
        """
        deadline = time.monotonic() + seconds
        question = json.dumps([request.model_dump(mode="json") for request in requests]).encode() + b"\n"
        if not self._asking.acquire(timeout=seconds):
            raise _late(seconds)
        try:
            # Where others had it nearly all the time, it is not to end for that.
            if deadline - time.monotonic() < min(_LEAST_SECONDS, seconds / 2):
                raise _late(seconds)
            return self._asked(question, deadline)
        except TimeoutError as error:
            self._end()
            raise _late(seconds) from error
        except (OSError, ValueError, KeyError) as error:
            self._end()
            raise TransientError(
                f"the process that looks for results must answer ({type(error).__name__}: {error})",
                remedy=f"try {sys.executable} -m modelmill.pipeline.reuse_child",
            ) from error
        finally:
            self._asking.release()

    def close(self) -> None:
        """End the process, if there is one."""
        with self._asking:
            self._end()

    @property
    def pid(self) -> int | None:
        """Its id; None if there is none."""
        return self._process.pid if self._process else None

    def _asked(self, question: bytes, deadline: float) -> list[ReuseAnswer]:
        lives = self._process is not None
        try:
            answer = self._exchanged(question, deadline)
        except ConnectionError:
            if not lives:
                raise
            self._end()  # it ended while nobody asked: a new one answers
            answer = self._exchanged(question, deadline)
        found = json.loads(answer)
        return [
            ReuseAnswer(
                None if one["result"] is None else StepResult.model_validate(one["result"]),
                tuple(one["lines"]),
            )
            for one in found
        ]

    def _exchanged(self, question: bytes, deadline: float) -> bytes:
        process = self._started()
        write_all(process.stdin, question, deadline)
        return read_line(process.stdout, deadline)

    def _started(self) -> subprocess.Popen[bytes]:
        environment = question_environment(os.environ)
        if self._process is not None and (
            self._process.poll() is not None or environment != self._environment
        ):
            self._end()
        if self._process is None:
            self._environment = environment
            self._process = subprocess.Popen(
                [sys.executable, "-m", "modelmill.pipeline.reuse_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                bufsize=0,
            )
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    os.set_blocking(stream.fileno(), False)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def question_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the process gets.

    :param environment: the variables of who asks.
    :return: those of the deployment, and of the machine; nothing of the orchestrator. Nothing is downloaded:
        where steps may download base models, the local copies do not tell which one is the newest, so that
        those steps are for a worker to judge.
    """
    found = {
        name: value
        for name, value in environment.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES)) and not name.startswith(_LEFT_OUT)
    }
    if found.get("HF_HUB_OFFLINE") == "0":
        found["HF_HUB_CACHE"] = os.devnull
    found["HF_HUB_OFFLINE"] = "1"
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return found


def _late(seconds: float) -> TransientError:
    return TransientError(
        "it must be known in time which steps have results",
        got=f"no answer within {seconds:g} s",
        remedy="look whether MLflow and the tables can be reached; meanwhile each step asks for itself",
    )
