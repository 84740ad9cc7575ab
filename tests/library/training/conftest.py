"""A step in a process of its own, which can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelmill.component import StepContext

_STEP = """
import sys
from pathlib import Path

sys.path[:0] = {paths}
import torch

torch.set_num_threads(1)
from modelmill.component import StepContext
from modelmill.registry.tracking import open_run, tracking_client
from modelmill.settings import Settings

settings = Settings.from_environment()
run = open_run(tracking_client(settings.tracking_uri), {experiment!r}, "0" * 64, name="step", tags={{}})
context = StepContext(
    pipeline="tests", step="step", step_key="0" * 64, run=run,
    workdir=Path({workdir!r}), cache=Path({workdir!r}),
    settings=settings, progress=lambda done, total, **figures: print("step", int(done), flush=True),
)
{code}
"""


@pytest.fixture
def step_process(step_context: StepContext) -> Callable[[Path, str], subprocess.Popen[str]]:
    """Return a function that starts ``code`` with a ``context`` in a work directory.

    The code may import the tests of this folder. It prints ``step N`` for each step of a training.
    """
    here = Path(__file__).parent

    def start(workdir: Path, code: str) -> subprocess.Popen[str]:
        script = _STEP.format(
            paths=[str(here), str(here.parents[1])],
            experiment=step_context.run.experiment_id,
            workdir=str(workdir),
            code=code,
        )
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)

    return start
