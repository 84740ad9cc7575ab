"""Monitoring a scored table: what is read, what is compared, what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef, TableRef
from modelmill.errors import ConfigError, DatasetError, TableError
from modelmill.monitoring.drift import Classes, Column, ColumnDrift, Numbers, compare
from modelmill.monitoring.plots import drift_figure, quality_figure, shares_figure
from modelmill.monitoring.quality import QualityReport, drop_at_least, proportion
from modelmill.monitoring.rows import counts, floats, sampled, shared_columns, text_columns, without_seen
from modelmill.serving.scoring import RESULT_COLUMNS
from modelmill.steps.monitor import MonitorConfig, MonitorInputs
from modelmill.tables.opening import open_table
from modelmill.tables.reading import check_columns, read_arrow
from modelmill.tables.versions import commit_time
from modelmill.tasks.class_metrics import MACRO_F1

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.component import StepContext

_MOST_ROWS = 200_000
"""Rows that are compared: more do not tell more."""
_DIGITS = 4
"""Decimals of a score that are compared."""
_TRUTH = "modelmill_truth"


class MonitorReport(BaseModel):
    """What was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    scored: str
    """The scored table, ``URI@VERSION``."""
    dataset: str
    """The training data, ``URI@VERSION``."""
    model: str
    """URI of the model that the scores are compared with."""
    rows: int
    """Rows of the scored table."""
    learned_rows: int
    """Of these: rows whose text the model learned from; they are left out."""
    compared_rows: int
    """Rows that were compared: all the others, or a sample of them."""
    not_compared: str | None
    """Why nothing was compared; None if it was."""
    columns: tuple[ColumnDrift, ...]
    skipped: dict[str, str]
    """Columns of both tables that cannot be compared, and why."""
    quality: QualityReport | None
    """None if no label is configured."""
    alarms: tuple[str, ...]
    """One line for each limit that is broken."""


@dataclass(frozen=True)
class _HeldOut:
    """Rows of the dataset that the model did not learn from, and its answers to them."""

    texts: pa.ChunkedArray
    predictions: Sequence[str]
    scores: Sequence[float]
    truth: Sequence[str]


def run(config: MonitorConfig, inputs: MonitorInputs, context: StepContext) -> ReportRef:
    """Compare a scored table with the training data, and log what was found.

    :param config: the step's configuration.
    :param inputs: the tables and the model.
    :param context: the step's context.
    :return: the report, with its alarms.
    :raises ConfigError: if the configuration and the tables do not go together.
    :raises TableError: if a table cannot be read, or has no such column.
    :raises DatasetError: if the dataset has no held-out rows to compare with.
    """
    import pyarrow.compute as pc

    text = inputs.dataset.text_column
    scored = _read_scored(config, inputs, text)
    held_out = _held_out(inputs.model, inputs.dataset, context)
    train = _train(config, inputs.dataset, scored)
    new = scored.filter(without_seen(scored.column(text), train.column(text)))
    answered = new.filter(pc.is_valid(new.column("prediction")))
    rows = sampled(new, limit=_MOST_ROWS)
    columns, skipped = _columns(config, inputs.dataset, train, held_out, rows)
    enough = min(rows.num_rows, train.num_rows, len(held_out.truth)) >= config.min_rows
    found = compare(columns, max_psi=config.max_psi, false_alarms=config.false_alarms) if enough else []
    quality = _quality(config, inputs, answered, held_out) if config.label else None
    report = MonitorReport(
        name=config.name,
        scored=str(inputs.scored),
        dataset=str(inputs.dataset),
        model=inputs.model.uri,
        rows=scored.num_rows,
        learned_rows=scored.num_rows - new.num_rows,
        compared_rows=rows.num_rows if enough else 0,
        not_compared=None if enough else _too_few(config, rows.num_rows, train.num_rows, held_out),
        columns=tuple(found),
        skipped=skipped,
        quality=quality,
        alarms=(*_drift_alarms(found, config), *_quality_alarms(quality, config)),
    )
    return _log(report, config, answered, inputs, context)


