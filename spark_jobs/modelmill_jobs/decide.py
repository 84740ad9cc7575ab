"""Decide on every row of a table by a rule set."""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.jobs import run_as_application
from modelmill.rules.lifecycle.table_decider import decide_partition
from modelmill.rules.lifecycle.table_decisions import DecideResult, DecideTableRequest, check_keys
from modelmill.tables.opening import table_schema
from modelmill_jobs.columns import quoted
from modelmill_jobs.engine_errors import as_input_error, is_memory_full
from modelmill_jobs.reading import read_table
from modelmill_jobs.staging import map_batches, spark_schema
from modelmill_jobs.writing import checked_rows, write_table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_SHOWN_KEYS = 5
_KEYS_AT_ONCE = 2_000_000
"""Keys that the embedded engine groups at a time, where it cannot hold all."""


def main(request: DecideTableRequest, spark: SparkSession) -> DecideResult:
    """Decide on a table.

    :param request: the table, what decides, and the place.
    :param spark: session to use.
    :return: the decisions, and how many rows they are.
    :raises TableError: if a key is missing or not unique, or the engine cannot read the table; nothing is
        written.
    """
    with as_input_error("the table must be readable", got=str(request.table)):
        return _decided(request, spark)


def _decided(request: DecideTableRequest, spark: SparkSession) -> DecideResult:
    decider, source = request.decider, request.table
    engine = decider.engine(table_schema(source))
    schema = decider.output_schema(engine)
    rows = read_table(spark, source).select(*(quoted(name) for name in decider.columns(engine)))
    total = _checked_keys(rows, decider.rule_set.key, source)
    work = functools.partial(_decide, decider=decider.model_dump_json(), tracking_uri=request.tracking_uri)
    table, written = write_table(
        map_batches(rows, work, spark_schema(schema)),
        request.to,
        mode="overwrite",
        transaction=request.transaction,
        metadata=decider.commit_metadata(source),
    )
    checked_rows(total, written, what=request.to)
    return DecideResult(table=table, rows=total)


def _checked_keys(rows: DataFrame, key: str, source: TableRef) -> int:
    """Return the number of rows, after their keys have been found to be there and unique."""
    from pyspark.sql import functions as sql

    column = quoted(key)
    try:
        total, present, repeated = _counted(rows, column)
    except Exception as error:
        if not is_memory_full(error):  # the embedded engine holds all keys that it groups
            raise
        present = rows.where(column.isNotNull()).count()
        parts, repeated = math.ceil(present / _KEYS_AT_ONCE), []
        for part in range(parts):
            own = rows.where(sql.pmod(sql.xxhash64(column), sql.lit(parts)) == part)
            repeated += _counted(own, column)[2]
        total = rows.count()
    check_keys(total - present, repeated[:_SHOWN_KEYS], key=key, table=source)
    return total


def _counted(rows: DataFrame, column: Column) -> tuple[int, int, list[Any]]:
    """Return how many rows there are, how many of them have a key, and some keys of several rows."""
    from pyspark.sql import functions as sql

    total, present, distinct = rows.agg(
        sql.count(sql.lit(1)), sql.count(column), sql.countDistinct(column)
    ).collect()[0]
    if distinct == present:
        return int(total), int(present), []
    counts = rows.where(column.isNotNull()).groupBy(column).count()
    repeated = [row[0] for row in counts.where("count > 1").limit(_SHOWN_KEYS).collect()]
    return int(total), int(present), repeated


def _decide(batches: Any, *, decider: str, tracking_uri: str) -> Any:
    if tracking_uri:
        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri)
    return decide_partition(batches, decider=decider)


if __name__ == "__main__":
    run_as_application(DecideTableRequest, main)
