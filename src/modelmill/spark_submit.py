"""Jobs as applications of their own, by ``spark-submit``: no Connect server.

The driver is a process on this machine, in this interpreter; what it is asked and what it returns are files
that only this user may read, so that a request may be long and no other user sees it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

from modelmill import errors
from modelmill.errors import EXIT_REFUSED, ConfigError, InputError, ModelmillError, TransientError
from modelmill.redaction import redacted, secret_values
from modelmill.system.scratch import scratch_folder

_MASTER = re.compile(r"(spark|k8s)://.|yarn$|local(\[|$)")
_OF_SESSIONS = ("MODELMILL_SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED", "SPARK_LOCAL_REMOTE", "SPARK_REMOTE")
"""Variables that say which session to open; pyspark itself sets some in a process that has had one."""
_LINES_KEPT = 200
_SAID = re.compile(r"(?:Error|Exception)\b[^:]*: .")
"""A line of Spark's log that says why it ended."""


def is_master(remote: str | None) -> bool:
    """Return whether an engine's URL is that of a master, to which ``spark-submit`` brings applications."""
    return remote is not None and _MASTER.match(remote) is not None


def submit(master: str, *, job: str, request_type: str, request: str) -> str:
    """Run a job as an application of its own.

    :param master: such as ``spark://HOST:7077`` or ``yarn``.
    :param job: name of the job.
    :param request_type: class of the request, as ``module:name``.
    :param request: the request, as JSON.
    :return: what the job returns, as JSON.
    :raises ConfigError: if there is no ``spark-submit`` on this machine.
    :raises InputError: if the job refuses its input.
    :raises TransientError: if it fails in another way.
    """
    program = _program(master)
    with scratch_folder("modelmill-submit-") as folder:
        asked, answer, script = (folder / name for name in ("request.json", "result.json", "job.py"))
        asked.write_text(json.dumps({"job": job, "request_type": request_type, "request": request}))
        # The application is a file, whose folder Python looks modules up in first: it has this folder alone.
        script.write_text("from modelmill.jobs import run_submitted\n\nrun_submitted()\n")
        command = [program, "--master", master, "--deploy-mode", "client", "--name", f"modelmill {job}"]
        status, log = _run([*command, str(script), str(asked), str(answer)])
        found = json.loads(answer.read_text()) if answer.exists() else {}
    if status == 0 and "result" in found:
        return str(found["result"])
    raise _failure(job, status, found, log)


def write_error(answer: Path, error: ModelmillError) -> None:
    """Hand an error to the process that has submitted the job."""
    answer.write_text(json.dumps({"kind": type(error).__name__, "message": str(error)}))


def _program(master: str) -> str:
    home = os.environ.get("SPARK_HOME")
    program = shutil.which(f"{home}/bin/spark-submit" if home else "spark-submit")
    if program is None:
        raise ConfigError(
            f"jobs for {master} are started by spark-submit, which must be on this machine",
            got=f"SPARK_HOME={home or ''}",
            remedy="install the cluster's Spark here and set SPARK_HOME, or name a Connect server (sc://)",
        )
    return program


def _run(command: list[str]) -> tuple[int, deque[str]]:
    """Run a program, pass on what it prints, and return its status and its last lines."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_SESSIONS}
    # The driver's interpreter is this one; that of workers is the cluster's business.
    environment["PYSPARK_DRIVER_PYTHON"] = sys.executable
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    secrets, lines = secret_values(environment), deque[str](maxlen=_LINES_KEPT)
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                shown = redacted(line.rstrip(), secrets=secrets)
                lines.append(shown)
                sys.stderr.write(shown + "\n")
        except BaseException:
            process.terminate()
            raise
    return process.returncode, lines


def _failure(job: str, status: int, found: dict[str, str], log: deque[str]) -> ModelmillError:
    if "message" in found:
        kind = getattr(errors, found["kind"], InputError if status == EXIT_REFUSED else TransientError)
        error: ModelmillError = kind.__new__(kind)
        ModelmillError.__init__(error, found["message"])
        return error
    said = next((line for line in log if _SAID.search(line)), log[-1] if log else "nothing")
    return TransientError(
        f"the Spark application of the job {job!r} must run to its end ({said[:300]})",
        got=f"exit status {status}",
        remedy="see the log above, and what the master says of its workers",
    )
