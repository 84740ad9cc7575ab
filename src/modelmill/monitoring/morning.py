"""What happened in a night: trained, promoted, refused, drifted, failed, and what it cost.

It is read from what is there anyway: the runs of the steps in MLflow, which say what each of them yielded,
and the ledger. A step whose result was reused leaves no run: it cost nothing, and nothing happened. Of a step
that never came as far as a run (its configuration is wrong, or its machine died before), only Airflow knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from modelmill.artifacts import AnyReference, ModelRef, ReportRef, SignalsRef, parse_reference
from modelmill.errors import ConfigError
from modelmill.options import Record
from modelmill.registry.dead_runs import DIED
from modelmill.registry.finished_runs import TAG_OUTPUTS
from modelmill.registry.ledger import Action, LedgerRow, entries
from modelmill.registry.mlflow_calls import mlflow_errors
from modelmill.registry.tracking import TAG_ERROR, TAG_OPENED_AT, run_url, tracking_client
from modelmill.registry.versions import all_pages
from modelmill.system.usage import CPU_SECONDS, MEMORY_MB, SECONDS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from modelmill.settings import Settings

FIGURES = (
    *("accuracy", "micro_f1", "macro_f1", "r2", "teacher_agreement"),
    *("heads_trained", "signals", "size_mb", "size_ratio"),
)
"""Metrics that say most of a model; of each, the one on validation rows counts, too."""
TAG_LOGICAL_DATE = "airflow.logical_date"
"""Tag of a run with the logical date of the pipeline's run, as the operators hand it on."""
TAG_MAP_INDEX = "airflow.map_index"
"""Tag of a run with the number of a mapped task's copy, likewise."""
_MOST_FIGURES = 3
_PAGE = 1000
_MOVES: Mapping[Action, str] = {
    "promote": "promoted",
    "rollback": "rolled back",
    "hand_move": "moved by hand",
    "revert": "moved back by the guard",
}
Outcome = Literal["failed", "killed", "refused", "running", "waiting"]


class ModelStep(Record):
    """A step that made a model, or several."""

    pipeline: str
    step: str
    component: str
    model: str
    """URI of the model; of the file that lists them where there are several."""
    figures: dict[str, float]
    """The metrics among :data:`FIGURES` that the step has logged, at most three."""
    minutes: float
    url: str
    """Page of the MLflow run; empty where the tracking store has none."""


class ChampionMove(Record):
    """A row of the ledger that moved a champion."""

    time: datetime
    model: str
    what: str
    """``promoted``, ``rolled back``, ``moved by hand`` or ``moved back by the guard``."""
    from_version: int | None
    to_version: int | None
    who: str
    reasons: tuple[str, ...]


class RefusedModel(Record):
    """A challenger that did not become champion."""

    time: datetime
    model: str
    champion: int | None
    """The version that stays; None if there is none."""
    reasons: tuple[str, ...]
    pipeline: str


class DriftAlarm(Record):
    """A report that raised alarms."""

    pipeline: str
    step: str
    alarms: tuple[str, ...]
    url: str


class FailedStep(Record):
    """A step that did not end well, and was not made good later that night; or that has not ended.

    The last word on a step is the run of the newest logical date, and of several for that date the one that
    ended last. A failure for an older date stands beside it if it ended after that: a backfill neither hides
    the night's own result nor is hidden by it. A run that has not ended says nothing yet, and is listed
    besides.
    """

    pipeline: str
    step: str
    how: Outcome
    """``refused``: its input is wrong, so that a retry cannot help; ``running``: it has not ended yet;
    ``waiting``: it has handed work to others, and goes on when that is done."""
    error: str
    """As the step worded it; empty if nobody could write it down."""
    next: str
    """What to do about it."""
    url: str
    logical_date: datetime | None = None
    """Of the pipeline's run; None if it was not Airflow's, or has none: its begin then stands for it."""


class PipelineCost(Record):
    """What a pipeline's steps took that really ran."""

    pipeline: str
    steps: int
    """Steps that ran; reused ones are none."""
    minutes: float
    """Time of all of them, one after the other; of one that has failed, of its last attempt. What a step took
    whose process died is not known, and is not in it."""
    cpu_minutes: float | None
    """None if no step has measured it."""
    most_memory_mb: float | None
    """Of the step that took most; None if no step has measured it."""


