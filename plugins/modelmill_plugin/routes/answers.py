"""A person types a text and sees what versions of a model answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelmill.documents.versions import NotFoundError
from modelmill.registry.versions import reference, version_numbered
from modelmill.serving.answering import ModelAnswer, answers_of
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.mlflow_answers import mlflow_client
from modelmill_plugin.routes.models import ModelName
from modelmill_plugin.security import EDIT_ALL

router = APIRouter(tags=["models"])

_NO_TEXTS = ("rules", "trunk")


class AnswerRequest(BaseModel):
    """A text, and who is asked."""

    text: str = Field(min_length=1, max_length=20_000)
    versions: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=2)


class VersionAnswer(ModelAnswer):
    """What a version answers."""

    version: int


# It takes the API server's machine some seconds of work: not for everybody who may look.
@router.post("/models/{name}/answers", dependencies=[EDIT_ALL], responses=error_responses(404, 409))
def answer_text(name: ModelName, request: AnswerRequest) -> list[VersionAnswer]:
    """Return what versions of a model answer to a text, in the order of the request.

    They are loaded by a process of its own, one request at a time, within 120 s and 6 GB.
    """
    models = []
    with mlflow_client() as client:
        for version in request.versions:
            found = version_numbered(client, name, version)
            if found is None:
                raise NotFoundError("the version must be registered", got=f"{name} version {version}")
            models.append(reference(found))
    for model in models:
        if model.format in _NO_TEXTS:
            remedy = "try a rule set on its own page; ask a head and not its trunk"
            raise RefusedError(409, "a model that answers texts is asked", got=model.format, remedy=remedy)
    found_answers = answers_of(models, request.text)
    return [
        VersionAnswer(version=version, **one.model_dump())
        for version, one in zip(request.versions, found_answers, strict=True)
    ]
