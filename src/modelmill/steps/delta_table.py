"""Name a Delta table and the version of it that later steps read."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AwareDatetime, Field, model_validator

from modelmill.component import Assets, Component, Config, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import NoInputs, TableOutputs


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


def _state(config: DeltaTableConfig, _inputs: NoInputs, _settings: Settings) -> str:
    from modelmill.tables.versions import resolve_table, table_fingerprint

    table = resolve_table(config.uri, version=config.version, timestamp=config.timestamp)
    return f"{table} {table_fingerprint(table)}"


def run(config: DeltaTableConfig, _inputs: NoInputs, context: StepContext) -> TableOutputs:
    """Look the version up, and log the table."""
    from modelmill.tables.versions import resolve_table

    table = resolve_table(config.uri, version=config.version, timestamp=config.timestamp)
    context.run.log_dataset(table, context="source")
    return TableOutputs(table=table)


def _assets(config: DeltaTableConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(inlets=(config.uri,))


delta_table = Component(
    name="delta_table",
    title="Delta table",
    group="Data",
    config=DeltaTableConfig,
    inputs=NoInputs,
    outputs=TableOutputs,
    run=run,
    outside_state=_state,
    assets=_assets,
)
