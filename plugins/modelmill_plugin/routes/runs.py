"""Runs: start them, watch them, show past ones."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

from airflow.api.common.airflow_health import get_airflow_health
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy import select

from modelmill.documents.names import NAME_PATTERN
from modelmill.pipeline.expansion import StepOrigin
from modelmill.pipeline.spec import ParamValue
from modelmill_operators.links import XCOM_STEP
from modelmill_plugin import runs
from modelmill_plugin.airflow_api import AirflowApi
from modelmill_plugin.audit import record
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.security import EDIT, RUN, SEE_RUNS, SEE_STEPS, SEE_XCOMS, User
from modelmill_plugin.settings import pipeline_store
from modelmill_plugin.views import DagId

router = APIRouter(tags=["runs"])

RunId = Annotated[str, Path(min_length=1, max_length=250)]


class DagState(BaseModel):
    """How far Airflow is with a pipeline that was saved."""

    ready: bool = Field(description="Whether a run would be of the pipeline as it is saved.")
    message: str = Field(description="What it waits for, or what is wrong; empty if it is ready.")
    paused: bool = Field(description="Whether Airflow starts no runs of it, by schedule or by hand.")
    saved_digest: str | None
    parsed_digest: str | None
    dag_processor: str | None = Field(description="Health of the process that parses: healthy, unhealthy.")
    scheduler: str | None


class ParseAnswer(BaseModel):
    """Whether Airflow was asked to parse at once."""

    asked: bool
    message: str


class RunRequest(BaseModel):
    """What to run."""

    mode: Literal["all", "from", "only"] = Field(
        "all",
        description="All steps in a new run; or, in an earlier run, a step and all that follow it, or a step "
        "alone.",
    )
    step: str | None = Field(
        None,
        pattern=NAME_PATTERN,
        description="The step, for 'from' and 'only': as it was written (all its copies), or one copy.",
    )
    run_id: str | None = Field(None, description="The run, for 'from' and 'only'; null: the newest.")
    params: dict[str, ParamValue] = Field({}, description="Values of parameters, for a new run.")
    unpause: bool = Field(
        False, description="Switch the pipeline on if it is paused: its schedule runs from then on, too."
    )


class Started(BaseModel):
    """A run that was started, or in which steps were started again."""

    run_id: str
    steps: list[str] = Field(description="Steps that are run again; empty for a new run: all of them.")


class NodeView(BaseModel):
    """A step in a run; of a group with for_each, one of its copies."""

    step: str = Field(description="Its id in the run: of a copy, STEP__VALUE.")
    of: str = Field(description="The step as it was written.")
    value: str | None = Field(description="Value of for_each that it is a copy for; null: it is there once.")
    state: str | None = Field(description="Airflow's state; null: not yet scheduled.")
    try_number: int
    max_tries: int
    start: AwareDatetime | None
    end: AwareDatetime | None
    duration: float | None = Field(description="Seconds.")
    outputs: dict[str, Any] = Field(description="References by output port, once it has finished.")
    step_key: str | None
    mlflow_run: str | None = Field(description="MLflow run that made the outputs.")
    mlflow_url: str = Field(description="Its page; empty if it has none.")
    reused: bool | None = Field(description="Whether an earlier run's result was taken; null: not finished.")
    log_url: str = Field(description="The task's page in Airflow, relative to its base URL.")


class RunView(runs.RunSummary):
    """A run with the states of its steps."""

    digest: str | None = Field(description="Digest of the pipeline it is of; its text: find_digest.")
    nodes: list[NodeView]


@router.get("/pipelines/{dag_id}/dag", dependencies=[SEE_RUNS], responses=error_responses())
def get_dag_state(dag_id: DagId, session: SessionDep) -> DagState:
    """Return whether Airflow has parsed the pipeline as it is saved, and what it waits for if not."""
    stored = pipeline_store().documents().get(dag_id)
    saved = stored.file.spec.digest if stored and stored.file.spec else None
    model = session.get(DagModel, dag_id)
    parsed = runs.parsed_digest(dag_id, session)
    health = get_airflow_health()
    processor = (health.get("dag_processor") or {}).get("status")
    scheduler = (health.get("scheduler") or {}).get("status")
    message = ""
    if stored is None:
        message = "the pipeline has been deleted"
    elif saved is None:
        message = "the pipeline has problems, so it cannot be run: fix them and save it"
    elif saved != parsed:
        state = "an earlier version of it" if parsed else "not parsed it yet"
        message = f"waiting for Airflow to parse the pipeline: it has {state}"
        if processor != "healthy":
            message += f"; its DAG processor is {processor or 'not running'}: start it"
    elif scheduler != "healthy":
        message = f"Airflow's scheduler is {scheduler or 'not running'}, so runs wait until it is started"
    return DagState(
        ready=saved is not None and saved == parsed,
        message=message,
        paused=bool(model.is_paused) if model else True,
        saved_digest=saved,
        parsed_digest=parsed,
        dag_processor=processor,
        scheduler=scheduler,
    )


@router.post("/pipelines/{dag_id}/parse", dependencies=[EDIT], responses=error_responses())
async def parse_pipeline_now(dag_id: DagId, request: Request, user: User, session: SessionDep) -> ParseAnswer:
    """Ask Airflow to parse the pipelines' DAG file next, instead of when its turn comes."""
    known = await run_in_threadpool(_dag_of_same_file, dag_id, session)
    if known is None:
        return ParseAnswer(asked=False, message="Airflow has no pipeline yet, so it parses in its own time")
    await run_in_threadpool(_record_at_once, session, user, "parse_pipeline", dag_id)
    api = AirflowApi(request)
    try:
        details = await api.call("GET", "dags", known)
        await api.call("PUT", "parseDagFile", details["file_token"])
    except RefusedError as error:
        if error.status != HTTPStatus.CONFLICT:  # else the same has been asked, and nobody has parsed since
            return ParseAnswer(asked=False, message=str(error))
    return ParseAnswer(asked=True, message="")


