"""Pipelines: list, read, check, save, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from modelmill.documents.json_content import as_json, document_content
from modelmill.documents.versions import difference, text_digest
from modelmill.errors import ModelmillError, PipelineError, Problem
from modelmill.pipeline.expansion import expand
from modelmill.pipeline.pipeline_store import StoredPipeline
from modelmill.pipeline.spec import PipelineSpec
from modelmill.pipeline.validation import MAX_BYTES, check_text, parse_pipeline
from modelmill.redaction import redacted
from modelmill_plugin.audit import record
from modelmill_plugin.errors import ProblemView, RefusedError, error_responses, problem_views
from modelmill_plugin.runs import RunSummary, newest_runs, paused_dags
from modelmill_plugin.security import DELETE, EDIT, READ, User
from modelmill_plugin.settings import pipeline_store
from modelmill_plugin.views import (
    DagId,
    IfMatch,
    PipelineDocument,
    expected_etag,
    may,
    pipeline_document,
    set_etag,
)

router = APIRouter(tags=["pipelines"])


class PipelineSummary(BaseModel):
    """A pipeline in the list."""

    dag_id: str
    path: str
    description: str
    schedule: Any = Field(description="Cron expression, assets, tables, or null.")
    tags: list[str]
    steps: int
    valid: bool
    problems: list[ProblemView]
    digest: str | None
    etag: str
    models: list[str] = Field(description="Names of the registered models that it makes champions of.")
    last_run: RunSummary | None = Field(description="Null: none yet, or the user may not see runs.")
    paused: bool | None = Field(description="Whether its schedule is off; null: Airflow has not parsed it.")
    may_edit: bool
    may_run: bool


class StoreView(BaseModel):
    """The place where pipelines are kept."""

    writable: bool
    reason: str = Field(description="Why nothing can be saved; empty if it can.")
    may_create: bool


class PipelineList(BaseModel):
    """Every pipeline that the user may read."""

    pipelines: list[PipelineSummary]
    store: StoreView


class CheckRequest(BaseModel):
    """A pipeline to check."""

    text: str = Field(max_length=MAX_BYTES, description="YAML or JSON.")


class Checked(BaseModel):
    """A pipeline and everything that is wrong with it."""

    text: str
    etag: str
    document: Any
    spec: PipelineSpec | None
    digest: str | None
    problems: list[ProblemView]


class SaveRequest(BaseModel):
    """A pipeline's new text."""

    text: str = Field(max_length=MAX_BYTES)
    message: str = Field("", max_length=500, description="Why, for the list of versions.")


class DeleteRequest(BaseModel):
    """Why a pipeline is deleted."""

    message: str = Field("", max_length=500)


class DiffRequest(BaseModel):
    """Two texts."""

    before: str = Field(max_length=MAX_BYTES)
    after: str = Field(max_length=MAX_BYTES)


class Diff(BaseModel):
    """What has changed between two texts."""

    unified: str = Field(description="Unified diff; empty if they are the same.")
    added: list[str] = Field(description="Steps that are new.")
    removed: list[str] = Field(description="Steps that are gone.")
    changed: list[str] = Field(description="Steps that say something else.")


@router.get("/pipelines", dependencies=[READ], responses=error_responses())
def list_pipelines(user: User, session: SessionDep) -> PipelineList:
    """Return every pipeline that the user may read, the invalid ones too."""
    store = pipeline_store()
    shown = [
        stored for stored in store.documents().values() if may("GET", stored.name, user, DagAccessEntity.CODE)
    ]
    may_see = [item.name for item in shown if may("GET", item.name, user, DagAccessEntity.RUN)]
    newest = newest_runs(may_see, session)
    paused = paused_dags(may_see, session)
    summaries = [
        _summary(stored, user, newest.get(stored.name), paused=paused.get(stored.name)) for stored in shown
    ]
    reason = ""
    try:
        store.check_writable()
    except ModelmillError as error:
        reason = redacted(str(error))
    may_create = may("PUT", None, user)
    return PipelineList(
        pipelines=summaries,
        store=StoreView(writable=not reason, reason=reason, may_create=may_create),
    )


