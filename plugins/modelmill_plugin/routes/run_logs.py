"""Logs of steps in a run."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.versions import NotFoundError
from modelmill_plugin import runs
from modelmill_plugin.airflow_api import AirflowApi
from modelmill_plugin.errors import error_responses
from modelmill_plugin.routes.runs import RunId
from modelmill_plugin.security import SEE_LOGS, SEE_RUNS
from modelmill_plugin.views import DagId

router = APIRouter(tags=["runs"])

_GROUP_MARK = re.compile(r"::(group|endgroup)::")
"""Airflow's own page folds lines by these; here they say nothing."""

_PROGRESS = re.compile(
    r" *(?P<share>\d{1,3})% \((?P<done>[\d,]+) of (?P<total>[\d,]+)(?: (?P<what>[a-z' ]+))?\)"
    r"(?:, (?P<figures>\w+ \S+(?:, \w+ \S+)*))??, (?P<left>\d+:\d\d) left"
)
"""A line of :class:`modelmill.pipeline.progress.ProgressPrinter`, without the step."""

_STEPS_LOGGER = "airflow.task.operators."
"""Begins the names of the loggers that write what a step's process prints."""
_MOST_SAID = 500
"""Letters of a line that a node and its panel show."""

Step = Annotated[str, Path(pattern=NAME_PATTERN)]


class LogLine(BaseModel):
    """A line of a task's log."""

    time: str | None
    level: str | None
    text: str


class LogProgress(BaseModel):
    """How far a step is, by its own log."""

    share: float = Field(ge=0, le=1)
    done: int
    total: int
    what: str = Field(description="What is counted, such as training steps.")
    figures: dict[str, float] = Field(description="By name, such as loss.")
    seconds_left: int


class LogTail(BaseModel):
    """The end of a task's log."""

    lines: list[LogLine]
    cut: bool = Field(description="Whether there are earlier lines.")
    progress: LogProgress | None = Field(description="From the last line with progress; null: there is none.")
    said: str = Field(description="What the step has said last; empty: nothing since its last progress.")


@router.get(
    "/pipelines/{dag_id}/runs/{run_id}/steps/{step}/log",
    dependencies=[SEE_RUNS, SEE_LOGS],
    responses=error_responses(404),
)
async def read_log(
    *,
    dag_id: DagId,
    run_id: RunId,
    step: Step,
    request: Request,
    session: SessionDep,
    try_number: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    lines: Annotated[int, Query(ge=1, le=5000)] = 200,
) -> LogTail:
    """Return the end of a step's log, and how far it says that it is."""
    number = try_number
    if number is None:
        number = await run_in_threadpool(_try_number, dag_id, run_id, step, session)
    answer = await AirflowApi(request).call(
        "GET", "dags", dag_id, "dagRuns", run_id, "taskInstances", step, "logs", str(number)
    )
    content = [line for line in map(_line, answer["content"]) if not _GROUP_MARK.match(line.text)]
    said = _said(step, answer["content"])
    return LogTail(
        lines=content[-lines:], cut=len(content) > lines, progress=_progress(step, content), said=said
    )


def _try_number(dag_id: str, run_id: str, step: str, session: SessionDep) -> int:
    run = runs.run_named(dag_id, run_id, session)
    for item in runs.step_instances(run, session):
        if item.task_id == step:
            return item.try_number
    raise NotFoundError("the run must have such a step", got=step)


def _line(item: Any) -> LogLine:
    if not isinstance(item, dict):
        return LogLine(time=None, level=None, text=str(item))
    text = str(item.get("event", ""))
    for detail in item.get("error_detail") or []:
        text += f"\n{detail.get('exc_type', '')}: {detail.get('exc_value', '')}"
    return LogLine(time=item.get("timestamp"), level=item.get("level"), text=text)


def _progress(step: str, lines: list[LogLine]) -> LogProgress | None:
    """Find the last line that a step's progress printer has written."""
    begin = f"{step}: "
    for line in reversed(lines):
        found = _PROGRESS.match(line.text.removeprefix(begin)) if line.text.startswith(begin) else None
        if found:
            figures = dict(one.rsplit(" ", 1) for one in (found["figures"] or "").split(", ") if one)
            return LogProgress(
                share=min(int(found["share"]) / 100, 1.0),
                done=int(found["done"].replace(",", "")),
                total=int(found["total"].replace(",", "")),
                what=found["what"] or "",
                figures={
                    name: float(value) for name, value in figures.items() if math.isfinite(float(value))
                },
                seconds_left=_seconds(found["left"]),
            )
    return None


def _said(step: str, items: list[Any]) -> str:
    """Find the last line of the step's own, among those of Airflow, unless progress came after it."""
    begin = f"{step}: "
    for item in reversed(items):
        if isinstance(item, dict) and str(item.get("logger", "")).startswith(_STEPS_LOGGER):
            text = str(item.get("event", ""))
            is_progress = text.startswith(begin) and _PROGRESS.match(text.removeprefix(begin))
            return "" if is_progress else text.removeprefix(begin)[:_MOST_SAID]
    return ""


def _seconds(clock: str) -> int:
    minutes, seconds = clock.split(":")
    return 60 * int(minutes) + int(seconds)
