"""Score every row of a table with a model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelmill.jobs import run_as_application
from modelmill.serving.scoring import ScoreTableRequest, ScoreTableResult, kept_columns, score_batches
from modelmill_jobs.columns import quoted
from modelmill_jobs.engine_errors import as_input_error
from modelmill_jobs.reading import read_table
from modelmill_jobs.writing import write_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_TEXT = "_mm_text"
_TYPES = {"text": "string", "image": "binary"}


def main(request: ScoreTableRequest, spark: SparkSession) -> ScoreTableResult:
    """Score a table.

    :param request: the table, the model and the place.
    :param spark: session to use.
    :return: the scored table, and rows by prediction.
    :raises TableError: if the engine cannot read the table: a text that is not UTF-8, say.
    """
    with as_input_error("the table must be readable", got=str(request.table)):
        table, _ = write_table(
            _scored(read_table(spark, request.table), kept_columns(request), request),
            request.to,
            mode="overwrite",
            transaction=request.transaction,
            metadata={"operation": "score_table", "source": str(request.table)},
        )
    counted = _counted(read_table(spark, table), request)
    if request.content == "image" and counted["unscored"]:
        counted["unreadable"] = counted["unscored"] - _without_content(
            read_table(spark, request.table), request
        )
    return ScoreTableResult(table=table, **counted)


def _without_content(source: DataFrame, request: ScoreTableRequest) -> int:
    """Return in how many rows there is nothing to read."""
    from pyspark.sql import functions as sql

    size = sql.length(quoted(request.text).cast(_TYPES[request.content]))
    return source.where(size.isNull() | (size == 0)).count()


def _counted(scored: DataFrame, request: ScoreTableRequest) -> dict[str, Any]:
    """Return what a scored table holds, see :class:`ScoreTableResult`."""
    from pyspark.sql import functions as sql

    prediction = sql.col("prediction")
    numbers = request.answer_type == "double"
    figures = [sql.min(prediction), sql.mean(prediction), sql.max(prediction)] if numbers else []
    ((rows, answered, *found),) = scored.agg(sql.count(sql.lit(1)), sql.count(prediction), *figures).collect()
    counted: dict[str, Any] = {"rows": rows, "unscored": rows - answered}
    if numbers:
        return {
            **counted,
            "numbers": dict(zip(("min", "mean", "max"), found, strict=True)) if answered else {},
        }
    name = sql.explode(prediction) if request.answer_type == "array<string>" else prediction
    classes = scored.select(name.alias("name")).where("name IS NOT NULL").groupBy("name").count().collect()
    return {**counted, "predictions": {name: int(count) for name, count in sorted(map(tuple, classes))}}


def _scored(source: DataFrame, keep: Sequence[str], request: ScoreTableRequest) -> DataFrame:
    from pyspark.sql.types import ArrayType, DoubleType, StringType, StructType

    types = {"string": StringType(), "array<string>": ArrayType(StringType()), "double": DoubleType()}
    kept = [quoted(name) for name in keep]
    schema = (
        StructType(list(source.select(*kept).schema.fields))
        .add("prediction", types[request.answer_type])
        .add("score", DoubleType())
        .add("model", StringType())
    )
    rows = source.select(*kept, quoted(request.text).cast(_TYPES[request.content]).alias(_TEXT))
    return rows.mapInArrow(functools.partial(score_batches, request=request), schema)


if __name__ == "__main__":
    run_as_application(ScoreTableRequest, main)
