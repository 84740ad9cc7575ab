"""Whether scored rows are still like the training data, and the model's answers still right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.models.predictions import answer_text
from modelmill.monitoring.drift import Classes, Column, ColumnDrift, Numbers, compare
from modelmill.monitoring.options import MonitorOptions
from modelmill.monitoring.plots import drift_figure, quality_figure, shares_figure
from modelmill.monitoring.quality import QualityReport, RightAnswers, drop_at_least
from modelmill.monitoring.report import MonitorReport
from modelmill.monitoring.rows import counts, floats, sampled, shared_columns, text_columns, without_seen
from modelmill.monitoring.tables import (
    TRUTH,
    HeldOut,
    MonitoredTables,
    read_held_out,
    read_scored,
    read_train,
)
from modelmill.tables.versions import commit_time
from modelmill.tasks.class_metrics import MACRO_F1
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS = 200_000
"""Rows that are compared: more do not tell more."""
_DIGITS = 4
"""Decimals of a score that are compared."""


def compare_with_training(
    tables: MonitoredTables, options: MonitorOptions, workspace: Workspace
) -> MonitorReport:
    """Compare a scored table with the training data; log metrics and plots.

    :param tables: the tables and the model.
    :param options: columns and limits.
    :param workspace: keeps logits, and takes metrics and plots.
    :return: the report, with its alarms.
    :raises ConfigError: if the options and the tables do not go together.
    :raises TableError: if a table cannot be read, or lacks a column.
    :raises DatasetError: if the dataset has no held-out rows to compare with.
    """
    import pyarrow.compute as pc

    text = tables.dataset.text_column
    scored = read_scored(tables, options)
    held_out = read_held_out(tables, workspace)
    train = read_train(tables.dataset, options, scored)
    new = scored.filter(without_seen(scored.column(text), train.column(text)))
    answered = new.filter(pc.is_valid(new.column("prediction")))
    rows = sampled(new, limit=_MOST_ROWS)
    columns, skipped = _columns(options, tables.dataset, train, held_out, rows)
    enough = min(rows.num_rows, train.num_rows, len(held_out.truth)) >= options.min_rows
    found = compare(columns, max_psi=options.max_psi, false_alarms=options.false_alarms) if enough else []
    quality = _quality(options, tables, answered, held_out) if options.label else None
    report = MonitorReport(
        name=options.name,
        scored=str(tables.scored),
        dataset=str(tables.dataset),
        model=tables.model.uri,
        rows=scored.num_rows,
        learned_rows=scored.num_rows - new.num_rows,
        compared_rows=rows.num_rows if enough else 0,
        not_compared=None if enough else _too_few(options, rows.num_rows, train.num_rows, held_out),
        columns=tuple(found),
        skipped=skipped,
        quality=quality,
        alarms=(*_drift_alarms(found, options), *_quality_alarms(quality, options)),
    )
    _log(report, options, answered, workspace)
    return report


def _columns(
    options: MonitorOptions, dataset: DatasetRef, train: pa.Table, held_out: HeldOut, rows: pa.Table
) -> tuple[list[Column], dict[str, str]]:
    import pyarrow as pa

    text = dataset.text_column
    learned = sampled(train, limit=_MOST_ROWS)
    own = {text, dataset.split}
    shared = [name for name in train.column_names if name not in own]
    columns, skipped = shared_columns(
        {name: learned.column(name) for name in shared}, {name: rows.column(name) for name in shared}
    )
    if skipped and options.columns:
        name, reason = next(iter(skipped.items()))
        raise ConfigError(
            "a column that is compared holds numbers or classes",
            got=f"{name}: {reason}",
            remedy="leave it out",
        )
    columns += text_columns(text, train.column(text), held_out.texts, rows.column(text))
    before, now = _answers(pa.chunked_array([held_out.predictions])), _answers(rows.column("prediction"))
    if pa.types.is_floating(before.type):  # the score is the same number
        return [*columns, Numbers("prediction", floats(before), floats(now.cast(before.type)))], skipped
    scores = np.asarray(held_out.scores, dtype=np.float64)
    # Another machine computes the last digits otherwise, and many rows may have the very same score.
    current = floats(rows.column("score")).round(_DIGITS)
    columns += [
        Classes("prediction", counts(before), counts(now)),
        Numbers("score", scores.round(_DIGITS), current),
    ]
    return columns, skipped


def _answers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return answers as they are compared: a set of classes as a text."""
    import pyarrow as pa

    if not pa.types.is_list(values.type):
        return values
    return pa.chunked_array([[answer_text(value) for value in values.to_pylist()]], pa.string())


def _too_few(options: MonitorOptions, rows: int, train: int, held_out: HeldOut) -> str:
    return (
        f"{rows} new rows, {train} train rows and {len(held_out.truth)} held-out rows; at least "
        f"{options.min_rows} of each are compared"
    )


