"""What a dataset needs for training and evaluation: usable rows, splits, classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from modelmill.artifacts import TableRef
from modelmill.datasets.build_record import Fates
from modelmill.datasets.dataset_rows import SPLITS
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.summary import Summary
from modelmill.errors import DatasetError, TransientError, shorten

MAX_CLASSES = 10_000

Counts = Mapping[tuple[str | None, int | None], int]
"""Rows by the reason of their refusal and by the split that they came with."""
Classes = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Kept rows by label column, class and split."""


def check_counts(
    counts: Counts, options: BuildOptions, source: TableRef, *, splits: Callable[[], Sequence[str]]
) -> None:
    """Refuse a table without rows, without contents, or with splits of other names.

    :param counts: rows by the reason of their refusal and by their shipped split.
    :param options: how the dataset is built.
    :param source: the table.
    :param splits: gives some of the unknown names of splits.
    :raises DatasetError: if one of these holds.
    """
    total = sum(counts.values())
    if not total:
        raise DatasetError(
            "the table must have rows", got=str(source), remedy="load rows, or name another table"
        )
    by_reason: dict[str | None, int] = {}
    for (reason, _), count in counts.items():
        by_reason[reason] = by_reason.get(reason, 0) + count
    empty = sum(
        count for reason, count in by_reason.items() if str(reason).endswith(("is empty", "are empty"))
    )
    if empty == total:
        columns = " and ".join(repr(name) for name in options.contents)
        raise DatasetError(
            f"the column {columns} must have {'texts' if options.image is None else 'contents'}",
            got=f"{total} of {total} rows without one in {source}",
            remedy="name another column",
        )
    if "split is unknown" in by_reason:
        raise DatasetError(
            f"the column {options.split.column!r} must say train, validation (val, valid, dev) or test",
            got=", ".join(sorted(shorten(name, limit=40) for name in splits())),
            remedy="map the values when the table is loaded",
        )
    if None not in by_reason:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(by_reason.items(), key=str))
        raise DatasetError("some rows must be usable", got=f"{reasons} in {source}", remedy="fix the rows")


def classes_without_train_rows(classes: Classes, *, labels: Sequence[str]) -> dict[str, list[str]]:
    """Return the classes without a train row.

    :param classes: kept rows by label column, class and split.
    :param labels: label columns to look at.
    :return: classes by label column; only columns that have such classes.
    """
    found = {
        label: sorted(name for name, splits in by_class.items() if not splits.get("train"))
        for label, by_class in classes.items()
        if label in labels
    }
    return {label: names for label, names in found.items() if names}


def check_balance(fates: Fates, summary: Summary, options: BuildOptions, *, single: Sequence[str]) -> None:
    """Refuse a dataset without rows to train on or to evaluate on.

    :param fates: what became of the rows.
    :param summary: the rows that are kept.
    :param options: how the dataset is built.
    :param single: label columns that hold one class a row.
    :raises DatasetError: if a split or a label's classes are missing.
    :raises TransientError: if rows went missing on the way.
    """
    settled = summary.rows + sum(fates.reasons.values()) + sum(fates.states.values())
    if fates.rows_in != settled or summary.rows != sum(summary.splits.values()):
        raise TransientError("every row must end in one state", got=f"{settled} of {fates.rows_in}")
    if not summary.rows:
        raise DatasetError(
            "some rows must be usable",
            got=", ".join(f"{count} {reason}" for reason, count in fates.reasons.items()),
            remedy="fix the rows",
        )
    _check_splits(summary, options)
    for label in options.labels:
        if label not in summary.numbers:
            _check_classes(label, summary.classes.get(label, {}))
        elif "train" not in summary.numbers[label]:
            raise DatasetError(
                f"the label column {label!r} must have numbers in the train split",
                got="none",
                remedy="label rows, or remove the column from labels",
            )
    for label, names in classes_without_train_rows(summary.classes, labels=single).items():
        raise DatasetError(
            f"every class of {label!r} must have train rows, or no model can learn it",
            got=", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            remedy="add train rows of the class, or remove its rows",
        )


def _check_classes(label: str, classes: Mapping[str, Mapping[str, int]]) -> None:
    if len(classes) < 2:
        raise DatasetError(
            f"the label column {label!r} must have two classes or more",
            got=", ".join(map(repr, classes)) or "none",
            remedy="label rows of another class, or remove the column from labels",
        )
    if len(classes) > MAX_CLASSES:
        raise DatasetError(
            f"the label column {label!r} must have at most {MAX_CLASSES:,} classes",
            got=f"{len(classes):,}",
            remedy="name a column of classes, not of free text or numbers",
        )


def _check_splits(summary: Summary, options: BuildOptions) -> None:
    column = options.split.column
    for split in ("train", "test"):
        if summary.splits.get(split):
            continue
        if column is not None:
            remedy = f"mark rows with {split!r} in the column {column!r}, or split by hash (no split.column)"
        elif split == "test":
            remedy = "raise split.test, or add rows"
        else:
            remedy = "lower split.test and split.validation, or add rows"
        raise DatasetError(
            f"the dataset must have {split} rows",
            got=", ".join(f"{summary.splits.get(name, 0)} {name}" for name in SPLITS),
            remedy=remedy,
        )
