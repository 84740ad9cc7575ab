"""Components that bring tables in and make datasets of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.data.dataset_config import BuildDatasetConfig
from modelmill.errors import InputError
from modelmill.pipeline.component import Assets, Component, Config, Inputs, Outputs, Resources, StepContext
from modelmill.settings import Settings


class NoInputs(Inputs):
    """Nothing flows in."""


class TableOutputs(Outputs):
    """A Delta table at a version."""

    table: TableRef


def tables_exist(outputs: Outputs, _settings: Settings) -> bool:
    """Return whether every table that a step made is still there, at its version.

    :param outputs: the step's outputs; those that are no tables do not count.
    :param _settings: not needed: a reference names its table.
    :return: False if one is gone.
    """
    from modelmill.data.tables import open_table

    for name in type(outputs).model_fields:
        reference = getattr(outputs, name)
        if isinstance(reference, TableRef | DatasetRef):
            try:
                open_table(reference.uri, version=reference.version)
            except InputError:
                return False
    return True


class DeltaTableConfig(Config):
    """A Delta table as it stands now: later steps read exactly this version."""

    uri: str = Field(description="Path or URI of the table's directory.")
    version: int | None = Field(None, ge=0, description="Version to read; empty: the newest.")
    timestamp: AwareDatetime | None = Field(
        None,
        description="Read what stood at that time, such as 2026-11-01T02:00:00Z (ISO 8601 with its zone).",
    )

    @model_validator(mode="after")
    def _version_or_time(self) -> DeltaTableConfig:
        if self.version is not None and self.timestamp is not None:
            raise ValueError(
                f"a table is read at a version or at a time, not both: {self.version}, {self.timestamp}"
            )
        return self


def _delta_table_state(config: DeltaTableConfig, _inputs: NoInputs, _settings: Settings) -> str:
    from modelmill.data.tables import resolve_table

    return str(resolve_table(config.uri, version=config.version, timestamp=config.timestamp).version)


def _run_delta_table(config: DeltaTableConfig, _inputs: NoInputs, context: StepContext) -> TableOutputs:
    from modelmill.data.tables import resolve_table

    table = resolve_table(config.uri, version=config.version, timestamp=config.timestamp)
    context.run.log_dataset(table, context="source")
    return TableOutputs(table=table)


def _delta_table_assets(config: DeltaTableConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(inlets=(config.uri,))


delta_table = Component(
    name="delta_table",
    title="Delta table",
    group="Data",
    config=DeltaTableConfig,
    inputs=NoInputs,
    outputs=TableOutputs,
    run=_run_delta_table,
    outside_state=_delta_table_state,
    assets=_delta_table_assets,
)


class IngestConfig(Config):
    """Load files into a Delta table with Spark, each file exactly once (as COPY INTO does).

    The table's newest version is handed on, whoever wrote it.
    """

    source: str = Field(description="Path or glob of the files, such as /landing/news/*.jsonl.")
    to: str = Field(description="Path or URI of the Delta table; made if it does not exist.")
    format: Literal["json", "csv", "parquet"] = Field("json", description="Format of the files.")
    options: dict[str, str] = Field(default={}, description="Options of Spark's reader, such as {sep: ';'}.")
    select: dict[str, str] = Field(
        default={}, description="Columns of the table: name to Spark SQL expression. Empty: as in the files."
    )
    where: str | None = Field(None, description="Spark SQL condition that a row must meet; empty: all rows.")


def _ingest_state(config: IngestConfig, _inputs: NoInputs, _settings: Settings) -> str:
    from modelmill.data.ingest import outside_state

    return outside_state(config)


def _run_ingest(config: IngestConfig, _inputs: NoInputs, context: StepContext) -> TableOutputs:
    from modelmill.data.ingest import run

    return TableOutputs(table=run(config, context))


def _ingest_assets(config: IngestConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,))


ingest = Component(
    name="ingest",
    title="Ingest files",
    group="Data",
    config=IngestConfig,
    inputs=NoInputs,
    outputs=TableOutputs,
    run=_run_ingest,
    resources=Resources(cpus=2, memory_gb=4),
    outside_state=_ingest_state,
    assets=_ingest_assets,
)


class BuildDatasetInputs(Inputs):
    """The table to make it of."""

    table: TableRef


class DatasetOutputs(Outputs):
    """The dataset, and the rows that did not make it, each with its reason."""

    dataset: DatasetRef
    quarantine: TableRef


def _run_build_dataset(
    config: BuildDatasetConfig, inputs: BuildDatasetInputs, context: StepContext
) -> DatasetOutputs:
    from modelmill.data.dataset import run

    dataset, quarantine = run(config, inputs.table, context)
    return DatasetOutputs(dataset=dataset, quarantine=quarantine)


def _build_dataset_assets(config: BuildDatasetConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,)) if config.to else Assets()


build_dataset = Component(
    name="build_dataset",
    title="Build dataset",
    group="Data",
    config=BuildDatasetConfig,
    inputs=BuildDatasetInputs,
    outputs=DatasetOutputs,
    run=_run_build_dataset,
    still_true=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_build_dataset_assets,
)