def _quality(
    options: MonitorOptions, tables: MonitoredTables, rows: pa.Table, held_out: HeldOut
) -> QualityReport:
    import pyarrow.compute as pc

    if not isinstance(held_out.predictions[0], str):
        raise ConfigError(
            "quality is judged of models that answer with one class a row",
            got=tables.model.uri,
            remedy="leave label out",
        )
    read = [tables.scored, *([tables.labels] if tables.labels else [])]
    as_of = max(commit_time(table) for table in read)
    old = rows.filter(_old_enough(rows, options, as_of, tables.scored))
    labelled = old.filter(pc.is_valid(old.column(TRUTH)))
    truth = labelled.column(TRUTH).to_pylist()
    answers = labelled.column("prediction").to_pylist()
    before = RightAnswers.of(held_out.truth, held_out.predictions)
    reason = None
    if labelled.num_rows < options.min_rows:
        reason = (
            f"{labelled.num_rows} rows are old enough and labelled; at least {options.min_rows} are judged"
        )
    elif labelled.num_rows < options.min_labelled * old.num_rows:
        reason = (
            f"{labelled.num_rows / old.num_rows:.0%} of the rows old enough are labelled; at least "
            f"{options.min_labelled:.0%} must be"
        )
    now = RightAnswers.of(truth, answers)
    return QualityReport(
        as_of=as_of.isoformat(),
        rows=rows.num_rows,
        too_young=rows.num_rows - old.num_rows,
        without_label=old.num_rows - labelled.num_rows,
        judged_rows=0 if reason else labelled.num_rows,
        not_judged=reason,
        accuracy=None if reason else now.share,
        reference_accuracy=before.share,
        reference_rows=before.rows,
        drop=None if reason else before.share - now.share,
        drop_at_least=None if reason else drop_at_least(before, now, confidence=options.confidence),
        macro_f1=None if reason else MACRO_F1.of(truth, answers),
        reference_macro_f1=MACRO_F1.of(held_out.truth, held_out.predictions),
    )


def _old_enough(
    rows: pa.Table, options: MonitorOptions, as_of: datetime, scored: TableRef
) -> pa.ChunkedArray:
    """Return which rows are old enough; a row without a time is not known to be."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if options.time is None:
        return pc.is_valid(rows.column("prediction"))
    times = rows.column(options.time)
    if not (pa.types.is_timestamp(times.type) or pa.types.is_date(times.type)):
        raise TableError(
            f"the time of a row is a timestamp or a date ({scored})",
            got=f"{options.time}: {times.type}",
            remedy="cast the column when it is loaded",
        )
    limit = as_of - timedelta(hours=options.label_delay_hours)
    utc = pa.timestamp("us", tz="UTC")
    return pc.less_equal(times.cast(utc), pa.scalar(limit.astimezone(UTC), utc)).fill_null(False)


def _drift_alarms(columns: Sequence[ColumnDrift], options: MonitorOptions) -> list[str]:
    return [
        f"{column.name} has drifted: stability index {column.psi:.3f} (limit {options.max_psi:g}), "
        f"p {column.adjusted_p:.1e} (limit {options.false_alarms:g})"
        for column in columns
        if column.drifted
    ]


def _quality_alarms(quality: QualityReport | None, options: MonitorOptions) -> list[str]:
    if quality is None or quality.drop_at_least is None or quality.drop_at_least <= options.max_drop:
        return []
    line = (
        f"accuracy has dropped from {quality.reference_accuracy:.2%} to {quality.accuracy:.2%}, by at least "
        f"{100 * quality.drop_at_least:.2f} points at {options.confidence:.0%} confidence "
        f"(limit {100 * options.max_drop:g})"
    )
    return [line]


def _log(report: MonitorReport, options: MonitorOptions, rows: pa.Table, workspace: Workspace) -> None:
    tracker = workspace.tracker
    metrics: dict[str, float] = {"rows": report.rows, "alarms": len(report.alarms)}
    if report.columns:
        metrics["largest_psi"] = max(column.psi for column in report.columns)
        figure = drift_figure(report.columns, limit=options.max_psi, title=report.name)
        tracker.log_figure(figure, "drift.png")
        tracker.log_figure(shares_figure(report.columns), "shares.png")
    quality = report.quality
    if quality is not None and quality.accuracy is not None and quality.drop is not None:
        metrics |= {"accuracy": quality.accuracy, "accuracy_drop": quality.drop}
        if options.time:
            figure = quality_figure(
                rows.column(options.time),
                rows.column("prediction"),
                rows.column(TRUTH),
                reference=quality.reference_accuracy,
                title=report.name,
            )
            tracker.log_figure(figure, "quality.png")
    tracker.log_metrics(metrics)
