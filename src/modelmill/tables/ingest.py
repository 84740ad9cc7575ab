"""Loading files into a Delta table, each exactly once."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.jobs import JobRequest, JobResult
from modelmill.options import Options
from modelmill.tables.opening import open_table
from modelmill.tables.source_files import list_files
from modelmill.tables.storage import table_exists


class IngestOptions(Options):
    """Which files to load into which table, and how to read them."""

    source: str = Field(description="Path or glob of the files, such as /landing/news/*.jsonl.")
    to: str = Field(description="Path or URI of the Delta table; made if it does not exist.")
    format: Literal["json", "csv", "parquet"] = Field("json", description="Format of the files.")
    options: dict[str, str] = Field(default={}, description="Options of Spark's reader, such as {sep: ';'}.")
    select: dict[str, str] = Field(
        default={}, description="Columns of the table: name to Spark SQL expression. Empty: as in the files."
    )
    where: str | None = Field(None, description="Spark SQL condition that a row must meet; empty: all rows.")


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


def source_fingerprint(options: IngestOptions) -> str:
    """Return a digest of the files and of the table's version: loading is due again when it has changed.

    :param options: which files and which table.
    :return: SHA-256 over the names, sizes and contents of the files, and the table's newest version.
    :raises TableError: if the files or the table cannot be read.
    """
    version = open_table(options.to).version() if table_exists(options.to) else None
    content = [[file.path, file.size, file.digest] for file in list_files(options.source)]
    return hashlib.sha256(json.dumps([content, version]).encode()).hexdigest()
