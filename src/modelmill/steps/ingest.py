"""The step ``ingest``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from modelmill.component import Assets, Component, Config, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import NoInputs, TableOutputs
from modelmill.system.resources import Resources


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
    from modelmill.tables.ingest import outside_state

    return outside_state(config)


def _run_ingest(config: IngestConfig, _inputs: NoInputs, context: StepContext) -> TableOutputs:
    from modelmill.tables.ingest import run

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
