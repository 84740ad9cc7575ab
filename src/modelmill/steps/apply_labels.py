"""Put the labels that people gave on the labelling page into a table."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Component, Config, Inputs, StepContext, writes_to
from modelmill.steps.ports import TableOutputs


class ApplyLabelsConfig(Config):
    """Put the labels that people gave into a table; they win over the labels that it has."""

    key: str = Field(min_length=1, description="Column whose values identify a row in the table of labels.")
    label: str = Field(min_length=1, description="Label column to write; it need not be in the table yet.")
    source: str | None = Field(
        None, min_length=1, description="Column that says person in rows with a person's label; empty: none."
    )
    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")


class ApplyLabelsInputs(Inputs):
    """The table, and the table of labels that the labelling page writes."""

    table: TableRef
    labels: TableRef


def run(config: ApplyLabelsConfig, inputs: ApplyLabelsInputs, context: StepContext) -> TableOutputs:
    """Write the table, and log how many rows have a person's label."""
    from modelmill.labels.person_labels import PersonLabelColumns
    from modelmill.labels.person_labels import apply_labels as apply

    applied = apply(
        inputs.table,
        inputs.labels,
        columns=PersonLabelColumns(config.key, config.label, config.source),
        to=context.table("labelled", config.to),
        transaction=context.transaction,
    )
    context.run.log_dataset(inputs.table, context="source", rows=applied.rows)
    context.run.log_dataset(inputs.labels, context="labels")
    context.run.log_metrics(
        {"rows": applied.rows, "rows_by_people": applied.labelled, "keys_contested": applied.contested}
    )
    context.log(
        f"{context.step}: {applied.labelled:,} of {applied.rows:,} rows have a person's label; "
        f"{applied.settled:,} keys are settled, on {applied.contested:,} people differ"
    )
    return TableOutputs(table=applied.table)


apply_labels = Component(
    name="apply_labels",
    title="Apply people's labels",
    group="Data",
    config=ApplyLabelsConfig,
    inputs=ApplyLabelsInputs,
    outputs=TableOutputs,
    run=run,
    assets=writes_to,
)