def _read_scored(config: MonitorConfig, inputs: MonitorInputs, text: str) -> pa.Table:
    """Read the columns that are needed; labels that are a table of their own become one of them."""
    import pyarrow.compute as pc

    names = [
        field.name for field in open_table(inputs.scored.uri, version=inputs.scored.version).schema().fields
    ]
    place = str(inputs.scored)
    check_columns(names, [text, *RESULT_COLUMNS[:2]], place=place)
    if RESULT_COLUMNS[2] in names:
        _check_scored_by(inputs)
    shared = config.columns or [name for name in _dataset_columns(inputs.dataset) if name in names]
    wanted = [text, *RESULT_COLUMNS[:2], *shared]
    if config.time:
        wanted.append(config.time)
    elif config.label_delay_hours:
        raise ConfigError(
            "label_delay_hours needs the age of a row", remedy="name the column with its time under time"
        )
    if config.label and inputs.labels is None:
        wanted.append(config.label)
    elif inputs.labels is not None:
        if not (config.key and config.label):
            raise ConfigError(
                "a table of labels needs the columns key and label",
                got=str(inputs.labels),
                remedy="name both in the configuration",
            )
        wanted.append(config.key)
    check_columns(names, wanted, place=place)
    table = read_arrow(inputs.scored, columns=list(dict.fromkeys(wanted)))
    if config.label is None:
        return table
    if inputs.labels is None:
        return table.append_column(_TRUTH, _as_text(table.column(config.label), config.label, place))
    labels = read_arrow(inputs.labels, columns=[str(config.key), config.label])
    keys = labels.column(str(config.key)).combine_chunks()
    if pc.count_distinct(keys).as_py() != len(keys):
        raise TableError(
            f"a row has one label: the keys of {inputs.labels} must be unique",
            got=f"{len(keys)} rows with {pc.count_distinct(keys).as_py()} keys in {config.key!r}",
            remedy="keep the newest label of each key",
        )
    places = pc.index_in(table.column(str(config.key)).cast(keys.type), value_set=keys)
    truth = _as_text(labels.column(config.label), config.label, str(inputs.labels))
    return table.append_column(_TRUTH, truth.take(places))


def _check_scored_by(inputs: MonitorInputs) -> None:
    import pyarrow.compute as pc

    column = read_arrow(inputs.scored, columns=[RESULT_COLUMNS[2]]).column(0)
    others = [uri for uri in pc.unique(column).to_pylist() if uri not in (None, inputs.model.uri)]
    if others:
        raise ConfigError(
            f"scores are compared with those of the model that gave them ({inputs.scored})",
            got=f"rows scored by {others[0]}, and the model {inputs.model.uri}",
            remedy="connect the model that score_table had, or score the table again",
        )


def _as_text(values: pa.ChunkedArray, name: str, place: str) -> pa.ChunkedArray:
    import pyarrow as pa

    if pa.types.is_nested(values.type) or pa.types.is_floating(values.type):
        raise ConfigError(
            f"quality is judged by a label of kind class: one class a row ({place})",
            got=f"{name}: {values.type}",
            remedy="leave label out, or name another column",
        )
    return values.cast(pa.string())


def _dataset_columns(dataset: DatasetRef) -> list[str]:
    """Return the dataset's columns that are no part of what it is: those that were carried along."""
    own = {dataset.key, dataset.text, dataset.image, dataset.split, *dataset.labels, *RESULT_COLUMNS}
    fields = open_table(dataset.uri, version=dataset.version).schema().fields
    return [field.name for field in fields if field.name not in own]


def _train(config: MonitorConfig, dataset: DatasetRef, scored: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    shared = config.columns or [name for name in _dataset_columns(dataset) if name in scored.column_names]
    table = read_arrow(dataset, columns=list(dict.fromkeys([dataset.text_column, dataset.split, *shared])))
    return table.filter(pc.equal(table.column(dataset.split), "train"))


def _held_out(model: ModelRef, dataset: DatasetRef, context: StepContext) -> _HeldOut:
    import pyarrow as pa

    from modelmill.evaluation.logits import cached_logits
    from modelmill.evaluation.rows import judged_label, labelled_rows
    from modelmill.models.bundle import BundleInfo
    from modelmill.registry.bundles import fetch_bundle

    folder = fetch_bundle(model, context.cache)
    info = BundleInfo.load(folder)
    label = judged_label(dataset, [info])
    for split in ("test", "validation"):
        rows = labelled_rows(dataset, split, label)
        if rows.texts:
            found = info.answers(cached_logits(model, folder, dataset, split, context)[rows.labelled])
            truth = [str(value) for value in rows.values]
            return _HeldOut(pa.chunked_array([rows.texts], pa.string()), *found, truth)
    raise DatasetError(
        "a dataset must have test or validation rows to compare scores with",
        got=str(dataset),
        remedy="change the split",
    )


def _columns(
    config: MonitorConfig, dataset: DatasetRef, train: pa.Table, held_out: _HeldOut, rows: pa.Table
) -> tuple[list[Column], dict[str, str]]:
    import pyarrow as pa

    text = dataset.text_column
    learned = sampled(train, limit=_MOST_ROWS)
    own = {text, dataset.split}
    shared = [name for name in train.column_names if name not in own]
    columns, skipped = shared_columns(
        {name: learned.column(name) for name in shared}, {name: rows.column(name) for name in shared}
    )
    if skipped and config.columns:
        name, reason = next(iter(skipped.items()))
        raise ConfigError(
            "a column that is compared holds numbers or classes",
            got=f"{name}: {reason}",
            remedy="leave it out",
        )
    columns += text_columns(text, train.column(text), held_out.texts, rows.column(text))
    predictions = pa.chunked_array([held_out.predictions], pa.string())
    scores = np.asarray(held_out.scores, dtype=np.float64)
    # Another machine computes the last digits otherwise, and many rows may have the very same score.
    now = floats(rows.column("score")).round(_DIGITS)
    columns += [
        Classes("prediction", counts(predictions), counts(rows.column("prediction"))),
        Numbers("score", scores.round(_DIGITS), now),
    ]
    return columns, skipped


def _too_few(config: MonitorConfig, rows: int, train: int, held_out: _HeldOut) -> str:
    return (
        f"{rows} new rows, {train} train rows and {len(held_out.truth)} held-out rows; at least "
        f"{config.min_rows} of each are compared"
    )


def _quality(
    config: MonitorConfig, inputs: MonitorInputs, rows: pa.Table, held_out: _HeldOut
) -> QualityReport:
    import pyarrow.compute as pc

    tables = [inputs.scored, *([inputs.labels] if inputs.labels else [])]
    as_of = max(commit_time(table) for table in tables)
    old = rows.filter(_old_enough(rows, config, as_of, inputs.scored))
    labelled = old.filter(pc.is_valid(old.column(_TRUTH)))
    truth = labelled.column(_TRUTH).to_pylist()
    answers = labelled.column("prediction").to_pylist()
    before = proportion(held_out.truth, held_out.predictions)
    reason = None
    if labelled.num_rows < config.min_rows:
        reason = (
            f"{labelled.num_rows} rows are old enough and labelled; at least {config.min_rows} are judged"
        )
    elif labelled.num_rows < config.min_labelled * old.num_rows:
        reason = (
            f"{labelled.num_rows / old.num_rows:.0%} of the rows old enough are labelled; at least "
            f"{config.min_labelled:.0%} must be"
        )
    now = proportion(truth, answers)
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
        drop_at_least=None if reason else drop_at_least(before, now, confidence=config.confidence),
        macro_f1=None if reason else MACRO_F1.of(truth, answers),
        reference_macro_f1=MACRO_F1.of(held_out.truth, held_out.predictions),
    )


