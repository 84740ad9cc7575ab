"""Versions of a pipeline: what was saved, by whom, and back to it."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Path, Response
from pydantic import AwareDatetime, BaseModel, Field

from modelmill.documents.json_content import document_content
from modelmill.documents.versions import NotFoundError, Version
from modelmill_plugin.audit import record
from modelmill_plugin.errors import error_responses
from modelmill_plugin.security import EDIT, READ, User
from modelmill_plugin.settings import pipeline_store
from modelmill_plugin.views import (
    DagId,
    IfMatch,
    PipelineDocument,
    expected_etag,
    pipeline_document,
    set_etag,
)

router = APIRouter(tags=["versions"])

Number = Annotated[int, Path(ge=1)]


class VersionSummary(BaseModel):
    """A version in the list."""

    number: int
    author: str = Field(description="User; 'outside' for a text that came into the folder by other means.")
    time: AwareDatetime
    message: str
    etag: str = Field(description="SHA-256 of the text.")
    digest: str | None = Field(description="Digest of the pipeline; null if it was not valid.")
    deleted: bool = Field(description="Whether the pipeline was deleted then: the text is the last one.")


class VersionDocument(VersionSummary):
    """A version with its text."""

    text: str
    document: Any


class RevertRequest(BaseModel):
    """Why a version is taken back."""

    message: str = Field("", max_length=500)


@router.get("/pipelines/{dag_id}/versions", dependencies=[READ], responses=error_responses())
def list_versions(dag_id: DagId) -> list[VersionSummary]:
    """Return the versions of a pipeline, the newest first; deleted pipelines have theirs too."""
    versions = pipeline_store().versions(dag_id)
    return [VersionSummary.model_validate(_summary(version)) for version in reversed(versions)]


@router.get("/pipelines/{dag_id}/versions/{number}", dependencies=[READ], responses=error_responses(404))
def read_version(dag_id: DagId, number: Number) -> VersionDocument:
    """Return one version."""
    return version_document(pipeline_store().version(dag_id, number))


@router.get("/pipelines/{dag_id}/digests/{digest}", dependencies=[READ], responses=error_responses(404))
def find_digest(
    dag_id: DagId, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], user: User
) -> VersionDocument | PipelineDocument:
    """Return the text that a run, or a model, was made by: a version, or the pipeline as it is now."""
    store = pipeline_store()
    found = store.text_of(dag_id, digest)
    if found is None:
        raise NotFoundError(
            "the pipeline must have a version of this digest",
            got=digest,
            remedy="it was changed outside of the canvas: look for it where the files come from",
        )
    number = found[1]
    if number is None:
        return pipeline_document(store.read(dag_id), user)
    return version_document(store.version(dag_id, number))


@router.post(
    "/pipelines/{dag_id}/versions/{number}/revert",
    dependencies=[EDIT],
    responses=error_responses(404, 409, 428),
)
def revert_pipeline(
    *,
    dag_id: DagId,
    number: Number,
    request: RevertRequest,
    response: Response,
    user: User,
    session: SessionDep,
    if_match: IfMatch = None,
) -> PipelineDocument:
    """Save an earlier version's text as the next version. Without If-Match for a deleted pipeline."""
    store = pipeline_store()
    version = store.version(dag_id, number)
    gone = dag_id not in store.documents()
    expected = None if gone and if_match is None else expected_etag(if_match)
    record(
        session,
        user,
        "revert_pipeline",
        dag_id=dag_id,
        digest=version.digest,
        etag=version.etag,
        version=number,
    )
    message = request.message or f"back to version {number}"
    stored = store.save(dag_id, version.text, expected=expected, author=user.get_name(), message=message)
    set_etag(response, stored.etag)
    return pipeline_document(stored, user)


def _summary(version: Version) -> dict[str, Any]:
    return version.model_dump(exclude={"text", "parent"})


def version_document(version: Version) -> VersionDocument:
    """Return a version with its text, as routes show it."""
    return VersionDocument(**_summary(version), text=version.text, document=document_content(version.text))
