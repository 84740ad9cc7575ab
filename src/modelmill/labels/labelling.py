"""Labelling a table by rules: what the job is asked to do, and what is checked before Spark starts."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.jobs import JobResult, run_job
from modelmill.labels.options import LabellingOptions
from modelmill.labels.report import LabelReport
from modelmill.labels.rows import Labelling
from modelmill.settings import Settings
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns
from modelmill.tables.table_request import TableRequest


class LabelRowsResult(JobResult):
    """What was labelled."""

    table: TableRef
    """Every row of the source with its label, if it has one."""
    disagreements: TableRef
    """The rows that a person should see."""
    report: LabelReport


class LabelRowsRequest(TableRequest[LabelRowsResult]):
    """Label the rows of a Delta table by rules."""

    job = "label_rows"

    options: LabellingOptions = Field(description="Which functions vote, and what makes labels of votes.")

    @property
    def disagreements(self) -> str:
        """The table for the rows that a person should see."""
        return f"{self.to}_disagreements"


def label_rows(request: LabelRowsRequest, *, settings: Settings | None = None) -> LabelRowsResult:
    """Label a table.

    :param request: the table, the functions and the place.
    :param settings: which Spark engine to use; None: from the environment.
    :return: the labelled table, the rows that a person should see, and how the functions did.
    :raises ExpressionError: if a condition breaks a rule of the language; all problems are listed.
    :raises ConfigError: if names collide.
    :raises TableError: if the table cannot be read or written, or has no such column.
    :raises DatasetError: if no function votes on any row; nothing is written.
    """
    check_options(request.options, request.table, to=request.to)
    return run_job(request, settings=settings)


def labelling_of(options: LabellingOptions) -> Labelling:
    """Return what the workers need to know of the options.

    :param options: the functions and the columns.
    :return: the same, without a model.
    """
    return Labelling(
        names=tuple(options.functions),
        conditions=tuple(function.when for function in options.functions.values()),
        labels=tuple(function.label for function in options.functions.values()),
        label=options.label,
        threshold=options.threshold,
    )


def check_options(options: LabellingOptions, table: TableRef, *, to: str) -> None:
    """Check the options against the table's columns.

    :param options: the functions and the columns.
    :param table: what to label.
    :param to: where the result goes.
    :raises ExpressionError: if a condition breaks a rule of the language; all problems are listed.
    :raises ConfigError: if names collide, or the table would be written over itself.
    :raises TableError: if the gold column is missing, or is of a type that cannot be a label.
    """
    from modelmill.signals.values import OPAQUE, column_kind

    schema = table_schema(table)
    if options.gold is not None:
        check_columns(schema.names, [options.gold], place=str(table))
        kind = schema.field(options.gold).type
        if column_kind(kind) in (None, *OPAQUE):
            raise TableError(
                f"the gold column has simple values ({table})",
                got=f"{options.gold}: {kind}",
                remedy="cast the column when it is loaded",
            )
    plan = labelling_of(options)
    own = {name.lower() for name in (*plan.label_columns(), *plan.review_columns(), plan.rank_column)}
    taken = [
        name for name in schema.names if name.lower() in own and name not in (options.gold, options.label)
    ]
    if options.label != options.gold:
        taken += [name for name in schema.names if name.lower() == options.label.lower()]
    if taken:
        raise ConfigError(
            f"the columns of label {options.label!r} must not be in the table ({table})",
            got=", ".join(dict.fromkeys(taken)),
            remedy="choose another name under label, or name the column under gold if it has labels by hand",
        )
    if to in (table.uri, f"{table.uri}_disagreements") or f"{to}_disagreements" == table.uri:
        raise ConfigError("a table is not written over its source", got=to, remedy="name another table")
    columns_read(options, table)


def columns_read(options: LabellingOptions, table: TableRef) -> tuple[str, ...]:
    """Check the conditions, and return the columns that they read.

    :param options: the functions and the columns.
    :param table: what to label.
    :return: names.
    :raises ExpressionError: if a condition breaks a rule of the language; all problems are listed.
    """
    from modelmill.rules.language.expressions import compile_expressions

    conditions = {name: function.when for name, function in options.functions.items()}
    program = compile_expressions(conditions, table_schema(table), kind="boolean", what="labelling functions")
    return program.columns