@router.post("/pipelines/{dag_id}/runs", dependencies=[RUN], responses=error_responses(404, 409))
async def start_run(
    dag_id: DagId, body: RunRequest, request: Request, user: User, session: SessionDep
) -> Started:
    """Run all, from a step on, or one step alone; by Airflow's API with the user's own rights."""
    state = await run_in_threadpool(get_dag_state, dag_id, session)
    if not state.ready:
        raise RefusedError(409, state.message)
    if state.paused and not body.unpause:
        raise RefusedError(
            409,
            "a pipeline that runs is not paused",
            remedy="switch it on (unpause); its schedule runs from then on, too",
        )
    again = None if body.mode == "all" else await run_in_threadpool(_run_with_step, dag_id, body, session)
    await run_in_threadpool(
        _record_at_once, session, user, "run_pipeline", dag_id, digest=state.saved_digest, mode=body.mode
    )
    api = AirflowApi(request)
    if state.paused:
        await api.call("PATCH", "dags", dag_id, body={"is_paused": False})
    if again is None:
        made = await api.call(
            "POST", "dags", dag_id, "dagRuns", body={"logical_date": None, "conf": body.params}
        )
        return Started(run_id=made["dag_run_id"], steps=[])
    return await _run_again(dag_id, body, *again, api)


@router.get("/pipelines/{dag_id}/runs", dependencies=[SEE_RUNS], responses=error_responses())
def list_runs(
    dag_id: DagId, session: SessionDep, limit: Annotated[int, Query(ge=1, le=200)] = 25
) -> list[runs.RunSummary]:
    """Return a pipeline's runs, the newest first."""
    return [runs.run_summary(run) for run in runs.recent_runs(dag_id, session, limit=limit)]


