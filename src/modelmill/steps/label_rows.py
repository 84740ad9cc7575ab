"""Label the rows of a table by rules: functions vote, a model weighs the votes."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext, writes_to
from modelmill.errors import ExpressionError
from modelmill.labels.options import LabellingOptions
from modelmill.system.resources import Resources


class LabelRowsConfig(LabellingOptions, Config):
    """Label rows by rules with Spark: functions vote, a model weighs the votes, gold labels check and win."""

    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")


class LabelRowsInputs(Inputs):
    """The table to label."""

    table: TableRef


class LabelRowsOutputs(Outputs):
    """Every row of the table with its label, if it has one; and the rows that a person should see."""

    table: TableRef
    disagreements: TableRef


def run(config: LabelRowsConfig, inputs: LabelRowsInputs, context: StepContext) -> LabelRowsOutputs:
    """Label the rows, and log how the functions did."""
    from modelmill.labels.labelling import LabelRowsRequest, label_rows
    from modelmill.labels.report import functions_figure, metrics, summary

    request = LabelRowsRequest(
        table=inputs.table,
        options=config,
        to=context.table("labels", config.to),
        transaction=context.transaction,
    )
    try:
        labelled = label_rows(request, settings=context.settings)
    except ExpressionError as error:
        context.log(error.report)
        raise
    report = labelled.report
    context.run.log_dataset(inputs.table, context="source", rows=report.rows)
    context.run.log_json(report.model_dump(mode="json") | {"table": str(labelled.table)}, "labels.json")
    context.run.log_metrics(metrics(report))
    context.run.log_figure(functions_figure(report.functions), "labelling_functions.png")
    for line in summary(report):
        context.log(f"{context.step}: {line}")
    return LabelRowsOutputs(table=labelled.table, disagreements=labelled.disagreements)


label_rows = Component(
    name="label_rows",
    title="Label rows by rules",
    group="Data",
    config=LabelRowsConfig,
    inputs=LabelRowsInputs,
    outputs=LabelRowsOutputs,
    run=run,
    version=2,
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
