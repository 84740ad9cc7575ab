"""The step ``score_table``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import ModelRef, TableRef
from modelmill.component import Assets, Component, Config, Inputs, StepContext
from modelmill.steps.ports import TableOutputs, tables_exist
from modelmill.system.resources import Resources


class ScoreTableConfig(Config):
    """Score every row of a table with a model, with Spark; a row without a text gets null, not a guess."""

    to: str = Field(description="Path or URI of the Delta table to write; each run makes a new version.")
    text: str | None = Field(None, description="Column with the text; empty: as the model was trained.")
    keep: tuple[str, ...] = Field((), description="Columns to carry along; empty: all.")


class ScoreTableInputs(Inputs):
    """The table, and the model."""

    table: TableRef
    model: ModelRef


def _run_score_table(
    config: ScoreTableConfig, inputs: ScoreTableInputs, context: StepContext
) -> TableOutputs:
    from modelmill.serving.scoring import run

    return TableOutputs(table=run(config, inputs.table, inputs.model, context))


def _score_table_assets(config: ScoreTableConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,))


score_table = Component(
    name="score_table",
    title="Score table",
    group="Release",
    config=ScoreTableConfig,
    inputs=ScoreTableInputs,
    outputs=TableOutputs,
    run=_run_score_table,
    still_valid=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_score_table_assets,
)
