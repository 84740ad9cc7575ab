"""Running one step as a process that is only there for it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Never

from modelmill.errors import ModelmillError, WaitingError


def run_request(request: Path, result: Path) -> int:
    """Run a step, and write down what it yields, or an error of modelmill's own.

    :param request: JSON file with the request.
    :param result: JSON file that gets the result.
    :return: exit status: 0, or that of an error of modelmill's own.
    """
    from modelmill.pipeline.request import StepRequest
    from modelmill.pipeline.runner import StepInterrupted, run_step
    from modelmill.settings import Settings
    from modelmill.system.usage import UsageMeter

    try:
        asked = StepRequest.model_validate_json(request.read_text())
        outcome = run_step(asked, Settings.from_environment(), meter=UsageMeter.of_process())
    except BaseException as error:
        if isinstance(error, ModelmillError):
            waiting = {"waiting": error.told()} if isinstance(error, WaitingError) else {}
            result.write_text(json.dumps({"error": str(error), **waiting}))
        _end_children(signal.SIGKILL if isinstance(error, StepInterrupted) else signal.SIGTERM)
        if isinstance(error, ModelmillError):  # whoever reads the result says it, once, with the step's name
            return error.exit_status
        raise
    result.write_text(outcome.model_dump_json())
    return 0


def exit_now(status: int) -> Never:
    """End the process when everything is written.

    Native libraries' threads may abort an interpreter that takes itself apart, and a step that is done must
    not look like one that died.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the process that started the step dies, however it dies (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we could ask
        os.kill(os.getpid(), signal.SIGTERM)


def _end_children(blow: signal.Signals) -> None:
    """Send a signal to the step's process group: whoever would end it may be dying itself.

    A dying parent is still our parent for a while, so it is not asked whether it is there. SIGKILL ends this
    process too; of SIGTERM it takes no notice.
    """
    if os.getpgid(0) == os.getpid():  # else the group is not the step's own: somebody has started it by hand
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, blow)
