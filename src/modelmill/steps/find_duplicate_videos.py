"""Find near-duplicate videos, with Spark."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Component, Config, Inputs, StepContext, writes_to
from modelmill.steps.ports import TableOutputs
from modelmill.system.resources import Resources
from modelmill.videos.duplicate_request import DuplicateOptions


class FindDuplicateVideosConfig(DuplicateOptions, Config):
    """Find near-duplicate videos: encoded again, resized, brighter, with borders, cropped by up to 20 %.

    All rows are written, with four more columns: the group of a video, its nearest kept twin, the distance,
    and whether it is a copy or a crop of it. Videos are compared by what measure_videos wrote.
    """

    to: str = Field(description="Table to write: all rows, with four more columns.")


class FindDuplicateVideosInputs(Inputs):
    """The table that measure_videos wrote."""

    table: TableRef


def run(
    config: FindDuplicateVideosConfig, inputs: FindDuplicateVideosInputs, context: StepContext
) -> TableOutputs:
    """Run the job, and log how many videos have a twin."""
    from modelmill.jobs import run_job
    from modelmill.videos.duplicate_request import FindDuplicateVideosRequest

    request = FindDuplicateVideosRequest(table=inputs.table, transaction=context.transaction, **dict(config))
    found = run_job(request, settings=context.settings)
    context.run.log_dataset(request.table, context="source", rows=found.videos)
    context.run.log_metrics(
        {"videos": found.videos, "duplicates": found.duplicates, "without_hashes": found.without_hashes}
    )
    context.run.log_json(found.model_dump(mode="json"), "duplicates.json")
    kinds = ", ".join(f"{count} {relation}" for relation, count in found.relations.items())
    context.log(
        f"{context.step}: {found.duplicates} of {found.videos} videos are near-duplicates"
        f"{f' ({kinds})' if kinds else ''} in {found.groups} groups; {found.table}"
    )
    return TableOutputs(table=found.table)


find_duplicate_videos = Component(
    name="find_duplicate_videos",
    title="Find duplicate videos",
    group="Data",
    config=FindDuplicateVideosConfig,
    inputs=FindDuplicateVideosInputs,
    outputs=TableOutputs,
    run=run,
    resources=Resources(cpus=2, memory_gb=4),
    assets=writes_to,
)
