"""Read the text that is seen in videos, with Spark."""

from __future__ import annotations

from pydantic import Field

from modelmill.steps.videos import VideoConfig, video_component
from modelmill.videos.limits import VideoLimits
from modelmill.videos.requests import READING_LIMITS, ReadTextOptions, ReadTextRequest


class ReadTextInFramesConfig(ReadTextOptions, VideoConfig):
    """Read the text in frames of videos by OCR: texts with their boxes and times, a frame of each shot.

    It costs about half a second for each frame, more than all other measures of a short clip: ask it last, of
    the rows that are still undecided. Only videos that are new or have changed are read.
    """

    limits: VideoLimits = Field(READING_LIMITS, description="What each video may cost, and may be.")
    to: str = Field(description="Table to write: a row for each video.")


read_text_in_frames = video_component(
    "read_text_in_frames", "Read text in frames", ReadTextInFramesConfig, ReadTextRequest
)
