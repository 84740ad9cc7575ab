"""The first page: what runs now, what waits for a person, and what happened since yesterday.

All of it comes from a few short queries of Airflow's database and from the ledger: no pipeline is parsed, so
the page is as fast with hundreds of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVarTuple

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagTag
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import DagRunState, TaskInstanceState
from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from modelmill.errors import ModelmillError
from modelmill.monitoring.drift import drift_asset
from modelmill.redaction import redacted
from modelmill.registry.ledger import LedgerRow, entries
from modelmill.registry.ledger_table import open_ledger
from modelmill.settings import Settings
from modelmill_plugin.errors import error_responses
from modelmill_plugin.security import READ, SEE_RUNS, User
from modelmill_plugin.views import may

router = APIRouter(tags=["home"])
Columns = TypeVarTuple("Columns")

_MOST = 50
"""Most items of each list: what a person reads. Of what the user may see, not of what there is."""


class RunOf(BaseModel):
    """A run of a pipeline."""

    dag_id: str
    run_id: str
    state: str
    start: AwareDatetime | None
    end: AwareDatetime | None


class Waiting(BaseModel):
    """A task that waits for a person's answer."""

    dag_id: str
    run_id: str
    task: str
    subject: str
    since: AwareDatetime


class Drifted(BaseModel):
    """An alarm of a monitor."""

    name: str = Field(description="What is monitored.")
    time: AwareDatetime
    dag_id: str
    run_id: str


class Home(BaseModel):
    """What a user comes back to. Each list has the newest first, and at most 50 items."""

    pipelines: int = Field(description="How many pipelines Airflow knows.")
    running: list[RunOf] = Field(description="Runs under way, and those that are queued.")
    waiting: list[Waiting]
    failed: list[RunOf] = Field(description="Runs that failed in these hours.")
    decided: list[LedgerRow] = Field(description="Promotions, refusals and rollbacks of these hours.")
    drifted: list[Drifted] = Field(description="Alarms of these hours.")
    ledger_problem: str = Field(description="Why the ledger cannot be read; empty if it can.")


@router.get("/home", dependencies=[READ, SEE_RUNS], responses=error_responses())
def read_home(
    user: User,
    session: SessionDep,
    hours: Annotated[int, Query(ge=1, le=168, description="How far back to look.")] = 24,
) -> Home:
    """Return what runs, what waits for a person, and what happened lately, as far as the user may see it."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    running = _runs().where(DagRun.state.in_((DagRunState.RUNNING, DagRunState.QUEUED)))
    failed = _runs().where(DagRun.state == DagRunState.FAILED, DagRun.end_date >= since)
    visible = _Visible(user, session)
    decided, problem = _decided(since)
    known = select(func.count()).select_from(DagTag).where(DagTag.name == "modelmill")
    return Home(
        pipelines=session.scalar(known) or 0,
        running=[_run(run) for (run,) in visible.first(running, DagRun.dag_id)],
        waiting=[
            _waits(task, question)
            for task, question in visible.first(_waiting(), TaskInstance.dag_id, DagAccessEntity.HITL_DETAIL)
        ],
        failed=[_run(run) for (run,) in visible.first(failed, DagRun.dag_id)],
        decided=decided,
        drifted=[
            _drifted(event, uri) for event, uri in visible.first(_alarms(since), AssetEvent.source_dag_id)
        ],
        ledger_problem=problem,
    )


class _Visible:
    """What a user may see: of each pipeline it is asked once.

    :param user: the user.
    :param session: Airflow's database.
    """

    def __init__(self, user: User, session: Session) -> None:
        self._user = user
        self._session = session
        self._known: dict[tuple[str, DagAccessEntity], bool] = {}

    def first(
        self,
        query: Select[*Columns],
        dag_id: InstrumentedAttribute[Any],
        entity: DagAccessEntity = DagAccessEntity.RUN,
    ) -> Sequence[Row[*Columns]]:
        """Return the first rows of a query that the user may see: others take nobody's place.

        :param query: ordered, without a limit.
        :param dag_id: the column of the query that names the pipeline.
        :param entity: what of the pipeline the rows show.
        :return: at most as many rows as a list has.
        """
        pipelines = self._session.scalars(
            query.with_only_columns(dag_id, maintain_column_froms=True).order_by(None).distinct()
        )
        seen = [one for one in pipelines if self._may(one, entity)]
        return self._session.execute(query.where(dag_id.in_(seen)).limit(_MOST)).all() if seen else ()

    def _may(self, dag_id: str, entity: DagAccessEntity) -> bool:
        if (dag_id, entity) not in self._known:
            self._known[dag_id, entity] = may("GET", dag_id, self._user, entity)
        return self._known[dag_id, entity]


def _runs() -> Select[DagRun]:
    query = select(DagRun).join(DagTag, DagTag.dag_id == DagRun.dag_id).where(DagTag.name == "modelmill")
    return query.order_by(DagRun.run_after.desc(), DagRun.id.desc())


def _run(run: DagRun) -> RunOf:
    return RunOf(
        dag_id=run.dag_id, run_id=run.run_id, state=str(run.state), start=run.start_date, end=run.end_date
    )


def _waiting() -> Select[TaskInstance, HITLDetail]:
    return (
        select(TaskInstance, HITLDetail)
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
        .join(DagTag, DagTag.dag_id == TaskInstance.dag_id)
        .where(DagTag.name == "modelmill", HITLDetail.responded_at.is_(None))
        .where(TaskInstance.state.in_((TaskInstanceState.AWAITING_INPUT, TaskInstanceState.DEFERRED)))
        .order_by(HITLDetail.created_at.desc())
    )


def _waits(task: TaskInstance, question: HITLDetail) -> Waiting:
    return Waiting(
        dag_id=task.dag_id,
        run_id=task.run_id,
        task=task.task_id,
        subject=question.subject,
        since=question.created_at,
    )


def _alarms(since: datetime) -> Select[AssetEvent, str]:
    return (
        select(AssetEvent, AssetModel.uri)
        .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        .where(AssetModel.uri.startswith(drift_asset("")), AssetEvent.timestamp >= since)
        .where(AssetEvent.source_dag_id.is_not(None), AssetEvent.source_run_id.is_not(None))
        .order_by(AssetEvent.timestamp.desc())
    )


def _drifted(event: AssetEvent, uri: str) -> Drifted:
    return Drifted(
        name=uri.removeprefix(drift_asset("")),
        time=event.timestamp,
        dag_id=event.source_dag_id,
        run_id=event.source_run_id,
    )


def _decided(since: datetime) -> tuple[list[LedgerRow], str]:
    """Return the ledger's newest rows; what else is on the page does not need them."""
    settings = Settings.from_environment()
    try:
        table = open_ledger(settings)
        if table is None:
            return [], ""
        rows = _ledger(settings, table.version())
    except ModelmillError as error:
        return [], redacted(str(error))
    return [row for row in reversed(rows) if row.time >= since][:_MOST], ""


@functools.lru_cache(maxsize=1)
def _ledger(settings: Settings, _version: int) -> tuple[LedgerRow, ...]:
    """Return all rows: open pages ask every few seconds, and the ledger grows at night."""
    return tuple(entries(settings))