class Morning(Record):
    """A night."""

    since: datetime
    until: datetime
    trained: tuple[ModelStep, ...]
    promoted: tuple[ChampionMove, ...]
    refused: tuple[RefusedModel, ...]
    alarms: tuple[DriftAlarm, ...]
    failed: tuple[FailedStep, ...]
    costs: tuple[PipelineCost, ...]
    unknown: tuple[str, ...]
    """What could not be read, and why: an empty list above then means nothing."""

    @property
    def headline(self) -> str:
        """The night in one line."""
        running, waiting = (sum(one.how == how for one in self.failed) for how in ("running", "waiting"))
        counts = {
            "trained": len(self.trained),
            "promoted": sum(move.what == "promoted" for move in self.promoted),
            "refused": len(self.refused),
            "drift alarms": len(self.alarms),
            "failed": len(self.failed) - running - waiting,
            "still running": running,
            "waiting": waiting,
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        if said or self.unknown:
            return said or "unknown"
        ran = sum(cost.steps for cost in self.costs)
        return f"{ran} steps ran, and made no model" if ran else "nothing has changed"


def morning(settings: Settings, *, since: datetime, until: datetime | None = None) -> Morning:
    """Return what happened in a night.

    :param settings: where MLflow and the ledger are.
    :param since: its beginning, with a zone.
    :param until: its end, with a zone; None: now.
    :return: the night. What cannot be read is said in it, and does not hide the rest.
    :raises ConfigError: if a time has no zone, or the end is not after the beginning.
    """
    until = until or datetime.now(UTC)
    if since.tzinfo is None or until.tzinfo is None or until <= since:
        raise ConfigError(
            "a night has a beginning and a later end, both with a zone",
            got=f"{since.isoformat()} to {until.isoformat()}",
            remedy="write them as 2026-01-31T02:00+00:00",
        )
    unknown: list[str] = []
    runs: list[_NightRun] = []
    rows: list[LedgerRow] = []
    try:
        with mlflow_errors(settings.tracking_uri):
            runs = list(_runs(settings, since, until))
    except Exception as error:  # the ledger may tell its part all the same
        unknown.append(f"the runs in MLflow: {error}")
    try:
        rows = [row for row in entries(settings) if since <= row.time < until]
    except Exception as error:
        unknown.append(f"the ledger: {error}")
    return Morning(
        since=since,
        until=until,
        trained=tuple(one for run in runs for one in _trained(run)),
        promoted=tuple(_move(row) for row in rows if row.action != "refuse"),
        refused=tuple(_refusal(row) for row in rows if row.action == "refuse"),
        alarms=tuple(one for run in runs for one in _alarms(run)),
        failed=tuple(_failures(runs)),
        costs=tuple(_costs([run for run in runs if max(run.began, run.ended) >= since.timestamp() * 1000])),
        unknown=tuple(unknown),
    )


class _NightRun:
    """A run of a step, in the words of this module."""

    def __init__(self, run: Run, settings: Settings) -> None:
        tags, info = run.data.tags, run.info
        self.pipeline = str(tags.get("modelmill.pipeline", ""))
        copy = tags.get(TAG_MAP_INDEX)
        self.step = str(tags.get("modelmill.step", "")) + (f"[{copy}]" if copy else "")
        self.component = str(tags.get("modelmill.component", ""))
        self.run_id, self.status = str(info.run_id), str(info.status)
        self.deleted = info.lifecycle_stage == "deleted"
        self.error = str(tags.get(TAG_ERROR, ""))
        # A run that another attempt has opened again keeps the begin of the first one.
        self.began = max(int(info.start_time or 0), _milliseconds(tags.get(TAG_OPENED_AT, "")))
        self.ended = int(info.end_time or 0)
        self.logical_date = _date(tags.get(TAG_LOGICAL_DATE, ""))
        self.date = self.logical_date or datetime.fromtimestamp(self.began / 1000, UTC)
        self.metrics: dict[str, float] = dict(run.data.metrics)
        tracked = 0.0 if self.error == DIED else max(0, self.ended - self.began) / 1000
        self.seconds = self.metrics.get(SECONDS, tracked)  # with the start of the step's process
        self.url = run_url(settings.tracking_uri, str(info.experiment_id), self.run_id)
        outputs = json.loads(tags.get(TAG_OUTPUTS, "{}")) if self.status == "FINISHED" else {}
        self.outputs: list[AnyReference] = [parse_reference(value) for value in outputs.values()]


def _runs(settings: Settings, since: datetime, until: datetime) -> Iterator[_NightRun]:
    """Find the runs of steps that ended in the night, or have not ended since; the oldest first."""
    client = tracking_client(settings.tracking_uri)
    first, last = (int(moment.timestamp() * 1000) for moment in (since, until))
    ended = f"attributes.end_time >= {first} and attributes.end_time < {last}"
    # One that hangs for days has begun before the night, and so has one that was opened again.
    begun = f"attributes.status = 'RUNNING' and attributes.start_time < {last}"
    found = [*_search(client, ended), *_search(client, begun)]
    # A run that goes on after it has failed keeps the end of its first attempt until it ends again.
    once = {str(run.info.run_id): run for run in found}.values()
    for run in sorted(once, key=lambda run: int(run.info.start_time or 0)):
        # A run that is deleted and has no error is one of two that a lost reply has made.
        if "modelmill.step" in run.data.tags and (
            run.info.lifecycle_stage != "deleted" or TAG_ERROR in run.data.tags
        ):
            yield _NightRun(run, settings)


def _search(client: MlflowClient, condition: str) -> Iterator[Run]:
    from mlflow.entities import ViewType

    experiments = [str(one.experiment_id) for one in all_pages(client.search_experiments)]
    token: str | None = None
    while experiments:
        page = client.search_runs(
            experiments,
            filter_string=condition,
            run_view_type=ViewType.ALL,
            max_results=_PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _trained(run: _NightRun) -> Iterator[ModelStep]:
    for output in run.outputs:
        made = isinstance(output, ModelRef | SignalsRef) and output.run_id == run.run_id
        if made and run.metrics.get("heads_trained") != 0:
            yield ModelStep(
                pipeline=run.pipeline,
                step=run.step,
                component=run.component,
                model=str(output),
                figures=_figures(run.metrics),
                minutes=run.seconds / 60,
                url=run.url,
            )


def _figures(metrics: Mapping[str, float]) -> dict[str, float]:
    found = {
        name: value
        for wanted in FIGURES
        for name, value in sorted(metrics.items())
        if name in (wanted, f"validation_{wanted}")
    }
    return dict([*found.items()][:_MOST_FIGURES])


def _alarms(run: _NightRun) -> Iterator[DriftAlarm]:
    for output in run.outputs:
        if isinstance(output, ReportRef) and output.alarms:
            yield DriftAlarm(pipeline=run.pipeline, step=run.step, alarms=output.alarms, url=run.url)


def _move(row: LedgerRow) -> ChampionMove:
    return ChampionMove(
        time=row.time,
        model=row.model,
        what=_MOVES[row.action],
        from_version=row.from_version,
        to_version=row.to_version,
        who=row.who,
        reasons=row.reasons,
    )


def _refusal(row: LedgerRow) -> RefusedModel:
    return RefusedModel(
        time=row.time,
        model=row.model,
        champion=row.to_version,
        reasons=row.reasons,
        pipeline=row.pipeline,
    )


_NEXT: Mapping[Outcome, str] = {
    "refused": "a retry cannot help: do what the error says, then clear the task in Airflow",
    "failed": "look at the task's log; cleared in Airflow, it goes on where it was",
    "killed": "somebody ended it, its machine went away, or memory ran out: clear it, or give it more memory",
    "running": "wait for it, or look whether it still does anything; a dead one is marked by the next night",
    "waiting": "it goes on by itself when what it waits for is done",
}


def _failures(runs: Sequence[_NightRun]) -> Iterator[FailedStep]:
    """Return the last words on each step that are bad ones, and what has not ended."""
    steps: dict[tuple[str, str], list[_NightRun]] = {}
    for run in runs:
        steps.setdefault((run.pipeline, run.step), []).append(run)
    for run in (one for its in steps.values() for one in (*_last_words(its), *_running(its))):
        if run.status == "FINISHED":
            continue
        how: Outcome = "running"
        if run.status == "KILLED":
            how = "killed"
        elif run.status == "SCHEDULED":
            how = "waiting"
        elif run.status != "RUNNING":
            how = "refused" if run.deleted else "failed"
        yield FailedStep(
            pipeline=run.pipeline,
            step=run.step,
            how=how,
            error=run.error,
            next=_NEXT[how],
            url=run.url,
            logical_date=run.logical_date,
        )


def _last_words(runs: Sequence[_NightRun]) -> Iterator[_NightRun]:
    """Return the runs of a step that have ended, and after which none for the same or a newer date has."""
    latest = -1
    for run in sorted(runs, key=lambda run: (run.date, run.ended), reverse=True):
        if run.status != "RUNNING" and run.ended > latest:
            latest = run.ended
            yield run


def _running(runs: Sequence[_NightRun]) -> list[_NightRun]:
    """Return the run of a step that has not ended; of several, that of the newest date."""
    return sorted((run for run in runs if run.status == "RUNNING"), key=lambda run: run.date)[-1:]


def _milliseconds(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _date(text: str) -> datetime | None:
    """Read a logical date, as the operators write it; None if it is none."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _costs(runs: Sequence[_NightRun]) -> Iterator[PipelineCost]:
    for pipeline in sorted({run.pipeline for run in runs}):
        its = [run for run in runs if run.pipeline == pipeline]
        cpu = [run.metrics[CPU_SECONDS] for run in its if CPU_SECONDS in run.metrics]
        memory = [run.metrics[MEMORY_MB] for run in its if MEMORY_MB in run.metrics]
        yield PipelineCost(
            pipeline=pipeline,
            steps=len(its),
            minutes=sum(run.seconds for run in its) / 60,
            cpu_minutes=sum(cpu) / 60 if cpu else None,
            most_memory_mb=max(memory) if memory else None,
        )


def night_of(day: str | None, *, hours: float) -> tuple[datetime, datetime]:
    """Return the beginning and the end of a night.

    :param day: date of its morning, such as 2026-01-31: the night ends at the end of that day, or now, and
        began at noon of the day before (UTC); None: the last hours.
    :param hours: how many, if no day is given.
    :return: both, in UTC.
    :raises ConfigError: if it is no date, or lies ahead.
    """
    now = datetime.now(UTC)
    if day is None:
        return now - timedelta(hours=hours), now
    try:
        midnight = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigError("a day is a date", got=day, remedy="write it as 2026-01-31") from error
    if midnight - timedelta(hours=12) >= now:
        raise ConfigError("a night must have begun", got=day, remedy=f"today is {now:%Y-%m-%d} (UTC)")
    return midnight - timedelta(hours=12), min(now, midnight + timedelta(days=1))