def _old_enough(rows: pa.Table, config: MonitorConfig, as_of: datetime, scored: TableRef) -> pa.ChunkedArray:
    """Return which rows are old enough; a row without a time is not known to be."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if config.time is None:
        return pc.is_valid(rows.column("prediction"))
    times = rows.column(config.time)
    if not (pa.types.is_timestamp(times.type) or pa.types.is_date(times.type)):
        raise TableError(
            f"the time of a row is a timestamp or a date ({scored})",
            got=f"{config.time}: {times.type}",
            remedy="cast the column when it is loaded",
        )
    limit = as_of - timedelta(hours=config.label_delay_hours)
    utc = pa.timestamp("us", tz="UTC")
    return pc.less_equal(times.cast(utc), pa.scalar(limit.astimezone(UTC), utc)).fill_null(False)


def _drift_alarms(columns: Sequence[ColumnDrift], config: MonitorConfig) -> list[str]:
    return [
        f"{column.name} has drifted: stability index {column.psi:.3f} (limit {config.max_psi:g}), "
        f"p {column.adjusted_p:.1e} (limit {config.false_alarms:g})"
        for column in columns
        if column.drifted
    ]


def _quality_alarms(quality: QualityReport | None, config: MonitorConfig) -> list[str]:
    if quality is None or quality.drop_at_least is None or quality.drop_at_least <= config.max_drop:
        return []
    line = (
        f"accuracy has dropped from {quality.reference_accuracy:.2%} to {quality.accuracy:.2%}, by at least "
        f"{100 * quality.drop_at_least:.2f} points at {config.confidence:.0%} confidence "
        f"(limit {100 * config.max_drop:g})"
    )
    return [line]


def _log(
    report: MonitorReport, config: MonitorConfig, rows: pa.Table, inputs: MonitorInputs, context: StepContext
) -> ReportRef:
    run = context.run
    run.log_dataset(inputs.scored, context="monitoring", rows=report.rows)
    run.log_dataset(inputs.dataset, context="reference")
    uri = run.log_json(report.model_dump(mode="json"), "monitor.json")
    metrics: dict[str, float] = {"rows": report.rows, "alarms": len(report.alarms)}
    if report.columns:
        metrics["largest_psi"] = max(column.psi for column in report.columns)
        run.log_figure(drift_figure(report.columns, limit=config.max_psi, title=report.name), "drift.png")
        run.log_figure(shares_figure(report.columns), "shares.png")
    quality = report.quality
    if quality is not None and quality.accuracy is not None and quality.drop is not None:
        metrics |= {"accuracy": quality.accuracy, "accuracy_drop": quality.drop}
        if config.time:
            run.log_figure(
                quality_figure(
                    rows.column(config.time),
                    rows.column("prediction"),
                    rows.column(_TRUTH),
                    reference=quality.reference_accuracy,
                    title=report.name,
                ),
                "quality.png",
            )
    run.log_metrics(metrics)
    for line in report.alarms:
        context.log(f"{context.step}: {line}")
    not_judged = [report.not_compared, quality.not_judged if quality else None]
    for line in filter(None, not_judged):
        context.log(f"{context.step}: not judged: {line}")
    context.log(
        f"{context.step}: {len(report.columns)} columns of {report.compared_rows} rows compared, "
        f"{len(report.alarms)} alarms"
    )
    return ReportRef(uri=uri, run_id=run.run_id, alarms=report.alarms)
