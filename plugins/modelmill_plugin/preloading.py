"""A listener of Airflow's: the scheduler imports what reads pipelines, so that its workers have it.

LocalExecutor forks its workers from the scheduler, and a process for each task from these. Each would import
the loader and the operators by itself: 0.1 CPU seconds, two thirds of what such a process takes before its
step begins.
"""

from __future__ import annotations

import importlib
import sys

from airflow.listeners import hookimpl

SCHEDULER = "airflow.jobs.scheduler_job_runner"
"""A process that has imported it when its job begins is a scheduler: its job has no type yet."""
LOADER = "modelmill_operators.loader"


@hookimpl
def on_starting(component: object) -> None:
    """Import the loader, if a scheduler begins; workers are forked later.

    :param component: Airflow's job, or what stands for a task's process.
    """
    del component
    if SCHEDULER in sys.modules:
        importlib.import_module(LOADER)
