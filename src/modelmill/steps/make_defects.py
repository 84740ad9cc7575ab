"""Make labelled clips of clean ones, with Spark: training data for a defect."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.component import Assets, Component, Config, StepContext
from modelmill.steps.videos import VideoInputs, VideoOutputs, run_videos, video_resources, videos_state
from modelmill.videos.requests import DefectOptions, VideoOptions


class MakeDefectsConfig(DefectOptions, VideoOptions, Config):
    """Make labelled clips of clean ones by known transformations: blur, borders, slides and others.

    Each clip is decoded, transformed and encoded again; its labels are exact. Clips of one key, or of one
    value of a column carried along, show one scene: a split by it keeps scenes together.
    """

    to: str = Field(description="Table to write: a row for each clip made.")
    quarantine: str = Field(description="Table to write refused videos to.")


def run(config: MakeDefectsConfig, inputs: VideoInputs, context: StepContext) -> VideoOutputs:
    """Make the clips, and log what became of them."""
    from modelmill.videos.requests import MakeDefectsRequest

    request = MakeDefectsRequest(table=inputs.table, transaction=context.transaction, **dict(config))
    return run_videos(request, context)


def _assets(config: MakeDefectsConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to, config.quarantine))


make_defects = Component(
    name="make_defects",
    title="Make defects",
    group="Data",
    config=MakeDefectsConfig,
    inputs=VideoInputs,
    outputs=VideoOutputs,
    run=run,
    resources=video_resources,
    outside_state=videos_state,
    assets=_assets,
)
