"""Score every row of a table with a model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelmill.jobs import run_as_application
from modelmill.serving.scoring import ScoreTableRequest, ScoreTableResult, kept_columns, score_batches
from modelmill_jobs.columns import quoted
from modelmill_jobs.reading import read_table
from modelmill_jobs.writing import write_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TEXT = "_mm_text"


def main(request: ScoreTableRequest, spark: SparkSession) -> ScoreTableResult:
    """Score a table.

    :param request: the table, the model and the place.
    :param spark: session to use.
    :return: the scored table, and rows by prediction.
    """
    table, _ = write_table(
        _scored(read_table(spark, request.table), kept_columns(request), request),
        request.to,
        mode="overwrite",
        transaction=request.transaction,
        metadata={"operation": "score_table", "source": str(request.table)},
    )
    counts = read_table(spark, table).groupBy("prediction").count().collect()
    predictions = {row[0]: int(row[1]) for row in sorted(counts, key=lambda row: str(row[0]))}
    unscored = predictions.pop(None, 0)
    rows = sum(predictions.values()) + unscored
    return ScoreTableResult(table=table, rows=rows, unscored=unscored, predictions=predictions)


def _scored(source: DataFrame, keep: Sequence[str], request: ScoreTableRequest) -> DataFrame:
    from pyspark.sql.types import FloatType, StringType, StructType

    kept = [quoted(name) for name in keep]
    schema = (
        StructType(list(source.select(*kept).schema.fields))
        .add("prediction", StringType())
        .add("score", FloatType())
        .add("model", StringType())
    )
    rows = source.select(*kept, quoted(request.text).cast("string").alias(_TEXT))
    return rows.mapInArrow(functools.partial(score_batches, request=request), schema)


if __name__ == "__main__":
    run_as_application(ScoreTableRequest, main)
