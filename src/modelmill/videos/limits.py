"""What one video may cost, and what it may be."""

from __future__ import annotations

from pydantic import Field

from modelmill.options import Options

CONTAINERS = (
    "avi",
    "flv",
    "matroska,webm",
    "mov,mp4,m4a,3gp,3g2,mj2",
    "mpeg",
    "mpegts",
    "ogg",
)
"""Names that libav gives to the formats that are read. None of them names other files: HLS, DASH, concat, SDP
and the image sequences do, so they are not on the list. Pictures and text are no videos."""

SUBTITLE_FORMATS = ("srt", "webvtt", "ass")


class VideoLimits(Options):
    """Limits for each video: one that goes beyond them is refused, with the reason."""

    deadline_seconds: float = Field(120.0, gt=0, description="Time to work on a video.")
    cpu_seconds: int = Field(120, ge=1, description="Processor time for a video.")
    memory_mb: int = Field(
        1024, ge=512, description="Address space of the process that decodes, the interpreter included."
    )
    max_bytes: int = Field(4 << 30, ge=1, description="Size of a file.")
    max_pixels: int = Field(4096 * 2304, ge=1, description="Width times height.")
    max_streams: int = Field(64, ge=1, description="Streams in a file.")
    max_seconds: float = Field(6 * 3600.0, gt=0, description="Declared duration.")


CONTENT_BYTES = 16 << 20
"""Largest video that a column of bytes may hold."""

SUBTITLE_CHARACTERS = 200_000
"""Characters of subtitles that are kept; what follows is cut off."""

SUBTITLE_BYTES = 4 << 20
"""Bytes of a file of subtitles that are read."""