@router.get("/pipelines/{dag_id}", dependencies=[READ], responses=error_responses(404))
def read_pipeline(dag_id: DagId, response: Response, user: User) -> PipelineDocument:
    """Return one pipeline: its text, what it says, and everything that is wrong with it."""
    stored = pipeline_store().read(dag_id)
    set_etag(response, stored.etag)
    return pipeline_document(stored, user)


@router.post("/check", dependencies=[READ], responses=error_responses())
def check_pipeline(request: CheckRequest) -> Checked:
    """Return the content of a pipeline's text, saved or not, and everything that is wrong with it."""
    document: Any = None
    spec: PipelineSpec | None = None
    problems: Iterable[Problem] = ()
    try:
        content, spec, problems = check_text(request.text)
        document = as_json(content)
    except PipelineError as error:
        problems = error.problems
    return Checked(
        text=request.text,
        etag=text_digest(request.text),
        document=document,
        spec=spec,
        digest=spec.digest if spec else None,
        problems=problem_views(sorted(problems)),
    )


@router.post("/diff", dependencies=[READ], responses=error_responses())
def compare_texts(request: DiffRequest) -> Diff:
    """Return what has changed between two texts, by lines and by steps."""
    before, after = _steps(request.before), _steps(request.after)
    return Diff(
        unified=difference(request.before, request.after),
        added=[name for name in after if name not in before],
        removed=[name for name in before if name not in after],
        changed=[name for name in after if name in before and after[name] != before[name]],
    )


@router.put("/pipelines/{dag_id}", dependencies=[EDIT], responses=error_responses(404, 409, 428))
def save_pipeline(
    *,
    dag_id: DagId,
    request: SaveRequest,
    response: Response,
    user: User,
    session: SessionDep,
    if_match: IfMatch = None,
    if_none_match: Annotated[str | None, Header(description="* for a new pipeline.")] = None,
) -> PipelineDocument:
    """Save a pipeline as its next version. It has to be valid, and to be what was read (else 409)."""
    expected = None if if_none_match == "*" else expected_etag(if_match)
    spec = parse_pipeline(request.text)
    if spec.pipeline != dag_id and not may("PUT", spec.pipeline, user):
        raise RefusedError(403, "the user must be allowed to edit the pipeline", got=spec.pipeline)
    record(session, user, "save_pipeline", dag_id=dag_id, digest=spec.digest, etag=text_digest(request.text))
    stored = pipeline_store().save(
        dag_id, request.text, expected=expected, author=user.get_name(), message=request.message
    )
    set_etag(response, stored.etag)
    return pipeline_document(stored, user)


@router.delete("/pipelines/{dag_id}", dependencies=[DELETE], responses=error_responses(404, 409, 428))
def delete_pipeline(
    dag_id: DagId, request: DeleteRequest, user: User, session: SessionDep, if_match: IfMatch = None
) -> None:
    """Delete a pipeline; its versions stay."""
    expected = expected_etag(if_match)
    record(session, user, "delete_pipeline", dag_id=dag_id, etag=expected)
    pipeline_store().delete(dag_id, expected=expected, author=user.get_name(), message=request.message)


def _summary(
    stored: StoredPipeline, user: User, last_run: RunSummary | None, *, paused: bool | None
) -> PipelineSummary:
    file, spec = stored.file, stored.file.spec
    return PipelineSummary(
        dag_id=stored.name,
        path=file.path,
        description=spec.description if spec else "",
        schedule=spec.model_dump(mode="json")["schedule"] if spec else None,
        tags=list(spec.tags) if spec else [],
        steps=len(spec.steps) if spec else 0,
        valid=spec is not None,
        problems=problem_views(file.problems),
        digest=spec.digest if spec else None,
        etag=stored.etag,
        models=_models(spec) if spec else [],
        last_run=last_run,
        paused=paused,
        may_edit=may("PUT", stored.name, user),
        may_run=may("POST", stored.name, user, DagAccessEntity.RUN),
    )


_GATES = ("gate", "gate_rules")


def _models(spec: PipelineSpec) -> list[str]:
    """Return the registered models that a pipeline's gates propose challengers for."""
    steps = expand(spec).spec.steps.values()
    names = (step.config.get("name") for step in steps if step.component in _GATES)
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _steps(text: str) -> dict[str, Any]:
    document = document_content(text)
    steps = document.get("steps") if isinstance(document, dict) else None
    return steps if isinstance(steps, dict) else {}
