"""Count the words of a table's texts, whatever the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acme_mill.count_words import CountWordsRequest, CountWordsResult
from modelmill.jobs import run_as_application
from modelmill.tables.reading import check_columns
from modelmill_jobs.columns import quoted
from modelmill_jobs.reading import read_table
from modelmill_jobs.writing import write_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def main(request: CountWordsRequest, spark: SparkSession) -> CountWordsResult:
    """Count."""
    from pyspark.sql import functions as sql

    rows = read_table(spark, request.table)
    check_columns(rows.columns, [request.text], place=request.table.uri)
    texts = rows.select(quoted(request.text).alias("text"))
    words = texts.select(sql.explode(sql.split("text", " ")).alias("word"))
    table, _ = write_table(
        words.groupBy("word").count(), request.to, mode="overwrite", transaction=request.transaction
    )
    return CountWordsResult(table=table, words=words.count())


if __name__ == "__main__":
    run_as_application(CountWordsRequest, main)
