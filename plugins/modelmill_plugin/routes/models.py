"""Models: champions, versions, lineage, the ledger; back to the pipeline that made one; rollback."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, Field

from modelmill.artifacts import MODEL_NAME_PATTERN
from modelmill.documents.json_content import document_content
from modelmill.documents.versions import NotFoundError
from modelmill.registry.bundles import TAG_DATASET, TAG_DIGEST, TAG_PARENT, TAG_ROLE
from modelmill.registry.finished_runs import run_filter
from modelmill.registry.history import history
from modelmill.registry.ledger import LedgerRow, entries
from modelmill.registry.lineage import Lineage, lineage
from modelmill.registry.rollback import rollback
from modelmill.registry.tracking import run_url
from modelmill.registry.versions import CHAMPION, champion_of
from modelmill.settings import Settings
from modelmill_operators.links import XCOM_STEP, version_url
from modelmill_plugin import runs
from modelmill_plugin.audit import record
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.mlflow_answers import mlflow_client, registered_version
from modelmill_plugin.security import PROMOTE, READ, SEE_RUNS, SEE_XCOMS, User
from modelmill_plugin.settings import pipeline_store
from modelmill_plugin.views import DagId, may

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run, RunData
    from mlflow.store.entities import PagedList

router = APIRouter(tags=["models"])

_Found = TypeVar("_Found")
_RUNS_A_REQUEST = 200

ModelName = Annotated[str, Path(pattern=MODEL_NAME_PATTERN)]
VersionNumber = Annotated[int, Path(ge=1)]


class ModelSummary(BaseModel):
    """A registered model in the list."""

    name: str
    champion: int | None = Field(description="Version in use, as the ledger has it.")
    alias: int | None = Field(
        description="Version that MLflow's alias points at; another one was moved by hand."
    )
    versions: int
    last: LedgerRow | None = Field(description="What last happened to it.")


class ModelVersionView(BaseModel):
    """A version of a registered model."""

    version: int
    created: AwareDatetime | None
    role: str
    digest: str
    dataset: str = Field(description="URI@VERSION of the dataset it was trained or checked on.")
    parent: str = Field(description="Model it was made from.")
    run_id: str
    url: str = Field(description="Its page in MLflow; empty if it has none.")
    pipeline: str
    dag_run: str = Field(description="The pipeline's run that made it; empty if it was made without Airflow.")
    pipeline_digest: str
    metrics: dict[str, float] = Field(description="Of the step that made it: accuracy, latency, size, ….")


class HistoryRow(LedgerRow):
    """A row of the ledger."""

    evidence_url: str = Field(
        description="The gate's report in MLflow; empty if there is none, or it has no page."
    )


class ModelView(ModelSummary):
    """A registered model with everything that happened to it."""

    history: list[HistoryRow] = Field(description="The ledger's rows, the oldest first.")
    all_versions: list[ModelVersionView] = Field(description="The newest first.")
    may_roll_back: bool = Field(description="Whether the user may say which version is in use.")


class ModelSource(BaseModel):
    """The pipeline that made a model, as it was then."""

    dag_id: str
    digest: str
    number: int | None = Field(description="Stored version; null: the pipeline as it is now.")
    text: str
    document: Any


class RollbackRequest(BaseModel):
    """Where to go back to, and why."""

    why: str = Field(min_length=1, max_length=500, description="Goes into the ledger.")
    to: int | None = Field(None, ge=1, description="Version; null: the champion before.")


class StepMetrics(BaseModel):
    """What a step's MLflow run has measured."""

    run_id: str
    status: str
    metrics: dict[str, float]


@router.get("/models", dependencies=[READ], responses=error_responses())
def list_models() -> list[ModelSummary]:
    """Return the registered models, by name."""
    rows: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in entries(Settings.from_environment()):
        rows[row.model].append(row)
    with mlflow_client() as client:
        versions = Counter(version.name for version in _all(client.search_model_versions))
        aliases = {model.name: model.aliases for model in _all(client.search_registered_models)}
    return [
        _summary(name, rows[name], aliases.get(name, {}), versions[name])
        for name in sorted(rows.keys() | aliases.keys())
    ]


@router.get("/models/{name}", dependencies=[READ], responses=error_responses(404))
def read_model(name: ModelName, user: User) -> ModelView:
    """Return a registered model: its versions with their figures, and its rows of the ledger."""
    settings = Settings.from_environment()
    rows = history(name, settings)
    with mlflow_client() as client:
        found = _all(client.search_model_versions, filter_string=f"name = '{name}'")
        if not found and not rows:
            raise NotFoundError("the model must be registered", got=name)
        aliased = champion_of(client, name)
        made_by = {
            run_id: client.get_run(run_id).data
            for run_id in {version.run_id for version in found if version.run_id}
        }
        told = with_evidence(rows, client, settings.tracking_uri)
    versions = [_version(version, made_by.get(version.run_id or "")) for version in found]
    versions.sort(key=lambda version: -version.version)
    summary = _summary(name, rows, {CHAMPION: aliased.version} if aliased else {}, len(found))
    may_roll_back = bool(get_auth_manager().is_authorized_asset(method="PUT", user=user))
    return ModelView(**summary.model_dump(), history=told, all_versions=versions, may_roll_back=may_roll_back)


@router.get("/models/{name}/versions/{version}/lineage", dependencies=[READ], responses=error_responses(404))
def read_lineage(name: ModelName, version: VersionNumber) -> Lineage:
    """Return what a version was made from, down to the dataset."""
    with mlflow_client() as client:
        registered_version(client, name, version)
        return lineage(f"{name}/{version}", client)


