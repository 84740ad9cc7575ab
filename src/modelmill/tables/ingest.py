"""Loading files into a Delta table, each exactly once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from modelmill.artifacts import TableRef
from modelmill.jobs import JobRequest, JobResult
from modelmill.options import Options
from modelmill.tables.expressions import RowExpression
from modelmill.tables.source_files import list_files


class IngestOptions(Options):
    """Which files to load into which table, and how to read them."""

    source: str = Field(description="Path or glob of the files, such as /landing/news/*.jsonl.")
    to: str = Field(description="Path or URI of the Delta table; made if it does not exist.")
    format: Literal["json", "csv", "parquet"] = Field("json", description="Format of the files.")
    options: dict[str, str] = Field(default={}, description="Options of Spark's reader, such as {sep: ';'}.")
    select: dict[str, RowExpression] = Field(
        default={}, description="Columns of the table: name to Spark SQL expression. Empty: as in the files."
    )
    where: RowExpression | None = Field(
        None, description="Spark SQL condition that a row must meet; empty: all rows."
    )

    @field_validator("options")
    @classmethod
    def _name_no_places(cls, options: dict[str, str]) -> dict[str, str]:
        places = sorted(name for name in options if name.lower() in ("path", "paths", "badrecordspath"))
        if places:
            raise ValueError(f"the reader's options name no files; got {places[0]}; say it by source")
        return options


class IngestResult(JobResult):
    """What was loaded."""

    table: TableRef
    """The table at its newest version, whoever wrote it."""
    files_found: int
    files: int
    """Files that had not been loaded before."""
    rows: int
    """Rows in those files that meet the condition."""


class IngestRequest(IngestOptions, JobRequest[IngestResult]):
    """Load files into a Delta table, each exactly once."""

    job = "ingest"


def source_fingerprint(options: IngestOptions, *, memory: Path | None = None) -> str:
    """Return a digest of the files: loading is due again when it has changed.

    The table is no part of it, so that an attempt that dies after its commit has the key of the next one.

    :param options: which files.
    :param memory: see :func:`modelmill.system.digests.file_digests`.
    :return: SHA-256 over the names, sizes and contents of the files.
    :raises TableError: if the files cannot be read.
    """
    content = [[file.path, file.size, file.digest] for file in list_files(options.source, memory=memory)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
