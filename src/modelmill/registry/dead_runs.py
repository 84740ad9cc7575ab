"""Runs that died: MLflow never ends the run of a process that was killed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.registry.finished_runs import TAG_STEP_KEY
from modelmill.registry.tracking import ATTEMPTS, TAG_ERROR, TAG_OPENED_BY
from modelmill.system.locks import locked_if_free

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIED = "its process died"
"""Error of a run that was marked afterwards: nobody knows when it died, or what it took."""


def mark_dead_runs(client: MlflowClient, experiment: str, steps: Path) -> list[str]:
    """Mark the runs of steps that died as KILLED.

    Only runs that an attempt from the same work directory has opened last are looked at, by the lock that a
    step holds while it lives: another machine's may live, whatever was tried here before.

    :param client: MLflow's client.
    :param experiment: experiment id.
    :param steps: folder with a folder for each step key, in which the step's lock lies.
    :return: ids of the runs.
    """
    marked = []
    for run in client.search_runs(
        [experiment], filter_string="attributes.status = 'RUNNING'", max_results=200
    ):
        key = str(run.data.tags.get(TAG_STEP_KEY, ""))
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            continue
        opened_by = run.data.tags.get(TAG_OPENED_BY)
        with locked_if_free(steps / key / "lock") as free:
            # The step may have ended after it was found: its run is no longer running, or discarded.
            if free and opened_by in _attempts(steps / key) and _is_running(client, run.info.run_id):
                client.set_tag(run.info.run_id, TAG_ERROR, DIED)
                client.set_terminated(run.info.run_id, status="KILLED")
                marked.append(str(run.info.run_id))
    return marked


def _attempts(folder: Path) -> list[str]:
    try:
        return (folder / ATTEMPTS).read_text().split()
    except FileNotFoundError:
        return []


def _is_running(client: MlflowClient, run_id: str) -> bool:
    info = client.get_run(run_id).info
    return bool(info.status == "RUNNING" and info.lifecycle_stage == "active")
