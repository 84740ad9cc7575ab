"""Extract frames of videos, with Spark."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.component import Assets, Component, Config, StepContext
from modelmill.steps.videos import VideoInputs, VideoOutputs, run_videos, video_resources, videos_state
from modelmill.videos.requests import ExtractOptions, VideoOptions


class ExtractFramesConfig(ExtractOptions, VideoOptions, Config):
    """Extract frames: some of each shot, as small JPEG pictures with perceptual hashes.

    Videos are decoded in a process with limits. Only those that are new or have changed are decoded.
    """

    to: str = Field(description="Table to write: a row for each frame.")
    quarantine: str = Field(description="Table to write refused videos to.")


def run(config: ExtractFramesConfig, inputs: VideoInputs, context: StepContext) -> VideoOutputs:
    """Extract the frames, and log what became of them."""
    from modelmill.videos.requests import ExtractFramesRequest

    request = ExtractFramesRequest(table=inputs.table, transaction=context.transaction, **dict(config))
    return run_videos(request, context)


def _assets(config: ExtractFramesConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to, config.quarantine))


extract_frames = Component(
    name="extract_frames",
    title="Extract frames",
    group="Data",
    config=ExtractFramesConfig,
    inputs=VideoInputs,
    outputs=VideoOutputs,
    run=run,
    resources=video_resources,
    outside_state=videos_state,
    assets=_assets,
)
