"""Label the rows of a table by rules: votes, a label model, labels, and the rows that a person should see.

The table is read three times and never collected: for the counts of the patterns of votes, from which the
label models are fitted on the driver; for the labels; and for the rows to review. The functions are evaluated
each time, which costs less than storing their votes.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.errors import DatasetError
from modelmill.jobs import run_as_application
from modelmill.labels.labelling import LabelRowsRequest, LabelRowsResult, columns_read, labelling_of
from modelmill.labels.models import fit_majority_vote, fit_weighted
from modelmill.labels.options import LabellingOptions
from modelmill.labels.report import LabelReport, choose_model, disagree, function_reports, model_report
from modelmill.labels.rows import REASONS, Labelling, label_batches, review_batches, vote_batches
from modelmill.labels.votes import VoteCounts
from modelmill_jobs.columns import quoted
from modelmill_jobs.engine_errors import as_input_error
from modelmill_jobs.reading import read_table
from modelmill_jobs.writing import checked_rows, write_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

MOST_PATTERNS = 200_000
"""Patterns of votes that the models are fitted from, the most frequent ones."""

_GOLD = "_mm_gold"


def main(request: LabelRowsRequest, spark: SparkSession) -> LabelRowsResult:
    """Label a table.

    :param request: the table, the functions and the place.
    :param spark: session to use.
    :return: both tables, and how the functions did.
    :raises DatasetError: if no function votes on any row; nothing is written.
    :raises TableError: if the engine cannot read the table: a text that is not UTF-8, say.
    """
    with as_input_error("the table must be readable", got=str(request.table)):
        return _labelled(request, spark)


def _labelled(request: LabelRowsRequest, spark: SparkSession) -> LabelRowsResult:
    options, source = request.options, request.table
    about = {"operation": "label_rows", "source": str(source)}
    raw = read_table(spark, source)
    total = raw.count()
    plan = labelling_of(options)
    counts = _count_votes(_with_gold(raw, columns_read(options, source), options), plan)
    _check_votes(counts, total, source)
    report, plan = _fitted(counts, options, plan)
    rows = _with_gold(raw, raw.columns, options)
    table, written = write_table(
        rows.mapInArrow(*_step(label_batches, plan, _labelled_schema(raw, plan))),
        request.to,
        mode="overwrite",
        transaction=request.transaction,
        metadata=about,
    )
    checked_rows(total, written, what=request.to)
    disagreements, _ = write_table(
        _review(rows, raw.columns, plan, most=options.review_rows),
        request.disagreements,
        mode="overwrite",
        transaction=request.transaction,
        metadata=about,
    )
    report |= _outcome(read_table(spark, table), read_table(spark, disagreements), plan)
    checked_rows(total, report["rows"], what=request.to)
    return LabelRowsResult(
        table=table, disagreements=disagreements, report=LabelReport(source=str(source), **report)
    )


def _with_gold(raw: DataFrame, names: Sequence[str], options: LabellingOptions) -> DataFrame:
    """Select columns, and the gold label as text after them."""
    from pyspark.sql import functions as sql

    gold = quoted(options.gold) if options.gold else sql.lit(None)
    return raw.select(*(quoted(name) for name in names), gold.cast("string").alias(_GOLD))


def _step(
    function: Callable[..., Any], plan: Labelling, schema: StructType
) -> tuple[Callable[..., Any], StructType]:
    return functools.partial(function, labelling=plan), schema


def _count_votes(rows: DataFrame, plan: Labelling) -> VoteCounts:
    """Count the rows of each pattern of votes and gold label: all that reaches the driver."""
    from pyspark.sql import functions as sql
    from pyspark.sql.types import StringType, StructType

    schema = StructType().add("pattern", StringType()).add("gold", StringType())
    votes = rows.mapInArrow(*_step(vote_batches, plan, schema))
    counted = votes.groupBy("pattern", "gold").count()
    most = counted.orderBy(sql.col("count").desc(), "pattern", "gold").limit(MOST_PATTERNS)
    return VoteCounts.of(plan.functions, [(row[0], row[1], int(row[2])) for row in most.collect()])


def _check_votes(counts: VoteCounts, total: int, source: TableRef) -> None:
    if total == 0:
        raise DatasetError("a table to label must have rows", got=str(source), remedy="see what fills it")
    if not counts.fired.any():
        raise DatasetError(
            f"a labelling function must vote on a row of {source}",
            got=f"no vote on {total:,} rows",
            remedy="check the conditions: where one is NULL or false, it does not vote",
        )


def _fitted(
    counts: VoteCounts, options: LabellingOptions, plan: Labelling
) -> tuple[dict[str, Any], Labelling]:
    """Fit both models and choose one; return that part of the report, and the plan with the model."""
    majority = fit_majority_vote(counts)
    weighted = fit_weighted(counts, balance=options.class_balance)
    model, reason, difference = choose_model(counts, majority, weighted, wanted=options.model)
    known = int(counts.rows.sum())
    several, differing = counts.fired.sum(axis=1) > 1, disagree(counts)
    gold = sorted({label for _, label in counts.gold})
    report = {
        "coverage": float(counts.rows[counts.fired.any(axis=1)].sum() / known),
        "overlaps": float(counts.rows[several].sum() / known),
        "conflicts": float(counts.rows[differing].sum() / known),
        "rows_counted": known,
        "functions": function_reports(counts, weighted),
        "models": tuple(
            model_report(counts, one, threshold=options.threshold) for one in (majority, weighted)
        ),
        "difference": difference,
        "model": model.name,
        "reason": reason,
        "gold_without_functions": tuple(sorted(set(gold) - set(plan.labels))),
        "functions_without_gold": tuple(sorted(set(plan.labels) - set(gold))) if gold else (),
    }
    return report, plan.model_copy(update={"model": model})


def _labelled_schema(raw: DataFrame, plan: Labelling) -> StructType:
    from pyspark.sql.types import DoubleType, StringType, StructType

    label, source, probability = plan.label_columns()
    kept = [field for field in raw.schema.fields if field.name != label]
    schema = StructType(kept).add(label, StringType()).add(source, StringType())
    return schema.add(probability, DoubleType())


def _review(rows: DataFrame, names: Sequence[str], plan: Labelling, *, most: int) -> DataFrame:
    """Return the rows to review: where gold and functions differ first, then the least certain."""
    from pyspark.sql import Window
    from pyspark.sql import functions as sql
    from pyspark.sql.types import DoubleType, MapType, StringType, StructType

    suggested, probability, votes, reason, uncertain = plan.review_columns()
    fields = [field for field in rows.schema.fields if field.name != _GOLD]
    schema = StructType(fields).add(suggested, StringType()).add(probability, DoubleType())
    schema = schema.add(votes, MapType(StringType(), StringType())).add(reason, StringType())
    found = rows.mapInArrow(*_step(review_batches, plan, schema.add(uncertain, DoubleType())))
    # Equally useful rows are ordered by a hash of their content, which does not depend on the partitions.
    content = sql.sha2(sql.to_json(sql.struct(*(quoted(name) for name in sorted(names)))), 256)
    found = found.withColumn("_mm_order", content)
    order = [(quoted(reason) == REASONS[0]).desc(), quoted(uncertain).desc(), sql.col("_mm_order")]
    found = found.orderBy(*order).limit(most)
    # One partition for the few rows that are left.
    place = sql.row_number().over(Window.partitionBy(sql.lit(0)).orderBy(*order))
    ranked = found.withColumn(plan.rank_column, place)
    return ranked.drop("_mm_order").repartition(1).sortWithinPartitions(plan.rank_column)


def _outcome(labelled: DataFrame, review: DataFrame, plan: Labelling) -> dict[str, Any]:
    """Count what was written."""
    label, source, _ = plan.label_columns()
    by_source: Counter[str | None] = Counter()
    by_label: Counter[str] = Counter()
    for row in labelled.groupBy(quoted(label), quoted(source)).count().collect():
        by_source[row[1]] += int(row[2])
        if row[0] is not None:
            by_label[row[0]] += int(row[2])
    reasons = review.groupBy(quoted(plan.review_columns()[3])).count().collect()
    return {
        "rows": by_source.total(),
        "rows_gold": by_source["gold"],
        "rows_by_rule": by_source["rule"],
        "rows_unlabelled": by_source[None],
        "labels": dict(sorted(by_label.items())),
        "review": dict(sorted((row[0], int(row[1])) for row in reasons)),
    }


if __name__ == "__main__":
    run_as_application(LabelRowsRequest, main)
