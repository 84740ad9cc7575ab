"""What every Spark job that makes a table of a table is asked."""

from __future__ import annotations

from uuid import uuid4

from pydantic import Field

from modelmill.artifacts import TableRef
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
