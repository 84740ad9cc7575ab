"""Labelling a table by rules: what is checked before Spark starts, and what is logged when it is done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, ExpressionError, TableError
from modelmill.labels.report import LabelReport, functions_figure
from modelmill.labels.rows import Labelling
from modelmill.steps.label_rows import LabelRowsConfig
from modelmill.tables.reading import check_columns, open_table, table_location

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.component import StepContext


def run(config: LabelRowsConfig, table: TableRef, context: StepContext) -> tuple[TableRef, TableRef]:
    """Label a table, and log how the functions did.

    :param config: the step's configuration.
    :param table: what to label.
    :param context: the step's context.
    :return: the labelled table, and the rows that a person should see.
    :raises ExpressionError: if a condition breaks a rule of the language; all problems are listed.
    :raises ConfigError: if names collide.
    :raises TableError: if the table cannot be read or written, or has no such column.
    :raises DatasetError: if no function votes on any row; nothing is written.
    """
    from modelmill.spark import run_job

    place = table_location(
        config.to or str(context.settings.home / "labels" / context.pipeline / context.step)
    )
    try:
        check_config(config, table, place=place)
    except ExpressionError as error:
        context.log(error.report)
        raise
    argv = ["--table", table.uri, "--version", str(table.version), "--config", config.model_dump_json()]
    argv += ["--to", place, "--disagreements", f"{place}_disagreements", "--transaction", context.step_key]
    result = run_job("label_rows", argv, settings=context.settings)
    report = LabelReport.model_validate(result["report"])
    labelled = TableRef.model_validate(result["table"])
    _log(report, table, labelled, context)
    return labelled, TableRef.model_validate(result["disagreements"])


def labelling_of(config: LabelRowsConfig) -> Labelling:
    """Return what the workers need to know of a configuration.

    :param config: the step's configuration.
    :return: the same, without a model.
    """
    return Labelling(
        names=tuple(config.functions),
        conditions=tuple(function.when for function in config.functions.values()),
        labels=tuple(function.label for function in config.functions.values()),
        label=config.label,
        threshold=config.threshold,
    )


def check_config(config: LabelRowsConfig, table: TableRef, *, place: str) -> None:
    """Check the configuration against the table's columns.

    :param config: the step's configuration.
    :param table: what to label.
    :param place: where the result goes.
    :raises ExpressionError: if a condition breaks a rule of the language; all problems are listed.
    :raises ConfigError: if names collide, or the table would be written over itself.
    :raises TableError: if the gold column is missing, or is of a type that cannot be a label.
    """
    from modelmill.signals.values import OPAQUE, column_kind

    schema = arrow_schema(table)
    if config.gold is not None:
        check_columns(schema.names, [config.gold], place=str(table))
        kind = schema.field(config.gold).type
        if column_kind(kind) in (None, *OPAQUE):
            raise TableError(
                f"the gold column has simple values ({table})",
                got=f"{config.gold}: {kind}",
                remedy="cast the column when it is loaded",
            )
    plan = labelling_of(config)
    own = {name.lower() for name in (*plan.label_columns(), *plan.review_columns(), plan.rank_column)}
    taken = [name for name in schema.names if name.lower() in own and name not in (config.gold, config.label)]
    if config.label != config.gold:
        taken += [name for name in schema.names if name.lower() == config.label.lower()]
    if taken:
        raise ConfigError(
            f"the columns of label {config.label!r} must not be in the table ({table})",
            got=", ".join(dict.fromkeys(taken)),
            remedy="choose another name under label, or name the column under gold if it has labels by hand",
        )
    if place in (table.uri, f"{table.uri}_disagreements") or f"{place}_disagreements" == table.uri:
        raise ConfigError("a table is not written over its source", got=place, remedy="name another table")
    columns_read(config, table)


def arrow_schema(table: TableRef) -> pa.Schema:
    """Return a table's columns.

    :param table: the table.
    :return: names and Arrow types.
    """
    import pyarrow as pa

    return pa.schema(open_table(table.uri, version=table.version).schema().to_arrow())


def columns_read(config: LabelRowsConfig, table: TableRef) -> tuple[str, ...]:
    """Check the conditions, and return the columns that they read.

    :param config: the step's configuration.
    :param table: what to label.
    :return: names.
    :raises ExpressionError: if a condition breaks a rule of the language; all problems are listed.
    """
    from modelmill.rules.language.expressions import compile_expressions

    conditions = {name: function.when for name, function in config.functions.items()}
    program = compile_expressions(conditions, arrow_schema(table), kind="boolean", what="labelling functions")
    return program.columns


def _log(report: LabelReport, source: TableRef, labelled: TableRef, context: StepContext) -> None:
    run = context.run
    run.log_dataset(source, context="source", rows=report.rows)
    run.log_json(report.model_dump(mode="json") | {"table": str(labelled)}, "labels.json")
    metrics = {name: float(getattr(report, name)) for name in _METRICS}
    for model in report.models:
        if model.accuracy:
            metrics[f"gold_accuracy.{model.name}"] = model.accuracy.value
    run.log_metrics({**metrics, "rows_for_review": sum(report.review.values())})
    run.log_figure(functions_figure(report.functions), "labelling_functions.png")
    for line in summary(report):
        context.log(f"{context.step}: {line}")


_METRICS = ("rows", "rows_gold", "rows_by_rule", "rows_unlabelled", "coverage", "overlaps", "conflicts")


def summary(report: LabelReport) -> list[str]:
    """Return the report in a few lines.

    :param report: the report.
    :return: the lines.
    """
    lines = [
        (
            f"{report.rows:,} rows: {report.rows_gold:,} gold, {report.rows_by_rule:,} labelled by rules, "
            f"{report.rows_unlabelled:,} without a label; {sum(report.review.values()):,} for review "
            f"{json.dumps(report.review)}"
        ),
        f"functions vote on {report.coverage:.1%} of the rows, and differ on {report.conflicts:.1%}",
    ]
    shown = ", ".join(f"{one.name} {one.accuracy.value:.1%}" for one in report.models if one.accuracy)
    lines.append(f"{report.model} is used: {report.reason}" + (f" ({shown})" if shown else ""))
    silent = [one.name for one in report.functions if one.coverage == 0]
    lines += [f"functions that never vote: {', '.join(silent)}"] if silent else []
    if report.gold_without_functions:
        lines.append(f"no function votes for: {', '.join(report.gold_without_functions)}")
    return lines
