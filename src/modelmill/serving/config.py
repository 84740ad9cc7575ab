"""What a service serves, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from modelmill.errors import ConfigError, did_you_mean
from modelmill.options import Record


class ServeConfig(Record):
    """What a service serves, and its limits."""

    service: str = Field(
        "main", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="Name that deploy steps know it by."
    )
    models: tuple[str, ...] = Field(
        (), description="Registered models to serve; empty: what deploy steps say."
    )
    rules: str | None = Field(
        None,
        description="Rule set for /v1/decide, read at the start: a path or models:/NAME@ALIAS; empty: none.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    poll_seconds: float = Field(2.0, gt=0, description="Seconds between two looks at the registry.")
    threads: int | None = Field(
        None, ge=1, description="Threads that score; empty: one per core that the process may use."
    )
    queue_rows: int = Field(1000, ge=1, description="Rows that may wait; beyond that requests are refused.")
    batch_rows: int = Field(32, ge=1, description="Rows that a thread takes at a time, at most.")
    request_rows: int = Field(256, ge=1, description="Rows of one request, at most; never over queue_rows.")
    body_bytes: int = Field(1_000_000, ge=1000, description="Size of a request's body, at most.")
    header_bytes: int = Field(16_384, ge=1024, description="Size of a request's head, at most.")
    header_seconds: float = Field(
        10.0, gt=0, description="Seconds for a request's head, counted from when the connection is there."
    )
    body_seconds: float = Field(30.0, gt=0, description="Seconds for a request's body.")
    connections: int = Field(
        500, ge=1, description="Open connections; beyond that the one that has been idle longest is closed."
    )
    leave_seconds: float = Field(
        5.0,
        ge=0,
        description="Seconds after SIGTERM in which requests are still taken, while /readyz says no: whoever "
        "spreads the requests has to notice.",
    )
    finish_seconds: int = Field(30, ge=1, description="Seconds for requests in flight after that.")
    shadow_table: str | None = Field(
        None, description="Delta table for the comparisons with challengers; empty: HOME/shadow/SERVICE."
    )


def serve_config(given: Mapping[str, Any]) -> ServeConfig:
    """Return a configuration.

    :param given: values by name; texts are read as what they stand for.
    :return: the configuration.
    :raises ConfigError: naming the first setting that is wrong.
    """
    try:
        return ServeConfig.model_validate(given)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = ".".join(map(str, detail["loc"]))
        remedy = did_you_mean(name, ServeConfig.model_fields) if detail["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{name}: {detail['msg']}", got=detail["input"], remedy=remedy) from error