@router.get(
    "/pipelines/{dag_id}/runs/{run_id}",
    dependencies=[SEE_RUNS, SEE_STEPS, SEE_XCOMS],
    responses=error_responses(404),
)
def read_run(dag_id: DagId, run_id: RunId, session: SessionDep) -> RunView:
    """Return a run with the states of its steps: now, or as it ended."""
    run = runs.run_named(dag_id, run_id, session)
    results, pipeline = runs.step_results(run, session), runs.run_pipeline(run, session)
    return RunView(
        **runs.run_summary(run).model_dump(),
        digest=pipeline.digest,
        nodes=[
            _node(item, pipeline.origin(item.task_id), results.get(item.task_id, {}))
            for item in runs.step_instances(run, session)
        ],
    )


async def _run_again(
    dag_id: str, body: RunRequest, run_id: str, tasks: list[str], api: AirflowApi
) -> Started:
    """Clear tasks of a run: Airflow then runs them again, on the pipeline as it is now."""
    cleared = await api.call(
        "POST",
        "dags",
        dag_id,
        "clearTaskInstances",
        body={
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": tasks,
            "include_downstream": body.mode == "from",
            "only_failed": False,
            "reset_dag_runs": True,
            "run_on_latest_version": True,
            "prevent_running_task": True,
        },
    )
    return Started(run_id=run_id, steps=[item["task_id"] for item in cleared["task_instances"]])


def _run_with_step(dag_id: str, body: RunRequest, session: SessionDep) -> tuple[str, list[str]]:
    """Return the run that a step runs again in, and the tasks that the step's id stands for."""
    if body.step is None:
        raise RefusedError(422, f"to run {body.mode!r}, the step must be named")
    if body.run_id is not None:
        run: DagRun | None = runs.run_named(dag_id, body.run_id, session)
    else:
        run = next(iter(runs.recent_runs(dag_id, session, limit=1)), None)
    asked = runs.run_pipeline(run, session).tasks_of(body.step) if run else set()
    there = {item.task_id for item in runs.step_instances(run, session)} if run else set()
    if run is None or not asked & there:
        raise RefusedError(
            409,
            "a step runs again in a run that it was part of",
            got=body.step,
            remedy="run all: steps whose inputs have not changed are not done again",
        )
    return str(run.run_id), sorted(asked & there)


def _dag_of_same_file(dag_id: str, session: SessionDep) -> str | None:
    """Return a DAG that comes from the pipelines' DAG file: this one, else another pipeline."""
    model = session.get(DagModel, dag_id)
    if model is not None and not model.is_stale:
        return dag_id
    query = (
        select(DagModel.dag_id)
        .join(DagTag, DagTag.dag_id == DagModel.dag_id)
        .where(DagTag.name == "modelmill", DagModel.is_stale.is_(False))
        .limit(1)
    )
    return session.scalar(query)


def _record_at_once(session: SessionDep, user: User, event: str, dag_id: str, **details: Any) -> None:
    record(session, user, event, dag_id=dag_id, **details)
    session.commit()  # Airflow's API writes in a session of its own, and SQLite has one writer


def _node(item: TaskInstance, origin: StepOrigin, result: dict[str, Any]) -> NodeView:
    # A task that runs again keeps what it handed on before until it begins.
    finished = item.state == "success"
    step = result.get(XCOM_STEP, {}) if finished else {}
    return NodeView(
        step=item.task_id,
        of=origin.of,
        value=origin.value,
        state=None if item.state is None else str(item.state),
        try_number=item.try_number,
        max_tries=item.max_tries,
        start=item.start_date,
        end=item.end_date,
        duration=item.duration,
        outputs=result.get("return_value", {}) if finished else {},
        step_key=step.get("step_key"),
        mlflow_run=step.get("run_id"),
        mlflow_url=step.get("run_url", ""),
        reused=step.get("reused"),
        log_url=f"dags/{item.dag_id}/runs/{item.run_id}/tasks/{item.task_id}",
    )
