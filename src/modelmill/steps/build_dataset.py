"""Make a dataset of a table: checked, deduplicated, split; refused rows keep their reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext, writes_to
from modelmill.datasets.options import BuildOptions
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    from modelmill.datasets.report import DatasetReport


class BuildDatasetConfig(BuildOptions, Config):
    """Make a dataset of a table with Spark: checked, deduplicated, split; refused rows keep their reason."""

    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")


class BuildDatasetInputs(Inputs):
    """The table to make it of."""

    table: TableRef


class DatasetOutputs(Outputs):
    """The dataset, the refused rows with their reasons, and the duplicates with the key of their original."""

    dataset: DatasetRef
    quarantine: TableRef
    duplicates: TableRef


def run(config: BuildDatasetConfig, inputs: BuildDatasetInputs, context: StepContext) -> DatasetOutputs:
    """Build the dataset, and log what became of the rows."""
    from modelmill.datasets.building import build_dataset
    from modelmill.datasets.report import DatasetReport
    from modelmill.datasets.request import BuildDatasetRequest

    request = BuildDatasetRequest(
        table=inputs.table,
        options=config,
        to=context.table("datasets", config.to),
        transaction=context.transaction,
    )
    made = build_dataset(request, settings=context.settings, log=context.log)
    _log(DatasetReport.of(made.build), inputs.table, made.dataset, context)
    return DatasetOutputs(dataset=made.dataset, quarantine=made.quarantine, duplicates=made.duplicates)


def _log(report: DatasetReport, table: TableRef, dataset: DatasetRef, context: StepContext) -> None:
    from modelmill.datasets.report import class_balance, text_lengths

    context.run.log_dataset(table, context="source", rows=report.rows_in)
    context.run.log_json(report.model_dump(mode="json") | {"dataset": str(dataset)}, "dataset.json")
    context.run.log_metrics(report.counts())
    for label in report.classes:
        context.run.log_figure(class_balance(report, label), f"class_balance_{label}.png")
    if report.lengths:
        context.run.log_figure(text_lengths(report), "text_lengths.png")
    context.log(f"{context.step}: {report}")


build_dataset = Component(
    name="build_dataset",
    title="Build dataset",
    group="Data",
    config=BuildDatasetConfig,
    inputs=BuildDatasetInputs,
    outputs=DatasetOutputs,
    run=run,
    version=4,
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
