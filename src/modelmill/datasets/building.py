"""Making a dataset of a table: what is checked before Spark starts, and what is logged when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.datasets.assembly import KEY_COLUMN, SPLIT_COLUMN, SPLITS
from modelmill.datasets.build_record import Build
from modelmill.datasets.deduplication import DUPLICATE, LEAK, NEAR_DUPLICATE, NEAR_LEAK
from modelmill.datasets.options import BuildDatasetConfig
from modelmill.datasets.preparation import PREFIX, Plan
from modelmill.errors import ConfigError, TableError
from modelmill.tables.reading import COMMIT_KEY, check_columns, commit_actions, open_table, table_location

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modelmill.component import StepContext

_MOST_CLASSES_SHOWN = 30


class DatasetReport(BaseModel):
    """What became of the rows. ``rows_in = rows_out + quarantined + duplicates``, always."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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

        :param build: what the build says of itself.
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
    from modelmill.datasets.incremental import update
    from modelmill.spark import run_job

    place = table_location(
        config.to or str(context.settings.home / "datasets" / context.pipeline / context.step)
    )
    check_config(config, table, place=place)
    quarantine = f"{place}_quarantine"
    version = update(config, table, place, quarantine, transaction=context.step_key, log=context.log)
    if version is None:
        argv = ["--table", table.uri, "--version", str(table.version), "--config", config.model_dump_json()]
        argv += ["--to", place, "--quarantine", quarantine, "--transaction", context.step_key]
        version = run_job("build_dataset", argv, settings=context.settings)["dataset"]["version"]
    build = build_of(place, version)
    dataset = DatasetRef(
        uri=place,
        version=version,
        key=KEY_COLUMN,
        text=config.text,
        image=config.image,
        labels=config.labels,
        split=SPLIT_COLUMN,
    )
    _log(DatasetReport.of(build), table, dataset, context)
    return dataset, TableRef(uri=quarantine, version=build.quarantine_version)


def build_of(place: str, version: int) -> Build:
    """Return what the build says of itself that made a version of a dataset.

    :param place: the dataset's table.
    :param version: its version.
    :return: the build.
    :raises TableError: if that commit was not made by a build, or its log is gone.
    """
    found = find_build(place, version)
    if found is None:
        raise TableError(
            "a dataset's version must be made by build_dataset",
            got=f"{place}@{version}",
            remedy="build it again",
        )
    return found


def find_build(place: str, version: int) -> Build | None:
    """Return what the build says of itself, if that version was made by one of this release.

    :param place: the dataset's table.
    :param version: its version.
    :return: the build, or None.
    """
    from pydantic import ValidationError

    for action in commit_actions(place, version) or ():
        content = action.get("commitInfo", {}).get(COMMIT_KEY, {}).get("build")
        if content is not None:
            try:
                return Build.model_validate(content)
            except ValidationError:  # another release
                return None
    return None


def source_plan(config: BuildDatasetConfig, source: TableRef) -> tuple[Plan, bool]:
    """Return how a source's rows are prepared.

    :param config: the step's configuration.
    :param source: the source.
    :return: the plan; whether the source has a change data feed.
    :raises TableError: see :func:`~modelmill.tables.reading.open_table`.
    """
    import pyarrow as pa

    table = open_table(source.uri, version=source.version)
    has_feed = table.metadata().configuration.get("delta.enableChangeDataFeed", "").lower() == "true"
    return Plan(config, pa.schema(table.schema().to_arrow())), has_feed


