"""Load files into a Delta table with Spark, each file exactly once."""

from __future__ import annotations

from modelmill.component import Component, Config, StepContext, writes_to
from modelmill.settings import Settings
from modelmill.steps.ports import NoInputs, TableOutputs
from modelmill.system.resources import Resources
from modelmill.tables.ingest import IngestOptions


class IngestConfig(IngestOptions, Config):
    """Load files into a Delta table with Spark, each file exactly once (as COPY INTO does).

    The table's newest version is handed on, whoever wrote it.
    """


def run(config: IngestConfig, _inputs: NoInputs, context: StepContext) -> TableOutputs:
    """Load the files that are new, and log how many there are."""
    from modelmill.jobs import run_job
    from modelmill.tables.ingest import IngestRequest
    from modelmill.tables.reading import check_table

    loaded = run_job(IngestRequest(**dict(config)), settings=context.settings)
    check_table(loaded.table, memory=context.settings.digests)
    context.log(
        f"{context.step}: {loaded.files} new files of {loaded.files_found}, "
        f"{loaded.rows} rows; {loaded.table}"
    )
    context.run.log_dataset(loaded.table, context="source")
    context.run.log_metrics(
        {"files": loaded.files, "files_found": loaded.files_found, "rows": loaded.rows},
    )
    return TableOutputs(table=loaded.table)


def _source_state(config: IngestConfig, _inputs: NoInputs, settings: Settings) -> str:
    from modelmill.tables.ingest import source_fingerprint

    return source_fingerprint(config, memory=settings.digests)


def _is_newest(outputs: TableOutputs, _settings: Settings) -> bool:
    from modelmill.tables.versions import resolve_table

    return resolve_table(outputs.table.uri) == outputs.table


ingest = Component(
    name="ingest",
    title="Ingest files",
    group="Data",
    config=IngestConfig,
    inputs=NoInputs,
    outputs=TableOutputs,
    run=run,
    resources=Resources(cpus=2, memory_gb=4),
    outside_state=_source_state,
    still_valid=_is_newest,
    assets=writes_to,
)
