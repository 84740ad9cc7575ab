"""Count the words of a table's texts, with Spark: a component and what its job is asked to do."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Assets, Component, Config, Inputs, StepContext
from modelmill.jobs import JobResult, run_job
from modelmill.steps.ports import TableOutputs
from modelmill.tables.table_request import TableRequest


class CountWordsResult(JobResult):
    """The counts."""

    table: TableRef
    words: int


class CountWordsRequest(TableRequest[CountWordsResult]):
    """Count the words of a table's texts."""

    job = "count_words"

    text: str = Field("text", description="Column with the text.")


class CountWordsConfig(Config):
    """Count the words of a table's texts."""

    text: str = Field("text", description="Column with the text.")
    to: str = Field(description="Table to write.")


class CountWordsInputs(Inputs):
    """The table to read."""

    table: TableRef


def run(config: CountWordsConfig, inputs: CountWordsInputs, context: StepContext) -> TableOutputs:
    """Run the job, and log how many words there are."""
    request = CountWordsRequest(
        table=inputs.table, text=config.text, to=config.to, transaction=context.transaction
    )
    counted = run_job(request, settings=context.settings)
    context.run.log_metrics({"words": counted.words})
    return TableOutputs(table=counted.table)


def _assets(config: CountWordsConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,))


count_words = Component(
    name="count_words",
    title="Count words",
    group="Acme",
    config=CountWordsConfig,
    inputs=CountWordsInputs,
    outputs=TableOutputs,
    run=run,
    assets=_assets,
)
