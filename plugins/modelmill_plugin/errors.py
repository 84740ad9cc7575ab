"""Every error response has one shape, whoever refused: modelmill, Airflow or the framework."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic_core import PydanticSerializationError
from starlette.exceptions import HTTPException

from modelmill.documents.versions import ConflictError, NotFoundError, difference
from modelmill.errors import DocumentError, ModelmillError, Problem, StoreError, TransientError, shorten
from modelmill.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable


HEADERS = {
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
API_HEADERS = {
    **HEADERS,
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every response but static files."""


class ProblemView(BaseModel):
    """One thing that is wrong with a pipeline."""

    line: int = Field(description="Line in the text, from 1; 0 if it has none.")
    column: int = Field(description="Column in the text, from 1; 0 if it has none.")
    path: str = Field(description="Dotted place in the document.")
    step: str | None = Field(description="Step that it is about; null for the pipeline as a whole.")
    field: str | None = Field(
        description="Place within the step, such as config.layers or inputs.model; within the pipeline, if "
        "there is no step. Null: all of it."
    )
    message: str = Field(description="Rule, value and remedy in one line.")


class Conflict(BaseModel):
    """What somebody else has saved meanwhile."""

    author: str
    text: str | None = Field(description="The pipeline's present text; null: it has been deleted.")
    etag: str | None = Field(description="For If-Match, to save over it.")
    diff: str = Field(description="Unified diff from the present text to the one that was sent.")


class ErrorBody(BaseModel):
    """Why a request was refused."""

    kind: str = Field(description="Class of the error, such as ConflictError.")
    message: str = Field(description="Rule, value and remedy in one line.")
    rule: str
    got: str | None = None
    remedy: str = ""
    retry: bool = Field(False, description="Whether the same request may go through later.")
    problems: list[ProblemView] = []
    conflict: Conflict | None = None


class RefusedError(ModelmillError):
    """A request that cannot be followed, with its HTTP status.

    :param status: the HTTP status.
    :param rule: what has to hold.
    :param got: the value that breaks the rule.
    :param remedy: what to do about it.
    """

    retryable = False

    def __init__(self, status: int, rule: str, *, got: object = None, remedy: str = "") -> None:
        super().__init__(rule, got=got, remedy=remedy)
        self.status = status


def problem_views(problems: Iterable[Problem]) -> list[ProblemView]:
    """Return problems with the step and the field that they are about.

    :param problems: as validation lists them.
    :return: the same, in the same order.
    """
    views = []
    for problem in problems:
        inside = re.match(r"steps\.([^.]+)(?:\.(.+))?$", problem.path)
        step, field = (inside[1], inside[2]) if inside else (None, problem.path or None)
        views.append(
            ProblemView(
                line=problem.line,
                column=problem.column,
                path=problem.path,
                step=step,
                field=field,
                message=problem.message,
            )
        )
    return views


def install_handlers(app: FastAPI) -> None:
    """Make every error of an app an :class:`ErrorBody`."""

    @app.exception_handler(ModelmillError)
    def own(_request: Request, error: ModelmillError) -> JSONResponse:
        return _answer(_status(error), _body(error))

    @app.exception_handler(HTTPException)
    def http(_request: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail if isinstance(error.detail, str) else str(error.detail)
        return _answer(error.status_code, ErrorBody(kind="HTTPException", message=detail, rule=detail))

    @app.exception_handler(ModuleNotFoundError)
    def missing(_request: Request, error: ModuleNotFoundError) -> JSONResponse:
        rule = f"the API server must have the package {error.name} for this"
        remedy = "install modelmill[airflow,data,track] where it runs"
        body = ErrorBody(kind="ConfigError", message=f"{rule}; {remedy}", rule=rule, remedy=remedy)
        return _answer(503, body)

    @app.exception_handler(UnicodeEncodeError)
    @app.exception_handler(PydanticSerializationError)
    def no_text(_request: Request, _error: Exception) -> JSONResponse:
        # JSON can say half of a character, which no file can.
        rule = "every text must be Unicode"
        return _answer(422, ErrorBody(kind="RequestError", message=rule, rule=rule))

    @app.exception_handler(Exception)
    def unexpected(_request: Request, error: Exception) -> JSONResponse:
        # The API server's log has the error and its place; a caller does not see internals.
        rule = f"the API server must not fail ({type(error).__name__})"
        answer = _answer(500, ErrorBody(kind="InternalError", message=rule, rule=rule, remedy="see its log"))
        # Starlette gives this answer outside of every middleware.
        answer.headers.update(API_HEADERS)
        return answer

    @app.exception_handler(RequestValidationError)
    def validation(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        rule = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        got = shorten(first.get("input"))
        message = f"{rule}; got {got}"
        return _answer(422, ErrorBody(kind="RequestError", message=message, rule=rule, got=got))


def error_responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the error responses of a route for OpenAPI.

    :param *statuses: those that are the route's own; 401, 403, 422 and 503 go without saying.
    :return: for the parameter ``responses`` of a route.
    """
    return {status: {"model": ErrorBody} for status in (401, 403, 422, 503, *statuses)}


def _status(error: ModelmillError) -> int:
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, ConflictError):
        return 409
    if isinstance(error, NotFoundError):
        return 404
    # A store that is read-only is the deployment's fault, as one that does not answer is.
    return 503 if isinstance(error, TransientError | StoreError) else 422


def _body(error: ModelmillError) -> ErrorBody:
    conflict = None
    if isinstance(error, ConflictError):
        text = error.current.file.text if error.current else None
        conflict = Conflict(
            author=error.author,
            text=text,
            etag=error.current.etag if error.current else None,
            diff=difference(text or "", error.text, before_name="saved", after_name="yours"),
        )
    return ErrorBody(
        kind=type(error).__name__,
        message=str(error),
        rule=error.rule,
        got=None if error.got is None else shorten(error.got),
        remedy=error.remedy,
        retry=error.retryable,
        problems=problem_views(error.problems) if isinstance(error, DocumentError) else [],
        conflict=conflict,
    )


def _answer(status: int, body: ErrorBody) -> JSONResponse:
    """Return a refusal without secrets: of the deployment's URIs and parameters a caller is told the rest.

    The problems and the conflict are about a document's text, which the caller reads anyway.
    """
    named = ((name, getattr(body, name)) for name in ("message", "rule", "got", "remedy"))
    said = {name: None if text is None else redacted(text) for name, text in named}
    return JSONResponse(body.model_copy(update=said).model_dump(mode="json"), status_code=status)
