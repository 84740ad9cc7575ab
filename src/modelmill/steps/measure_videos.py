"""Measure the pictures and the sound of videos, with Spark."""

from __future__ import annotations

from pydantic import Field

from modelmill.steps.videos import VideoConfig, video_component
from modelmill.videos.requests import MeasureVideosRequest, VideoMeasureOptions


class MeasureVideosConfig(VideoMeasureOptions, VideoConfig):
    """Measure videos: sharpness, exposure, borders, frozen and black stretches, slideshows, sound.

    All frames are decoded once, in a process with limits, and some a second are measured. Only videos that
    are new or have changed are decoded.
    """

    to: str = Field(
        description="Table to write: a row for each video, with lists of numbers for measures in time."
    )


measure_videos = video_component(
    "measure_videos", "Measure videos", MeasureVideosConfig, MeasureVideosRequest
)