def check_config(config: BuildDatasetConfig, table: TableRef, *, place: str) -> None:
    """Check the configuration against the table's columns.

    :param config: the step's configuration.
    :param table: the source.
    :param place: where the dataset goes.
    :raises ConfigError: if names collide.
    :raises TableError: if a column is missing, or is of a type that does not fit its role.
    """
    from modelmill.datasets.contract import check_types

    plan, _ = source_plan(config, table)
    split = (config.key, config.split.column, config.split.group)
    plain = [name for name in (config.text, *split) if name is not None]
    used = [*plain, *config.contents, *config.labels, *config.carried, *config.contract]
    check_columns(plan.schema.names, used, place=str(table))
    _check_types(plan, plain, table)
    check_types(plan.schema, config.contract, place=str(table))
    taken = [KEY_COLUMN, *config.contents, *config.labels, SPLIT_COLUMN, *config.carried]
    lower = [name.lower() for name in taken]
    twice = sorted({name for name in taken if lower.count(name.lower()) > 1})
    if twice:
        raise ConfigError(
            f"a dataset's columns have different names; {KEY_COLUMN} and {SPLIT_COLUMN} are its own",
            got=", ".join(twice),
            remedy="rename the column when it is loaded",
        )
    reserved = [name for name in plan.schema.names if name.lower().startswith(PREFIX)]
    if reserved:
        raise ConfigError(
            f"columns of the source do not begin with {PREFIX}", got=reserved[0], remedy="rename the column"
        )
    if place in (table.uri, f"{table.uri}_quarantine") or f"{place}_quarantine" == table.uri:
        raise ConfigError("a dataset is not written over its source", got=place, remedy="name another table")


def _check_types(plan: Plan, plain: list[str], table: TableRef) -> None:
    import pyarrow.types as types

    def is_plain(name: str) -> bool:
        type_ = plan.schema.field(name).type
        return not (types.is_nested(type_) or types.is_binary(type_) or types.is_large_binary(type_))

    wrong = [name for name in plain if not is_plain(name)]
    rule = "text, key, split and group are columns of simple values"
    if not wrong and plan.config.image is not None:
        type_ = plan.schema.field(plan.config.image).type
        if types.is_nested(type_) or not (is_plain(plan.config.image) is False or types.is_string(type_)):
            rule, wrong = "an image is a binary value, or the path of one", [plan.config.image]
    for name, kind in zip(plan.config.labels, plan.kinds, strict=True):
        type_ = plan.schema.field(name).type
        fits = {
            "class": is_plain(name),
            "classes": types.is_list(type_) and not types.is_nested(type_.value_type),
            "number": is_plain(name) and not types.is_boolean(type_) and not types.is_temporal(type_),
        }[kind]
        if not wrong and not fits:
            rule, wrong = f"a label of kind {kind!r} needs a column that fits it", [name]
    if wrong:
        raise TableError(
            f"{rule} ({table})",
            got=f"{wrong[0]}: {plan.schema.field(wrong[0]).type}",
            remedy="cast the column when it is loaded",
        )


def _log(report: DatasetReport, table: TableRef, dataset: DatasetRef, context: StepContext) -> None:
    run = context.run
    run.log_dataset(table, context="source", rows=report.rows_in)
    run.log_json(report.model_dump(mode="json") | {"dataset": str(dataset)}, "dataset.json")
    counts: dict[str, float] = {
        "rows_in": report.rows_in,
        "rows_out": report.rows_out,
        "rows_quarantined": report.quarantined,
        "rows_duplicate": report.duplicates,
        "rows_near_duplicate": report.near_duplicates,
        "rows_leaked": report.leaks,
        **{f"rows_{split}": report.splits.get(split, 0) for split in SPLITS},
        **{f"classes.{label}": len(classes) for label, classes in report.classes.items()},
    }
    run.log_metrics(counts)
    for label in report.classes:
        run.log_figure(class_balance(report, label), f"class_balance_{label}.png")
    if report.lengths:
        run.log_figure(text_lengths(report), "text_lengths.png")
    reasons = "".join(f"; {count} {reason}" for reason, count in sorted(report.reasons.items()))
    context.log(
        f"{context.step}: {report.rows_in} rows in = {report.rows_out} out "
        f"({', '.join(f'{report.splits.get(split, 0)} {split}' for split in SPLITS)}) + "
        f"{report.quarantined} quarantined + {report.duplicates} duplicates "
        f"({report.near_duplicates} near, {report.leaks} leaks){reasons}"
    )


def text_lengths(report: DatasetReport) -> Figure:
    """Plot how long the texts of each split are.

    :param report: the report.
    :return: the figure: share of the split's rows by length.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes: Any = figure.subplots()
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
