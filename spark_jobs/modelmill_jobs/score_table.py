"""Score every row of a table with a model."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.serving.scoring import score_batches
from modelmill_jobs.delta_io import json_argument, quoted, read_table, write_table
from modelmill_jobs.sessions import as_application, job_session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TEXT = "_mm_text"


def main(argv: Sequence[str] | None = None, *, spark: SparkSession | None = None) -> dict[str, Any]:
    """Run the job.

    :param argv: arguments; None: the process's own.
    :param spark: session to use; None: see :func:`modelmill.spark.session`.
    :return: ``table``, the numbers of ``rows`` and of ``unscored`` ones, and ``predictions`` by class.
    """
    parser = argparse.ArgumentParser(description="Score a Delta table with a model.")
    parser.add_argument("--table", required=True, help="what to score")
    parser.add_argument("--version", type=int, required=True, help="its version")
    parser.add_argument("--text", required=True, help="column with the text")
    parser.add_argument("--keep", type=json_argument, required=True, help="columns to carry along, JSON")
    parser.add_argument("--bundle", required=True, help="the model's folder")
    parser.add_argument("--model", required=True, help="the model's reference, JSON")
    parser.add_argument("--tracking-uri", default="", help="MLflow server, for workers without that folder")
    parser.add_argument("--to", required=True, help="the scored table")
    parser.add_argument("--transaction", required=True, help="id under which the result is committed once")
    job = parser.parse_args(argv)
    with job_session(spark) as session:
        source = read_table(session, TableRef(uri=job.table, version=job.version))
        table, _ = write_table(
            _scored(source, job),
            job.to,
            mode="overwrite",
            transaction=job.transaction,
            metadata={"operation": "score_table", "source": f"{job.table}@{job.version}"},
        )
        counts = read_table(session, table).groupBy("prediction").count().collect()
    predictions = {row[0]: int(row[1]) for row in sorted(counts, key=lambda row: str(row[0]))}
    unscored = predictions.pop(None, 0)
    return {
        "table": table.model_dump(mode="json"),
        "rows": sum(predictions.values()) + unscored,
        "unscored": unscored,
        "predictions": predictions,
    }


def _scored(source: DataFrame, job: argparse.Namespace) -> DataFrame:
    from pyspark.sql.types import FloatType, StringType, StructType

    kept = source.select(*(quoted(name) for name in job.keep))
    schema = (
        StructType(list(kept.schema.fields))
        .add("prediction", StringType())
        .add("score", FloatType())
        .add("model", StringType())
    )
    rows = source.select(*(quoted(name) for name in job.keep), quoted(job.text).cast("string").alias(_TEXT))
    score = functools.partial(
        score_batches, folder=job.bundle, model=job.model, tracking_uri=job.tracking_uri
    )
    return rows.mapInArrow(score, schema)


if __name__ == "__main__":
    as_application(main)
