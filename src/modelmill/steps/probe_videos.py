"""Read what videos say of themselves, with Spark; broken ones go to a quarantine."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.component import Assets, Component, Config, StepContext
from modelmill.steps.videos import VideoInputs, VideoOutputs, run_videos, video_resources, videos_state
from modelmill.videos.requests import VideoOptions


class ProbeVideosConfig(VideoOptions, Config):
    """Read what the videos of a table say of themselves: container, streams, packets, subtitles.

    Each is opened in a process with limits. What is broken, empty, too large or no video goes to the
    quarantine, with the reason. Only videos that are new or have changed are read.
    """

    to: str = Field(description="Table to write: a row for each video.")
    quarantine: str = Field(description="Table to write refused videos to.")
    sidecars: bool = Field(
        True, description="Whether files of subtitles beside a video are read: same name, .srt, .vtt or .ass."
    )


def run(config: ProbeVideosConfig, inputs: VideoInputs, context: StepContext) -> VideoOutputs:
    """Probe the videos, and log what became of them."""
    from modelmill.videos.requests import ProbeVideosRequest

    request = ProbeVideosRequest(table=inputs.table, transaction=context.transaction, **dict(config))
    return run_videos(request, context)


def _assets(config: ProbeVideosConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to, config.quarantine))


probe_videos = Component(
    name="probe_videos",
    title="Probe videos",
    group="Data",
    config=ProbeVideosConfig,
    inputs=VideoInputs,
    outputs=VideoOutputs,
    run=run,
    resources=video_resources,
    outside_state=videos_state,
    assets=_assets,
)
