"""Score every row of a table with a model; a row without a text, or a readable image, gets null."""

from __future__ import annotations

import time

from pydantic import Field

from modelmill.artifacts import ModelRef, TableRef
from modelmill.component import Component, Config, Inputs, StepContext, writes_to
from modelmill.steps.ports import TableOutputs
from modelmill.system.resources import Resources


class ScoreTableConfig(Config):
    """Score every row of a table with a model; a row without a text, or a readable image, gets null."""

    to: str = Field(description="Path or URI of the Delta table to write; each run makes a new version.")
    text: str | None = Field(
        None,
        description="Column with the text or the image; empty: the one that the model was trained on, else "
        "`text` or `image`.",
    )
    keep: tuple[str, ...] = Field((), description="Columns to carry along; empty: all.")


class ScoreTableInputs(Inputs):
    """The table, and the model."""

    table: TableRef
    model: ModelRef


def run(config: ScoreTableConfig, inputs: ScoreTableInputs, context: StepContext) -> TableOutputs:
    """Fetch the model, score the table, and log the predictions."""
    from modelmill.models.bundle import BundleInfo
    from modelmill.models.predictions import read_column
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.serving.scoring import ScoreTableRequest, score_table
    from modelmill.tables.opening import open_table

    folder = fetch_bundle(inputs.model, context.cache)
    info = BundleInfo.load(folder)
    source = open_table(inputs.table.uri, version=inputs.table.version)
    names = [column.name for column in source.schema().fields]
    context.log(f"scoring {source.count():,} rows")
    request = ScoreTableRequest(
        table=inputs.table,
        model=inputs.model,
        bundle=str(folder),
        text=config.text or read_column(names, info.text, info.content) or info.text,
        content=info.content,
        answer_type=info.task.answer_type,
        keep=config.keep,
        to=config.to,
        tracking_uri=context.settings.tracking_uri,
        transaction=context.transaction,
    )
    began = time.monotonic()
    scored = score_table(request, settings=context.settings)
    seconds = time.monotonic() - began
    context.run.log_dataset(inputs.table, context="scoring", rows=scored.rows)
    context.run.log_json(scored.model_dump(mode="json") | {"source": str(inputs.table)}, "scores.json")
    figures = {"rows": scored.rows, "rows_unscored": scored.unscored, "rows_unreadable": scored.unreadable}
    context.run.log_metrics({**figures, "seconds": seconds})
    unread = f", {scored.unreadable} with one that cannot be decoded" if scored.unreadable else ""
    context.log(
        f"{context.step}: {scored.rows} rows, {scored.unscored - scored.unreadable} of them without a "
        f"{info.content}{unread}: their answer is null; {scored.table}"
    )
    return TableOutputs(table=scored.table)


score_table = Component(
    name="score_table",
    version=3,
    title="Score table",
    group="Release",
    config=ScoreTableConfig,
    inputs=ScoreTableInputs,
    outputs=TableOutputs,
    run=run,
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
