"""What became of the rows of a table that a dataset was built of: numbers and plots."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from modelmill.datasets.build_record import Build
from modelmill.datasets.dataset_rows import SPLITS
from modelmill.datasets.deduplication import DUPLICATE, LEAK, MEDIAN, NEAR_DUPLICATE, NEAR_LEAK, UNKNOWN
from modelmill.options import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CLASSES_SHOWN = 30


class DatasetReport(Record):
    """What became of the rows. ``rows_in = rows_out + quarantined + duplicates``, always."""

    source: str
    """The table, ``URI@VERSION``."""
    mode: str
    """``full``, or ``incremental`` if only rows that changed were processed."""
    rows_in: int
    rows_out: int
    quarantined: int
    duplicates: int
    """Rows that another row stands for, all kinds."""
    near_duplicates: int
    """Of these: rows whose text is nearly that of another row."""
    leaks: int
    """Of these: train and validation rows whose content, or nearly so, stands in the shipped test split."""
    reasons: dict[str, int]
    """Quarantined rows by reason."""
    conflicts: dict[str, int] = {}
    """Kept rows by label that is unknown, since their copies disagree."""
    medians: dict[str, int] = {}
    """Kept rows by label that is the median of the different numbers of their copies."""
    splits: dict[str, int]
    """Kept rows by split."""
    classes: dict[str, dict[str, dict[str, int]]]
    """Kept rows by label column, class and split."""
    numbers: dict[str, dict[str, tuple[float, float, float]]]
    """Count, sum and sum of squares by label column and split, for labels that are numbers."""
    lengths: dict[str, dict[int, int]]
    """Kept rows by split and length of the text: characters, rounded down to a power of 2."""
    content_hash: str
    """Hash of all rows, whatever their order and files (see :class:`modelmill.datasets.summary.Summary`)."""

    @classmethod
    def of(cls, build: Build) -> DatasetReport:
        """Return the report of a build.

        :param build: the record of the build.
        :return: the report.
        """
        states, summary = build.fates.states, build.summary
        return cls(
            source=f"{build.source}@{build.source_version}",
            mode=build.mode,
            rows_in=build.fates.rows_in,
            rows_out=summary.rows,
            quarantined=sum(build.fates.reasons.values()),
            duplicates=sum(states.get(state, 0) for state in (DUPLICATE, NEAR_DUPLICATE, LEAK, NEAR_LEAK)),
            near_duplicates=states.get(NEAR_DUPLICATE, 0) + states.get(NEAR_LEAK, 0),
            leaks=states.get(LEAK, 0) + states.get(NEAR_LEAK, 0),
            reasons=build.fates.reasons,
            conflicts=_by_label(build, UNKNOWN),
            medians=_by_label(build, MEDIAN),
            splits={split: summary.splits.get(split, 0) for split in SPLITS},
            classes=summary.classes,
            numbers={
                label: {
                    split: (float(n), float(total), float(squares))
                    for split, (n, total, squares) in by.items()
                }
                for label, by in summary.numbers.items()
            },
            lengths=summary.lengths,
            content_hash=summary.hash,
        )

    def counts(self) -> dict[str, float]:
        """Return the numbers to log as metrics."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rows_quarantined": self.quarantined,
            "rows_duplicate": self.duplicates,
            "rows_near_duplicate": self.near_duplicates,
            "rows_leaked": self.leaks,
            "rows_label_unknown": sum(self.conflicts.values()),
            "rows_label_median": sum(self.medians.values()),
            **{f"rows_{split}": self.splits.get(split, 0) for split in SPLITS},
            **{f"classes.{label}": len(classes) for label, classes in self.classes.items()},
        }

    def __str__(self) -> str:
        reasons = "".join(f"; {count} {reason}" for reason, count in sorted(self.reasons.items()))
        reasons += "".join(
            f"; {label} {how} in {count} rows whose copies disagree"
            for how, counts in (("is unknown", self.conflicts), ("is their median", self.medians))
            for label, count in counts.items()
        )
        reasons += "".join(
            f"; {label} has classes that differ in case or blanks alone: {', '.join(map(repr, alike))}"
            for label, classes in self.classes.items()
            for alike in _alike(classes)
        )
        splits = ", ".join(f"{self.splits.get(split, 0)} {split}" for split in SPLITS)
        return (
            f"{self.rows_in} rows in = {self.rows_out} out ({splits}) + {self.quarantined} quarantined + "
            f"{self.duplicates} duplicates ({self.near_duplicates} near, {self.leaks} leaks){reasons}"
        )


def _alike(classes: Iterable[str]) -> Iterator[list[str]]:
    """Yield classes that people read as one: upper and lower case, full and half width, blanks within."""
    found: dict[str, list[str]] = {}
    for name in sorted(classes):
        found.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return (names for names in found.values() if len(names) > 1)


def _by_label(build: Build, what: str) -> dict[str, int]:
    merged = build.fates.merged.items()
    return {name.removeprefix(what): count for name, count in merged if name.startswith(what)}


def text_lengths(report: DatasetReport) -> Figure:
    """Plot how long the texts of each split are.

    :param report: the report.
    :return: the figure: share of the split's rows by length.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    axes = _axes(figure, left=0.8)
    lengths = sorted({length for by_length in report.lengths.values() for length in by_length})
    for split in SPLITS:
        counts = report.lengths.get(split, {})
        total = sum(counts.values())
        if total:
            axes.plot(
                [str(length) for length in lengths],
                [counts.get(n, 0) / total for n in lengths],
                "o-",
                label=split,
            )
    axes.set_xlabel("characters, at least")
    axes.set_ylabel("share of the split's rows")
    axes.set_title("Length of the texts")
    axes.legend()
    return figure


def class_balance(report: DatasetReport, label: str) -> Figure:
    """Plot how many rows of each class each split has.

    :param report: the report.
    :param label: label column.
    :return: the figure; the rarest classes are left out where there are many.
    """
    from matplotlib.figure import Figure

    classes: list[tuple[str, dict[str, int]]] = sorted(
        report.classes[label].items(), key=lambda item: (-sum(item[1].values()), item[0])
    )
    shown = classes[:_MOST_CLASSES_SHOWN]
    names = [name[:40] for name, _ in shown]
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(shown)))
    axes = _axes(figure, left=0.25 + max(map(_inches, names), default=0.0))
    left = [0] * len(shown)
    for split in SPLITS:
        widths = [counts.get(split, 0) for _, counts in shown]
        axes.barh(names, widths, left=left, label=split)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    hidden = f" ({len(shown)} of {len(classes)} classes)" if len(shown) < len(classes) else ""
    axes.set_title(f"{label}{hidden}")
    axes.legend()
    return figure


def _axes(figure: Figure, *, left: float) -> Any:
    """Add axes with margins in inches: a layout engine measures each text, which takes as long as drawing."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, 0.55 / height, 1 - (left + 0.15) / width, 1 - 0.95 / height))


def _inches(name: str) -> float:
    """Return about how wide a name is in ten points; Chinese letters are as wide as they are high."""
    return sum(0.17 if unicodedata.east_asian_width(letter) in "WF" else 0.1 for letter in name)
