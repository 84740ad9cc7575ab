"""The service's responses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from modelmill.options import Record


class Answer(Record):
    """The answer of one signal for one row: the columns of MLflow's ``python_function``."""

    prediction: str | list[str] | float | None = Field(
        description="The class, the list of classes, or the number; null without a text."
    )
    score: float | None = Field(
        description="Probability of the class, or of the likeliest one, from 0 to 1; the number itself; null "
        "without a text."
    )


class AnsweredBy(Record):
    """The version that answered a signal, for every row of the request."""

    version: int = Field(description="Version of the registered model.")
    digest: str = Field(description="SHA-256 over the version's files.")


class PredictResponse(Record):
    """The answers, and the versions that gave them."""

    rows: list[dict[str, Answer]] = Field(description="For each row the answers by signal.")
    models: dict[str, AnsweredBy] = Field(description="For each signal the version that answered.")


class DecideResponse(Record):
    """The decisions."""

    rows: list[dict[str, Any]] = Field(
        description="For each row: the key, decision, rule, severity, reason, because, rule_set, and the "
        "explanation if it was asked for."
    )


class ModelState(Record):
    """The version of a registered model that a service has, and the one that it should have."""

    name: str
    state: Literal["ready", "stale", "missing"] = Field(
        description="ready: the champion answers; stale: the champion could not be loaded, so the version "
        "before it answers; missing: no version answers."
    )
    version: int | None = Field(description="Version that answers; null if none does.")
    digest: str | None = Field(description="SHA-256 over its files; null if none answers.")
    champion: int | None = Field(description="Version that the alias points at; null if there is none.")
    challenger: int | None = Field(description="Version that is scored beside it; null if none is.")
    error: str | None = Field(
        description="Why it does not have the version that it should have; null if it has."
    )
    refused: bool = Field(description="Whether the same version would be refused again: a retry cannot help.")


class ServiceState(Record):
    """Whether the service can answer, and with which models."""

    ready: bool = Field(
        description="Whether every model that should be served answered, once since the start."
    )
    error: str | None = Field(description="Why the service does not know what to serve; null if it does.")
    models: list[ModelState]


class ErrorMessage(Record):
    """Why a request was not answered."""

    detail: str = Field(description="The rule, the value that breaks it, and the remedy.")
