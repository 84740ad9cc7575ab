"""List the rows of a dataset whose label is probably wrong."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef
from modelmill.component import Component, Config, Inputs, StepContext, writes_to
from modelmill.labels.options import LabelErrorOptions
from modelmill.steps.ports import TableOutputs
from modelmill.system.resources import Resources


class RankLabelErrorsConfig(LabelErrorOptions, Config):
    """List the rows whose label is probably wrong, the most suspicious first (confident learning)."""

    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")


class RankLabelErrorsInputs(Inputs):
    """The dataset whose labels are checked."""

    dataset: DatasetRef


def run(config: RankLabelErrorsConfig, inputs: RankLabelErrorsInputs, context: StepContext) -> TableOutputs:
    """Rank the rows, and log how many are suspicious."""
    from modelmill.labels.label_errors import rank_label_errors

    ranked = rank_label_errors(
        inputs.dataset,
        config,
        to=context.table("label_errors", config.to),
        transaction=context.transaction,
    )
    context.run.log_dataset(inputs.dataset, context="label errors", rows=ranked.rows)
    context.run.log_metrics(
        {"rows": ranked.rows, "rows_judged": ranked.judged, "rows_suspicious": ranked.suspicious}
    )
    context.log(
        f"{context.step}: {ranked.rows:,} labelled rows in {config.split}, {ranked.judged:,} judged "
        f"(the others have labels with fewer rows than folds), "
        f"{ranked.suspicious:,} probably have the wrong label"
    )
    return TableOutputs(table=ranked.table)


rank_label_errors = Component(
    name="rank_label_errors",
    title="Rank label errors",
    group="Check",
    config=RankLabelErrorsConfig,
    inputs=RankLabelErrorsInputs,
    outputs=TableOutputs,
    run=run,
    reads=("text",),
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
