"""Make a dataset of a table: checked, deduplicated, split; refused rows are quarantined with their reason.

Every row of the source ends in exactly one of these states: kept, quarantined, duplicate, leak. Rows that a
shipped test split has are kept, all of them, as long as they can be used at all: a benchmark stays standard.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.data.components import BuildDatasetConfig
from modelmill.data.dataset import (
    BLANKS,
    KEY_COLUMN,
    REASON_COLUMN,
    SPLIT_COLUMN,
    SPLITS,
    DatasetReport,
    kept_columns,
)
from modelmill_jobs.dataset_checks import check_balance, check_counts, lacking_classes
from modelmill_jobs.delta_io import checked_rows, quoted, read_table, write_table
from modelmill_jobs.sessions import as_application, job_session

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

ROWS_PER_FILE = 1_000_000

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_HASH_DIGITS = 13
"""Hexadecimal digits of a hash that make a share: 52 bits, which a double holds exactly."""


def main(argv: Sequence[str] | None = None, *, spark: SparkSession | None = None) -> dict[str, Any]:
    """Run the job.

    :param argv: arguments; None: the process's own.
    :param spark: session to use; None: see :func:`modelmill.data.spark.session`.
    :return: ``dataset``, ``quarantine`` and ``report``.
    :raises DatasetError: if the rows are not enough to learn from and to check on; nothing is written.
    """
    parser = argparse.ArgumentParser(description="Make a dataset of a Delta table.")
    parser.add_argument("--table", required=True, help="the source")
    parser.add_argument("--version", type=int, required=True, help="its version")
    parser.add_argument("--config", required=True, help="configuration of the component build_dataset, JSON")
    parser.add_argument("--to", required=True, help="the dataset's table")
    parser.add_argument("--quarantine", required=True, help="the table for refused rows")
    parser.add_argument("--transaction", required=True, help="id under which the result is committed once")
    job = parser.parse_args(argv)
    config = BuildDatasetConfig.model_validate_json(job.config)
    source = TableRef(uri=job.table, version=job.version)
    with job_session(spark) as session:
        raw = read_table(session, source)
        rows, report = classify(raw, config, source)
        about = {"operation": "build_dataset", "source": str(source)}
        quarantine, count = write_table(
            _quarantined(rows, raw.columns, report.quarantined),
            job.quarantine,
            mode="overwrite",
            transaction=job.transaction,
            metadata=about,
        )
        checked_rows(report.quarantined, count, what=job.quarantine)
        dataset, count = write_table(
            _dataset(rows, config, report.rows_out),
            job.to,
            mode="overwrite",
            transaction=job.transaction,
            metadata=about,
            manifest=True,
        )
        checked_rows(report.rows_out, count, what=job.to)
    return {
        "dataset": {"uri": dataset.uri, "version": dataset.version},
        "quarantine": quarantine.model_dump(mode="json"),
        "report": report.model_dump(mode="json"),
    }


def classify(raw: DataFrame, config: BuildDatasetConfig, source: TableRef) -> tuple[DataFrame, DatasetReport]:
    """Decide what becomes of every row.

    :param raw: the source's rows.
    :param config: the step's configuration.
    :param source: the source, for the report.
    :return: the rows with columns ``_mm_state``, ``_mm_reason``, ``_mm_split``, ``_mm_key``, …; the report.
    :raises DatasetError: see :func:`main`.
    """
    from pyspark.sql import functions as sql

    checked = _checked(raw, config)
    usable = checked.where(sql.col("_mm_reason").isNull())
    refused = checked.where(sql.col("_mm_reason").isNotNull()).withColumn("_mm_state", sql.lit("quarantined"))
    unique = _by_text(_by_key(usable, config), config)
    decided = unique.unionByName(refused.select(*unique.columns)).persist()
    counts = _counts(decided)
    check_counts(counts, decided, config, source)
    rows = _split(decided, config, shipped={split for state, _, split in counts if state == "kept"})
    classes = _classes(rows, config)
    lacking = lacking_classes(classes)
    if lacking:
        rows = _with_rare_classes_in_train(rows, config, lacking)
        classes = _classes(rows, config)
    counts = _counts(rows)
    report = _report(counts, classes, source)
    check_balance(report, config)
    return rows, report


def _checked(raw: DataFrame, config: BuildDatasetConfig) -> DataFrame:
    """Add the roles as strings, and the first reason for which a row cannot be used."""
    from pyspark.sql import functions as sql

    text = _string(config.text)
    digest = sql.sha2(text, 256)
    labels = [_filled(_string(name)) for name in config.labels]
    split = sql.lower(_trimmed(_string(config.split.column))) if config.split.column else sql.lit(None)
    known = sql.lit(None).cast("string")
    for spelling, name in _SPLIT_NAMES.items():
        known = sql.when(split == spelling, name).otherwise(known)
    key = _string(config.key) if config.key else digest
    group = _string(config.split.group) if config.split.group else key
    reason = (
        sql.when(text.isNull() | (_trimmed(text) == ""), "text is empty")
        .when(key.isNull(), "key is null")
        .when(sql.coalesce(*labels).isNull(), "no label")
    )
    if config.split.column:
        reason = reason.when(split.isNull(), "split is null").when(known.isNull(), "split is unknown")
    order = sql.sha2(sql.to_json(sql.struct(*(quoted(name) for name in sorted(raw.columns)))), 256)
    return raw.select(
        *(quoted(name) for name in raw.columns),
        text.alias("_mm_text"),
        digest.alias("_mm_digest"),
        key.alias("_mm_key"),
        sql.coalesce(group, key).alias("_mm_group"),
        known.alias("_mm_split"),
        *(label.alias(f"_mm_label_{index}") for index, label in enumerate(labels)),
        order.alias("_mm_order"),
        reason.alias("_mm_reason"),
    )


def _by_key(rows: DataFrame, config: BuildDatasetConfig) -> DataFrame:
    """Find copies of a row, and rows that share a key and differ."""
    from pyspark.sql import Window
    from pyspark.sql import functions as sql

    if config.key is None:
        return rows.withColumn("_mm_state", sql.lit("kept"))
    names = ["_mm_digest", "_mm_split", *_labels(config)]
    content = sql.sha2(
        sql.concat_ws("\x1f", *(sql.coalesce(sql.col(name), sql.lit("\x00")) for name in names)), 256
    )
    rows = rows.withColumn("_mm_content", content)
    same = Window.partitionBy("_mm_key")
    differs = sql.min("_mm_content").over(same) != sql.max("_mm_content").over(same)
    place = sql.row_number().over(same.orderBy("_mm_order"))
    rows = rows.withColumns({"_mm_differs": differs, "_mm_place": place})
    state = sql.when(sql.col("_mm_differs"), "quarantined").when(sql.col("_mm_place") > 1, "duplicate")
    reason = sql.when(sql.col("_mm_differs"), "key is not unique")
    return rows.withColumns({"_mm_state": state.otherwise("kept"), "_mm_reason": reason}).drop(
        "_mm_content", "_mm_differs", "_mm_place"
    )


def _by_text(rows: DataFrame, config: BuildDatasetConfig) -> DataFrame:
    """Find texts that stand more than once: conflicting labels, copies, leaks out of a shipped test split."""
    from pyspark.sql import Window
    from pyspark.sql import functions as sql

    kept = rows.where(sql.col("_mm_state") == "kept")
    is_test = sql.coalesce(sql.col("_mm_split") == "test", sql.lit(False))
    kept = kept.withColumn("_mm_is_test", is_test)
    everywhere = Window.partitionBy("_mm_digest")
    side = Window.partitionBy("_mm_digest", "_mm_is_test")
    conflict = sql.lit(False)
    for name in _labels(config):
        differs = sql.min(name).over(side) != sql.max(name).over(side)
        conflict = conflict | sql.coalesce(differs, sql.lit(False))
    first = side.orderBy(sql.col("_mm_split").desc(), "_mm_key", "_mm_order")  # validation before train
    kept = kept.withColumns(
        {
            "_mm_in_test": sql.max(sql.col("_mm_is_test").cast("int")).over(everywhere),
            "_mm_conflict": conflict,
            "_mm_place": sql.row_number().over(first),
            # The labels of copies complete each other: they do not conflict.
            **{f"{name}_all": sql.max(name).over(side) for name in _labels(config)},
        }
    )
    test, repeated = sql.col("_mm_is_test"), sql.col("_mm_place") > 1
    state = (
        sql.when(test, "kept")
        .when(sql.col("_mm_in_test") == 1, "leak")
        .when(sql.col("_mm_conflict"), "quarantined")
        .when(repeated, "duplicate")
        .otherwise("kept")
    )
    kept = kept.withColumns(
        {"_mm_state": state, "_mm_reason": sql.when(state == "quarantined", "conflicting labels")}
    )
    labels = {
        name: sql.when(test, sql.col(name)).otherwise(sql.col(f"{name}_all")) for name in _labels(config)
    }
    kept = kept.withColumns(labels)
    if config.key is None:
        # Equal texts of a shipped test split stay, so their keys, which are hashes of the text, are numbered.
        numbered = sql.concat_ws("-", "_mm_key", sql.col("_mm_place").cast("string"))
        kept = kept.withColumn("_mm_key", sql.when(test & repeated, numbered).otherwise(sql.col("_mm_key")))
    return kept.select(*rows.columns).unionByName(rows.where(sql.col("_mm_state") != "kept"))


def _split(rows: DataFrame, config: BuildDatasetConfig, *, shipped: set[str | None]) -> DataFrame:
    """Fill in the split of kept rows; ``_mm_carved`` says that the hash decided it."""
    from pyspark.sql import functions as sql

    split = sql.col("_mm_split")
    validation = sql.when(_share("validation") < config.split.validation, "validation").otherwise("train")
    if config.split.column is None:
        split = sql.when(_share("test") < config.split.test, "test").otherwise(validation)
        carved = sql.lit(True)
    elif "validation" in shipped:
        carved = sql.lit(False)
    else:
        carved = split == "train"
        split = sql.when(carved, validation).otherwise(split)
    return rows.withColumns({"_mm_carved": carved, "_mm_split": split})


def _share(salt: str) -> Column:
    """Return a number from 0 to 1 that the group decides, independent for each salt."""
    from pyspark.sql import functions as sql

    digest = sql.sha2(sql.concat(sql.lit(f"modelmill/{salt}/"), sql.col("_mm_group")), 256)
    digits = sql.conv(sql.substring(digest, 1, _HASH_DIGITS), 16, 10)
    return digits.cast("bigint").cast("double") / sql.lit(float(16**_HASH_DIGITS))


def _with_rare_classes_in_train(
    rows: DataFrame, config: BuildDatasetConfig, lacking: dict[str, list[str]]
) -> DataFrame:
    """Move the groups of classes that the hash left without a train row into train, as whole groups."""
    from pyspark.sql import functions as sql

    rare = sql.lit(False)
    for index, name in enumerate(config.labels):
        rare = rare | sql.coalesce(sql.col(f"_mm_label_{index}").isin(lacking.get(name, [])), sql.lit(False))
    kept = (sql.col("_mm_state") == "kept") & sql.col("_mm_carved")
    groups = rows.where(kept & rare).select(sql.col("_mm_group").alias("_mm_rare")).distinct()
    rows = rows.join(groups, rows["_mm_group"] == groups["_mm_rare"], "left")
    moved = sql.col("_mm_rare").isNotNull() & sql.col("_mm_carved")
    return rows.withColumn("_mm_split", sql.when(moved, "train").otherwise(sql.col("_mm_split")))


def _counts(rows: DataFrame) -> dict[tuple[str, str | None, str | None], int]:
    found = rows.groupBy("_mm_state", "_mm_reason", "_mm_split").count().collect()
    return {(row[0], row[1], row[2]): int(row[3]) for row in found}


def _classes(rows: DataFrame, config: BuildDatasetConfig) -> dict[str, dict[str, dict[str, int]]]:
    """Count kept rows by label column, class and split."""
    from pyspark.sql import functions as sql

    kept = rows.where(sql.col("_mm_state") == "kept")
    found: dict[str, dict[str, dict[str, int]]] = {}
    for index, label in enumerate(config.labels):
        column = sql.col(f"_mm_label_{index}")
        counted = kept.where(column.isNotNull()).groupBy(column.alias("name"), "_mm_split").count()
        found[label] = {}
        for name, split, count in sorted(tuple(row) for row in counted.collect()):
            found[label].setdefault(name, {})[split] = int(count)
    return found


def _report(
    counts: dict[tuple[str, str | None, str | None], int],
    classes: dict[str, dict[str, dict[str, int]]],
    source: TableRef,
) -> DatasetReport:
    def total(wanted: str) -> int:
        return sum(count for (state, _, _), count in counts.items() if state == wanted)

    reasons: dict[str, int] = {}
    splits = dict.fromkeys(SPLITS, 0)
    for (state, reason, split), count in counts.items():
        if state == "quarantined" and reason:
            reasons[reason] = reasons.get(reason, 0) + count
        if state == "kept" and split:
            splits[split] += count
    return DatasetReport(
        source=str(source),
        rows_in=sum(counts.values()),
        rows_out=total("kept"),
        quarantined=total("quarantined"),
        duplicates=total("duplicate"),
        leaks=total("leak"),
        reasons=reasons,
        splits=splits,
        classes=classes,
    )


def _dataset(rows: DataFrame, config: BuildDatasetConfig, count: int) -> DataFrame:
    from pyspark.sql import functions as sql

    columns = [sql.col("_mm_key").alias(KEY_COLUMN), sql.col("_mm_text").alias(config.text)]
    columns += [sql.col(f"_mm_label_{index}").alias(name) for index, name in enumerate(config.labels)]
    columns += [sql.col("_mm_split").alias(SPLIT_COLUMN), *(quoted(name) for name in kept_columns(config))]
    kept = rows.where(sql.col("_mm_state") == "kept").select(*columns)
    return _sorted(kept, count, KEY_COLUMN)


def _sorted(rows: DataFrame, count: int, *keys: str) -> DataFrame:
    files = max(1, math.ceil(count / ROWS_PER_FILE))
    spread = rows.repartition(1) if files == 1 else rows.repartitionByRange(files, *keys)
    return spread.sortWithinPartitions(*keys)


def _quarantined(rows: DataFrame, names: Sequence[str], count: int) -> DataFrame:
    from pyspark.sql import functions as sql

    refused = rows.where(sql.col("_mm_state") == "quarantined")
    columns = [quoted(name) for name in names if name != REASON_COLUMN]
    ordered = _sorted(refused, count, "_mm_reason", "_mm_key", "_mm_order")
    return ordered.select(*columns, sql.col("_mm_reason").alias(REASON_COLUMN))


def _labels(config: BuildDatasetConfig) -> list[str]:
    return [f"_mm_label_{index}" for index in range(len(config.labels))]


def _string(name: str | None) -> Column:
    return quoted(name or "").cast("string")


def _trimmed(column: Column) -> Column:
    from pyspark.sql import functions as sql

    return sql.btrim(column, sql.lit(BLANKS))


def _filled(column: Column) -> Column:
    """Return the value, or null where there is nothing to see in it."""
    from pyspark.sql import functions as sql

    return sql.when(_trimmed(column) != "", column)


if __name__ == "__main__":
    as_application(main)
