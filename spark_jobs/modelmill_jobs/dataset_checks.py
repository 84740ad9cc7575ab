"""What a dataset must have, so that something can be learnt from it and checked on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelmill.artifacts import TableRef
from modelmill.data.components import BuildDatasetConfig
from modelmill.data.dataset import DatasetReport
from modelmill.errors import DatasetError, TransientError, shorten

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_CLASSES = 10_000

Counts = Mapping[tuple[str, str | None, str | None], int]
"""Rows by state, reason and split."""
Classes = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Kept rows by label column, class and split."""


def check_counts(counts: Counts, rows: DataFrame, config: BuildDatasetConfig, source: TableRef) -> None:
    """Refuse a table without rows, without texts, or with splits of other names.

    :param counts: what became of the rows.
    :param rows: the rows, to show values of.
    :param config: the step's configuration.
    :param source: the table.
    :raises DatasetError: if one of these holds.
    """
    total = sum(counts.values())
    if not total:
        raise DatasetError(
            "the table must have rows", got=str(source), remedy="load rows, or name another table"
        )
    by_reason: dict[str | None, int] = {}
    for (_, reason, _), count in counts.items():
        by_reason[reason] = by_reason.get(reason, 0) + count
    if by_reason.get("text is empty") == total:
        raise DatasetError(
            f"the column {config.text!r} must have texts",
            got=f"{total} of {total} rows without one in {source}",
            remedy="name another text column",
        )
    if "split is unknown" in by_reason:
        raise DatasetError(
            f"the column {config.split.column!r} must say train, validation (val, valid, dev) or test",
            got=_values(rows, config.split.column or ""),
            remedy="map the values when the table is loaded",
        )
    if not any(state == "kept" for state, _, _ in counts):
        reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason.items() if reason)
        raise DatasetError("some rows must be usable", got=f"{reasons} in {source}", remedy="mend the rows")


def _values(rows: DataFrame, column: str) -> str:
    from pyspark.sql import functions as sql

    name = sql.col(f"`{column.replace('`', '``')}`").cast("string")
    found = rows.where(sql.col("_mm_reason") == "split is unknown").select(name).distinct().limit(5)
    return ", ".join(sorted(shorten(str(row[0]), limit=40) for row in found.collect()))


def lacking_classes(classes: Classes) -> dict[str, list[str]]:
    """Return the classes without a train row.

    :param classes: kept rows by label column, class and split.
    :return: classes by label column; only columns that have such classes.
    """
    found = {
        label: sorted(name for name, splits in by_class.items() if not splits.get("train"))
        for label, by_class in classes.items()
    }
    return {label: names for label, names in found.items() if names}


def check_balance(report: DatasetReport, config: BuildDatasetConfig) -> None:
    """Refuse a dataset that nothing can be learnt from or checked on.

    :param report: what became of the rows.
    :param config: the step's configuration.
    :raises DatasetError: if a split or a label's classes are missing.
    :raises TransientError: if rows went missing on the way.
    """
    settled = report.rows_out + report.quarantined + report.duplicates + report.leaks
    if report.rows_in != settled or report.rows_out != sum(report.splits.values()):
        raise TransientError("every row must end in one state", got=f"{settled} of {report.rows_in}")
    _check_splits(report, config)
    for label, classes in report.classes.items():
        if len(classes) < 2:
            raise DatasetError(
                f"the label column {label!r} must have two classes or more",
                got=", ".join(map(repr, classes)) or "none",
                remedy="label rows of another class, or take the column out of labels",
            )
        if len(classes) > MAX_CLASSES:
            raise DatasetError(
                f"the label column {label!r} must have at most {MAX_CLASSES:,} classes",
                got=f"{len(classes):,}",
                remedy="name a column of classes, not of free text or numbers",
            )
    for label, names in lacking_classes(report.classes).items():
        raise DatasetError(
            f"every class of {label!r} must have train rows, or no model can learn it",
            got=", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            remedy="add train rows of the class, or take its rows out",
        )


def _check_splits(report: DatasetReport, config: BuildDatasetConfig) -> None:
    column = config.split.column
    for split in ("train", "test"):
        if report.splits.get(split):
            continue
        if column is not None:
            remedy = f"mark rows with {split!r} in the column {column!r}, or split by hash (no split.column)"
        elif split == "test":
            remedy = "raise split.test, or add rows"
        else:
            remedy = "lower split.test and split.validation, or add rows"
        raise DatasetError(
            f"the dataset must have {split} rows",
            got=", ".join(f"{count} {name}" for name, count in report.splits.items()),
            remedy=remedy,
        )
