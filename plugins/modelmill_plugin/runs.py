"""The runs of a pipeline in Airflow's database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from modelmill.documents.versions import NotFoundError
from modelmill.pipeline.expansion import StepOrigin, expand
from modelmill_operators.documents import digest_in, pipeline_in
from modelmill_operators.links import XCOM_STEP


class RunSummary(BaseModel):
    """A run in the list."""

    run_id: str
    state: str
    run_type: str
    user: str | None
    queued: AwareDatetime | None
    start: AwareDatetime | None
    end: AwareDatetime | None
    params: dict[str, Any]


def run_summary(run: DagRun) -> RunSummary:
    """Return a run as a list shows it: its state, its times and who started it."""
    return RunSummary(
        run_id=run.run_id,
        state=str(run.state),
        run_type=str(run.run_type),
        user=run.triggering_user_name,
        queued=run.queued_at,
        start=run.start_date,
        end=run.end_date,
        params=run.conf if isinstance(run.conf, dict) else {},
    )


def newest_runs(dag_ids: Sequence[str], session: Session) -> dict[str, RunSummary]:
    """Return the newest run of each pipeline that has one.

    :param dag_ids: the DAGs.
    :param session: Airflow's database.
    :return: by DAG id.
    """
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(dag_ids)).group_by(DagRun.dag_id)
    runs = session.scalars(select(DagRun).where(DagRun.id.in_(newest)))
    return {run.dag_id: run_summary(run) for run in runs}


def paused_dags(dag_ids: Sequence[str], session: Session) -> dict[str, bool]:
    """Return of each pipeline that Airflow has parsed whether its schedule is off.

    :param dag_ids: the DAGs.
    :param session: Airflow's database.
    :return: by DAG id.
    """
    query = select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(dag_ids))
    return {dag_id: bool(is_paused) for dag_id, is_paused in session.execute(query)}


def parsed_digest(dag_id: str, session: Session) -> str | None:
    """Return the digest of the pipeline that Airflow runs next.

    :param dag_id: the DAG.
    :param session: Airflow's database.
    :return: the digest; None if Airflow has not parsed it, or its file is invalid.
    """
    model = session.get(DagModel, dag_id)
    if model is None or model.is_stale:
        return None
    return digest_in(_documentation(SerializedDagModel.get(dag_id, session=session)))


@dataclass(frozen=True)
class RunPipeline:
    """The pipeline that a run is of."""

    digest: str | None
    """None if Airflow no longer has that version."""
    origins: Mapping[str, StepOrigin]
    """By task, the step as it was written; tasks that are not known are left out."""

    def origin(self, task: str) -> StepOrigin:
        """Return what a task was written as; of one that is not known, itself."""
        return self.origins.get(task, StepOrigin(task))

    def tasks_of(self, step: str) -> set[str]:
        """Return the tasks that an id stands for: all copies of a written step, or the task of that id."""
        return {task for task, origin in self.origins.items() if origin.of == step} or {step}


def run_pipeline(run: DagRun, session: Session) -> RunPipeline:
    """Return the pipeline that a run is of: of its newest tasks, where some were run again.

    :param run: the run.
    :param session: Airflow's database.
    :return: its digest, and what its tasks were written as.
    """
    query = (
        select(TaskInstance.dag_version_id)
        .where(TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id)
        .where(TaskInstance.dag_version_id.is_not(None))
        .order_by(TaskInstance.dag_version_id.desc())  # made in the order of time (UUID version 7)
        .limit(1)
    )
    version = session.scalar(query) or run.created_dag_version_id
    of_version = select(SerializedDagModel).where(SerializedDagModel.dag_version_id == version)
    documentation = _documentation(session.scalar(of_version) if version is not None else None)
    written = pipeline_in(documentation)
    return RunPipeline(digest_in(documentation), expand(written).origins if written else {})


def recent_runs(dag_id: str, session: Session, *, limit: int) -> list[DagRun]:
    """Return a pipeline's runs, the newest first.

    :param dag_id: the DAG.
    :param session: Airflow's database.
    :param limit: most runs.
    :return: runs.
    """
    query = select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.run_after.desc(), DagRun.id.desc())
    return list(session.scalars(query.limit(limit)))


def runs_before(run: DagRun, session: Session, *, limit: int) -> list[DagRun]:
    """Return the runs of a pipeline before one of them, the newest first.

    :param run: the run.
    :param session: Airflow's database.
    :param limit: most runs.
    :return: runs.
    """
    query = select(DagRun).where(DagRun.dag_id == run.dag_id, DagRun.run_after < run.run_after)
    return list(session.scalars(query.order_by(DagRun.run_after.desc()).limit(limit)))


def run_named(dag_id: str, run_id: str, session: Session) -> DagRun:
    """Return one run.

    :param dag_id: the DAG.
    :param run_id: the run's id.
    :param session: Airflow's database.
    :return: the run.
    :raises NotFoundError: if there is none.
    """
    query = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    run: DagRun | None = session.scalar(query)
    if run is None:
        raise NotFoundError("the pipeline must have such a run", got=run_id)
    return run


def step_instances(run: DagRun, session: Session) -> list[TaskInstance]:
    """Return the task instances of a run.

    :param run: the run.
    :param session: Airflow's database.
    :return: one for each step.
    """
    query = select(TaskInstance).where(
        TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id, TaskInstance.map_index == -1
    )
    return list(session.scalars(query))


def step_results(run: DagRun, session: Session) -> dict[str, dict[str, Any]]:
    """Return what the finished steps of a run handed on.

    :param run: the run.
    :param session: Airflow's database.
    :return: by step: ``modelmill_step`` (step key and MLflow run) and ``return_value`` (references by port).
    """
    query = select(XComModel.task_id, XComModel.key, XComModel.value).where(
        XComModel.dag_id == run.dag_id,
        XComModel.run_id == run.run_id,
        XComModel.key.in_((XCOM_STEP, "return_value")),
    )
    found: dict[str, dict[str, Any]] = {}
    for step, key, value in session.execute(query):
        if isinstance(value, dict):
            found.setdefault(step, {})[key] = value
    return found


def _documentation(serialized: SerializedDagModel | None) -> str:
    document = (serialized.data or {}).get("dag", {}).get("doc_md") if serialized else None
    return document if isinstance(document, str) else ""
