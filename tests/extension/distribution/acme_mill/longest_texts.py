"""Write the longest texts of a table into a table: a component."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Assets, Component, Config, Inputs, StepContext
from modelmill.steps.ports import TableOutputs


class LongestTextsConfig(Config):
    """Write the longest texts of a table into a table."""

    text: str = Field("text", description="Column with the text.")
    rows: int = Field(100, ge=1, description="Texts to write.")
    to: str = Field(description="Table to write.")


class LongestTextsInputs(Inputs):
    """The table to read."""

    table: TableRef


def run(config: LongestTextsConfig, inputs: LongestTextsInputs, context: StepContext) -> TableOutputs:
    """Read, call the algorithm, write, log."""
    from acme_mill.longest import longest
    from modelmill.tables.commits import write_rows
    from modelmill.tables.reading import read_arrow
    from modelmill.tables.storage import table_location

    found = longest(read_arrow(inputs.table, columns=[config.text]), config.text, rows=config.rows)
    place = table_location(config.to)
    version = write_rows(place, found, mode="overwrite", transaction=context.transaction)
    context.run.log_metrics({"rows": found.num_rows})
    return TableOutputs(table=TableRef(uri=place, version=version))


def _assets(config: LongestTextsConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,))


longest_texts = Component(
    name="longest_texts",
    title="Longest texts",
    group="Data",
    config=LongestTextsConfig,
    inputs=LongestTextsInputs,
    outputs=TableOutputs,
    run=run,
    assets=_assets,
)
