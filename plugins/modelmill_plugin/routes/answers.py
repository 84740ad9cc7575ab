"""A person types a text, or drops a picture, and sees what versions of a model answer."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelmill.registry.versions import reference
from modelmill.serving.answering import ModelAnswer, answers_of
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.mlflow_answers import mlflow_client, registered_version
from modelmill_plugin.routes.models import ModelName
from modelmill_plugin.security import EDIT_ALL

router = APIRouter(tags=["models"])

_NO_ANSWERS = ("rules", "trunk")
MOST_IMAGE_BYTES = 2_900_000
"""In base64 it is a third longer, and fits into the longest body of a request that is taken."""


class AnswerRequest(BaseModel):
    """A text or a picture, and who is asked."""

    model_config = ConfigDict(val_json_bytes="base64")

    text: str | None = Field(None, min_length=1, max_length=20_000)
    image: bytes | None = Field(
        None, min_length=1, max_length=MOST_IMAGE_BYTES, description="The file, in base64: at most 2.9 MB."
    )
    versions: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _is_one_question(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError("either a text or an image is asked about: give one of them")
        return self


class VersionAnswer(ModelAnswer):
    """What a version answers."""

    version: int


# It takes the API server's machine some seconds of work: not for everybody who may look.
@router.post("/models/{name}/answers", dependencies=[EDIT_ALL], responses=error_responses(404, 409))
def answer(name: ModelName, request: AnswerRequest) -> list[VersionAnswer]:
    """Return what versions of a model answer to a text or a picture, in the order of the request.

    They are loaded by a process of its own, one request at a time, within 120 s and 6 GB.
    """
    with mlflow_client() as client:
        models = [reference(registered_version(client, name, version)) for version in request.versions]
    for model in models:
        if model.format in _NO_ANSWERS:
            remedy = "try a rule set on its own page; ask a head and not its trunk"
            raise RefusedError(409, "a model that gives answers is asked", got=model.format, remedy=remedy)
    found_answers = answers_of(models, request.image or request.text or "")
    return [
        VersionAnswer(version=version, **one.model_dump())
        for version, one in zip(request.versions, found_answers, strict=True)
    ]
