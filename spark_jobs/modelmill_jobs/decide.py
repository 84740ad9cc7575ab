"""Decide on every row of a table by a rule set."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from modelmill.artifacts import TableRef
from modelmill.rules.lifecycle.table_decisions import (
    Deciding,
    check_keys,
    commit_metadata,
    decide_batches,
    output_schema,
)
from modelmill.tables.reading import open_table
from modelmill_jobs.delta_io import checked_rows, quoted, read_table, write_table
from modelmill_jobs.sessions import as_application, job_session
from modelmill_jobs.staging import mapped, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_SHOWN_KEYS = 5


def main(argv: Sequence[str] | None = None, *, spark: SparkSession | None = None) -> dict[str, Any]:
    """Run the job.

    :param argv: arguments; None: the process's own.
    :param spark: session to use; None: see :func:`modelmill.spark.session`.
    :return: ``table`` and the number of ``rows``.
    :raises TableError: if a key is missing or not unique; nothing is written.
    """
    parser = argparse.ArgumentParser(description="Decide on the rows of a Delta table by a rule set.")
    parser.add_argument("--table", required=True, help="what to decide on")
    parser.add_argument("--version", type=int, required=True, help="its version")
    parser.add_argument("--deciding", required=True, help="rule set, pinned models and plan, JSON")
    parser.add_argument("--tracking-uri", default="", help="MLflow server, for workers without the models")
    parser.add_argument("--to", required=True, help="the decisions")
    parser.add_argument("--transaction", required=True, help="id under which the result is committed once")
    job = parser.parse_args(argv)
    deciding = Deciding.model_validate_json(job.deciding)
    source = TableRef(uri=job.table, version=job.version)
    engine = deciding.engine(pa.schema(open_table(source.uri, version=source.version).schema().to_arrow()))
    schema = output_schema(engine, deciding)
    with job_session(spark) as session:
        rows = read_table(session, source).select(*(quoted(name) for name in deciding.read(engine)))
        total = _checked_keys(rows, deciding.rule_set.key, source)
        work = functools.partial(_decide, deciding=job.deciding, tracking_uri=job.tracking_uri)
        table, written = write_table(
            mapped(rows, work, spark_schema(schema)),
            job.to,
            mode="overwrite",
            transaction=job.transaction,
            metadata=commit_metadata(deciding, source),
        )
    checked_rows(total, written, what=job.to)
    return {"table": table.model_dump(mode="json"), "rows": total}


def _checked_keys(rows: DataFrame, key: str, source: TableRef) -> int:
    """Return the number of rows, after their keys have been found to be there and unique."""
    from pyspark.sql import functions as sql

    column = quoted(key)
    total, present, distinct = rows.agg(
        sql.count(sql.lit(1)), sql.count(column), sql.countDistinct(column)
    ).collect()[0]
    repeated: list[Any] = []
    if distinct < present:
        counts = rows.where(column.isNotNull()).groupBy(column).count()
        repeated = [row[0] for row in counts.where("count > 1").limit(_SHOWN_KEYS).collect()]
    check_keys(total - present, repeated, key=key, table=source)
    return int(total)


def _decide(batches: Any, *, deciding: str, tracking_uri: str) -> Any:
    if tracking_uri:
        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri)
    return decide_batches(batches, deciding=deciding)


if __name__ == "__main__":
    as_application(main)
