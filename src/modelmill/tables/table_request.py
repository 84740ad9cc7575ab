"""What every Spark job that makes a table of a table is asked."""

from __future__ import annotations

from typing import Self
from uuid import uuid4

from pydantic import Field, model_validator

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError
from modelmill.jobs import JobRequest, ResultT
from modelmill.tables.storage import TableLocation


class TableRequest(JobRequest[ResultT]):
    """Base of requests for jobs that read one table and write another."""

    table: TableRef = Field(description="Table to read, at a version.")
    to: TableLocation = Field(description="Table to write; each request makes a new version.")
    transaction: str = Field(
        default_factory=lambda: uuid4().hex,
        description="Id under which the result is committed once: a retry has the same. Empty: a new one.",
    )

    @model_validator(mode="after")
    def _not_over_its_source(self) -> Self:
        if self.to == self.table.uri:
            raise ConfigError(
                "a table is not written over its source", got=self.to, remedy="name another table"
            )
        return self
