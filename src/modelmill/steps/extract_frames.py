"""Extract frames of videos, with Spark."""

from __future__ import annotations

from pydantic import Field

from modelmill.steps.videos import VideoConfig, video_component
from modelmill.videos.requests import ExtractFramesRequest, ExtractOptions


class ExtractFramesConfig(ExtractOptions, VideoConfig):
    """Extract frames: some of each shot, as small JPEG pictures with perceptual hashes.

    Videos are decoded in a process with limits. Only those that are new or have changed are decoded.
    """

    to: str = Field(description="Table to write: a row for each frame.")


extract_frames = video_component(
    "extract_frames", "Extract frames", ExtractFramesConfig, ExtractFramesRequest
)
