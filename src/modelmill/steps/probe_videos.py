"""Read what videos say of themselves, with Spark; broken ones go to a quarantine."""

from __future__ import annotations

from pydantic import Field

from modelmill.steps.videos import VideoConfig, video_component
from modelmill.videos.requests import ProbeVideosRequest


class ProbeVideosConfig(VideoConfig):
    """Read what the videos of a table say of themselves: container, streams, packets, subtitles.

    Each is opened in a process with limits. What is broken, empty, too large or no video goes to the
    quarantine, with the reason. Only videos that are new or have changed are read.
    """

    sidecars: bool = Field(
        True, description="Whether files of subtitles beside a video are read: same name, .srt, .vtt or .ass."
    )


probe_videos = video_component("probe_videos", "Probe videos", ProbeVideosConfig, ProbeVideosRequest)
