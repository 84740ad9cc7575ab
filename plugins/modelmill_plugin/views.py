"""What several routes answer with."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from fastapi import Header, Path, Response
from pydantic import BaseModel, Field

from modelmill.documents.json_content import document_content
from modelmill.pipeline.pipeline_store import StoredPipeline
from modelmill.pipeline.spec import PipelineSpec
from modelmill_plugin.errors import ProblemView, RefusedError, problem_views
from modelmill_plugin.security import User

DagId = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9_.-]{1,250}$", description="The pipeline's name, which is its DAG's id."),
]
IfMatch = Annotated[
    str | None, Header(description="The etag that was read, in quotes: without it nothing is replaced.")
]


class PipelineDocument(BaseModel):
    """A pipeline: the text and what it says."""

    dag_id: str
    path: str = Field(description="File below the store's folder.")
    text: str
    etag: str = Field(description="SHA-256 of the text; give it back in If-Match.")
    document: Any = Field(description="Content of the text; null if it is not YAML.")
    spec: PipelineSpec | None = Field(description="The checked pipeline; null if there are problems.")
    digest: str | None = Field(description="Digest of the pipeline; comments and order do not change it.")
    problems: list[ProblemView]
    may_edit: bool = Field(description="Whether the user may save and delete it.")
    may_run: bool = Field(description="Whether the user may run it.")


def pipeline_document(stored: StoredPipeline, user: User) -> PipelineDocument:
    """Return a pipeline as routes show it.

    :param stored: the pipeline.
    :param user: who is shown it.
    :return: its text, its content, and its problems.
    """
    file = stored.file
    return PipelineDocument(
        dag_id=stored.name,
        path=file.path,
        text=file.text,
        etag=stored.etag,
        document=document_content(file.text),
        spec=file.spec,
        digest=file.spec.digest if file.spec else None,
        problems=problem_views(file.problems),
        may_edit=may("PUT", stored.name, user),
        may_run=may("POST", stored.name, user, DagAccessEntity.RUN),
    )


def may(method: Any, dag_id: str | None, user: User, entity: DagAccessEntity | None = None) -> bool:
    """Return whether a user may do something with a pipeline that no guard has asked about.

    :param method: HTTP method.
    :param dag_id: the pipeline's DAG id; None: pipelines in general.
    :param user: the user.
    :param entity: part of the DAG; None: the DAG itself.
    :return: what the auth manager says.
    """
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)) if dag_id else None
    return bool(
        get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user)
    )


def expected_etag(if_match: str | None) -> str:
    """Return the etag that a request names.

    :param if_match: the header.
    :return: the etag without quotes.
    :raises RefusedError: if there is none.
    """
    if if_match is None:
        raise RefusedError(
            428,
            "a document is changed from the text that was read",
            remedy="send its etag in If-Match, or If-None-Match: * for a new one",
        )
    return if_match.removeprefix("W/").strip().strip('"')


def set_etag(response: Response, etag: str) -> None:
    """Put the etag into an answer's header.

    :param response: the answer.
    :param etag: SHA-256 of the text.
    """
    response.headers["etag"] = f'"{etag}"'
