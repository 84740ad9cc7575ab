"""Making a dataset of a table: what is checked before Spark starts, and what is logged when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.data.tables import check_columns, open_table, table_location
from modelmill.errors import ConfigError, TableError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modelmill.data.components import BuildDatasetConfig
    from modelmill.pipeline.component import StepContext

KEY_COLUMN = "example_key"
SPLIT_COLUMN = "split"
REASON_COLUMN = "quarantine_reason"
SPLITS = ("train", "validation", "test")

BLANKS = (
    " \t\n\r\f\v\u0085\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""A text of these alone is empty. Spelled out, because engines differ in what white space is."""

_MOST_CLASSES_SHOWN = 30


class DatasetReport(BaseModel):
    """What became of the rows. ``rows_in = rows_out + quarantined + duplicates + leaks``, always."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """The table, ``URI@VERSION``."""
    rows_in: int
    rows_out: int
    quarantined: int
    duplicates: int
    """Rows whose text (or key and text) an earlier row of the same split side has."""
    leaks: int
    """Train and validation rows dropped because their text stands in the shipped test split."""
    reasons: dict[str, int]
    """Quarantined rows by reason."""
    splits: dict[str, int]
    """Kept rows by split."""
    classes: dict[str, dict[str, dict[str, int]]]
    """Kept rows by label column, class and split."""


def run(config: BuildDatasetConfig, table: TableRef, context: StepContext) -> tuple[DatasetRef, TableRef]:
    """Make the dataset and the table of quarantined rows, and log what became of the rows.

    :param config: the step's configuration.
    :param table: the source.
    :param context: the step's context.
    :return: the dataset, and the quarantined rows with their reasons.
    :raises ConfigError: if the configuration and the table's columns do not go together.
    :raises TableError: if the table cannot be read, or has no such column.
    :raises DatasetError: if the rows are not enough to learn from and to check on; nothing is written.
    """
    from modelmill.data.spark import run_job

    place = table_location(
        config.to or str(context.settings.home / "datasets" / context.pipeline / context.step)
    )
    check_config(config, table, place=place)
    argv = ["--table", table.uri, "--version", str(table.version), "--config", config.model_dump_json()]
    argv += ["--to", place, "--quarantine", f"{place}_quarantine", "--transaction", context.step_key]
    result = run_job("build_dataset", argv, settings=context.settings)
    report = DatasetReport.model_validate(result["report"])
    dataset = DatasetRef(
        **result["dataset"], key=KEY_COLUMN, text=config.text, labels=config.labels, split=SPLIT_COLUMN
    )
    quarantine = TableRef.model_validate(result["quarantine"])
    _log(report, table, dataset, context)
    return dataset, quarantine


def check_config(config: BuildDatasetConfig, table: TableRef, *, place: str) -> None:
    """Check the configuration against the table's columns.

    :param config: the step's configuration.
    :param table: the source.
    :param place: where the dataset goes.
    :raises ConfigError: if names collide.
    :raises TableError: if a column is missing, or is of a type that cannot be text or a label.
    """
    fields = {
        field.name: field.type for field in open_table(table.uri, version=table.version).schema().fields
    }
    roles = [config.text, *config.labels]
    others = [name for name in (config.key, config.split.column, config.split.group) if name is not None]
    check_columns(list(fields), [*roles, *others, *config.keep], place=str(table))
    for name in [*roles, *others]:
        kind = getattr(fields[name], "type", None)
        if not isinstance(kind, str) or kind == "binary":
            raise TableError(
                f"text, labels, key, split and group are columns of simple values ({table})",
                got=f"{name}: {fields[name]}",
                remedy="cast the column when it is loaded",
            )
    taken = [KEY_COLUMN, *roles, SPLIT_COLUMN, *kept_columns(config)]
    lower = [name.lower() for name in taken]
    twice = sorted({name for name in taken if lower.count(name.lower()) > 1})
    if twice:
        raise ConfigError(
            f"a dataset's columns have different names; {KEY_COLUMN} and {SPLIT_COLUMN} are its own",
            got=", ".join(twice),
            remedy="rename the column when it is loaded",
        )
    if place in (table.uri, f"{table.uri}_quarantine") or f"{place}_quarantine" == table.uri:
        raise ConfigError("a dataset is not written over its source", got=place, remedy="name another table")


def kept_columns(config: BuildDatasetConfig) -> list[str]:
    """Return the columns that are carried along and are not in the dataset by their role.

    :param config: the step's configuration.
    :return: names.
    """
    roles = {config.text, *config.labels}
    return [name for name in dict.fromkeys(config.keep) if name not in roles]


def _log(report: DatasetReport, table: TableRef, dataset: DatasetRef, context: StepContext) -> None:
    run = context.run
    run.log_dataset(table, context="source", rows=report.rows_in)
    run.log_json(report.model_dump(mode="json") | {"dataset": str(dataset)}, "dataset.json")
    counts: dict[str, float] = {
        "rows_in": report.rows_in,
        "rows_out": report.rows_out,
        "rows_quarantined": report.quarantined,
        "rows_duplicate": report.duplicates,
        "rows_leaked": report.leaks,
        **{f"rows_{split}": report.splits.get(split, 0) for split in SPLITS},
        **{f"classes.{label}": len(classes) for label, classes in report.classes.items()},
    }
    run.log_metrics(counts)
    for label in report.classes:
        figure = class_balance(report, label)
        run.log_figure(figure, f"class_balance_{label}.png")
    reasons = "".join(f"; {count} {reason}" for reason, count in sorted(report.reasons.items()))
    context.log(
        f"{context.step}: {report.rows_in} rows in, {report.rows_out} out "
        f"({', '.join(f'{report.splits.get(split, 0)} {split}' for split in SPLITS)}), "
        f"{report.quarantined} quarantined, {report.duplicates} duplicates, {report.leaks} leaks{reasons}"
    )


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
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(shown)), layout="constrained")
    axes: Any = figure.subplots()
    left = [0] * len(shown)
    for split in SPLITS:
        widths = [counts.get(split, 0) for _, counts in shown]
        axes.barh([name[:40] for name, _ in shown], widths, left=left, label=split)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    hidden = f" ({len(shown)} of {len(classes)} classes)" if len(shown) < len(classes) else ""
    axes.set_title(f"{label}{hidden}")
    axes.legend()
    return figure