@router.get("/models/{name}/versions/{version}/source", dependencies=[READ], responses=error_responses(404))
def open_source(name: ModelName, version: VersionNumber, user: User) -> ModelSource:
    """Return the pipeline that made a version, as it was then."""
    with mlflow_client() as client:
        tags = registered_version(client, name, version).tags
    dag_id = tags.get("modelmill.pipeline", "")
    digest = tags.get("modelmill.pipeline_digest", "")
    # The guard knows the DAG of the request's path or query only, and this one is in neither.
    if dag_id and not may("GET", dag_id, user, DagAccessEntity.CODE):
        raise RefusedError(403, "the user must be allowed to read the pipeline", got=dag_id)
    known = pipeline_store().text_of(dag_id, digest) if dag_id and digest else None
    if known is None:
        raise NotFoundError(
            f"the pipeline that made {name} version {version} must be known here",
            got=f"{dag_id or 'no pipeline'}, digest {digest[:12] or 'unknown'}",
            remedy="it was changed outside of the canvas: look for it where the files come from",
        )
    text, number = known
    return ModelSource(
        dag_id=dag_id, digest=digest, number=number, text=text, document=document_content(text)
    )


@router.post("/models/{name}/rollback", dependencies=[PROMOTE], responses=error_responses(404))
def roll_back(name: ModelName, request: RollbackRequest, user: User, session: SessionDep) -> LedgerRow:
    """Make an earlier version champion again; its files and its lineage are verified first."""
    record(session, user, "roll_back", model=name, to=request.to, why=request.why)
    session.commit()  # verifying takes a while, and SQLite has one writer
    said: list[str] = []
    with mlflow_client():
        return rollback(
            name,
            Settings.from_environment(),
            why=request.why,
            to=request.to,
            who=user.get_name(),
            say=said.append,
        )


@router.get(
    "/pipelines/{dag_id}/runs/{run_id}/metrics",
    dependencies=[SEE_RUNS, SEE_XCOMS],
    responses=error_responses(404),
)
def read_run_metrics(
    dag_id: DagId, run_id: Annotated[str, Path(max_length=250)], session: SessionDep
) -> dict[str, StepMetrics]:
    """Return what each finished step of a run has measured, by step; for a reused step, the first time.

    A step whose run MLflow no longer has is left out.
    """
    results = runs.step_results(runs.run_named(dag_id, run_id, session), session)
    made_by = {
        step: run for step, result in results.items() if (run := result.get(XCOM_STEP, {}).get("run_id"))
    }
    with mlflow_client() as client:
        found = _runs(client, dag_id, sorted(set(made_by.values())))
    return {
        step: StepMetrics(run_id=run, status=found[run].info.status, metrics=_finite(found[run].data.metrics))
        for step, run in made_by.items()
        if run in found
    }


def _runs(client: MlflowClient, pipeline: str, run_ids: Sequence[str]) -> dict[str, Run]:
    """Return those runs of a pipeline that MLflow has, in a request for each 200 of them."""
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name(pipeline)
    found: dict[str, Run] = {}
    if experiment is None:
        return found
    for first in range(0, len(run_ids), _RUNS_A_REQUEST):
        some = run_ids[first : first + _RUNS_A_REQUEST]
        page = client.search_runs(
            [experiment.experiment_id],
            filter_string=run_filter(some),
            run_view_type=ViewType.ALL,
            max_results=len(some),
        )
        found |= {run.info.run_id: run for run in page}
    return found


def _all(search: Callable[..., PagedList[_Found]], **query: Any) -> list[_Found]:
    """Return everything that a search of MLflow's finds, over all of its pages."""
    found: list[_Found] = []
    page: PagedList[_Found] | None = None
    while page is None or page.token:
        page = search(max_results=1000, page_token=page.token if page else None, **query)
        found += page
    return found


def with_evidence(rows: Sequence[LedgerRow], client: MlflowClient, tracking_uri: str) -> list[HistoryRow]:
    """Add the pages of the gate's reports: a pipeline's runs are all in the experiment of its name."""
    asked = {row.pipeline for row in rows if row.evidence}
    experiments = {name: client.get_experiment_by_name(name) for name in asked}

    def page(row: LedgerRow) -> str:
        experiment = experiments.get(row.pipeline)
        if not row.evidence or experiment is None:
            return ""
        run_id, _, path = row.evidence.removeprefix("runs:/").partition("/")
        shown = f"{path.removesuffix('.json')}.html"
        return run_url(tracking_uri, experiment.experiment_id, run_id, artifact=shown)

    return [HistoryRow(**row.model_dump(), evidence_url=page(row)) for row in rows]


def _summary(name: str, rows: Sequence[LedgerRow], aliases: Mapping[str, str], versions: int) -> ModelSummary:
    last = rows[-1] if rows else None
    alias = aliases.get(CHAMPION)
    return ModelSummary(
        name=name,
        champion=last.to_version if last else None,
        alias=int(alias) if alias else None,
        versions=versions,
        last=last,
    )


def _version(version: Any, made_by: RunData | None) -> ModelVersionView:
    tags = version.tags
    made = version.creation_timestamp
    return ModelVersionView(
        version=int(version.version),
        created=datetime.fromtimestamp(made / 1000, UTC) if made else None,
        role=tags.get(TAG_ROLE, ""),
        digest=tags.get(TAG_DIGEST, ""),
        dataset=tags.get(TAG_DATASET, ""),
        parent=tags.get(TAG_PARENT, ""),
        run_id=version.run_id or "",
        url=version_url(
            Settings.from_environment().tracking_uri, f"models:/{version.name}/{version.version}"
        ),
        pipeline=tags.get("modelmill.pipeline", ""),
        pipeline_digest=tags.get("modelmill.pipeline_digest", ""),
        dag_run=made_by.tags.get("airflow.run_id", "") if made_by else "",
        metrics=_finite(made_by.metrics) if made_by else {},
    )


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
