"""Measure the pictures and the sound of videos, with Spark."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.component import Assets, Component, Config, StepContext
from modelmill.steps.videos import VideoInputs, VideoOutputs, run_videos, video_resources, videos_state
from modelmill.videos.requests import MeasureOptions, VideoOptions


class MeasureVideosConfig(MeasureOptions, VideoOptions, Config):
    """Measure videos: sharpness, exposure, borders, frozen and black stretches, slideshows, sound.

    All frames are decoded once, in a process with limits, and some a second are measured. Only videos that
    are new or have changed are decoded.
    """

    to: str = Field(
        description="Table to write: a row for each video, with lists of numbers for measures in time."
    )
    quarantine: str = Field(description="Table to write refused videos to.")


def run(config: MeasureVideosConfig, inputs: VideoInputs, context: StepContext) -> VideoOutputs:
    """Measure the videos, and log what became of them."""
    from modelmill.videos.requests import MeasureVideosRequest

    request = MeasureVideosRequest(table=inputs.table, transaction=context.transaction, **dict(config))
    return run_videos(request, context)


def _assets(config: MeasureVideosConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to, config.quarantine))


measure_videos = Component(
    name="measure_videos",
    title="Measure videos",
    group="Data",
    config=MeasureVideosConfig,
    inputs=VideoInputs,
    outputs=VideoOutputs,
    run=run,
    resources=video_resources,
    outside_state=videos_state,
    assets=_assets,
)
