"""What the limited process can do with a video, and the columns that each task fills."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from modelmill.videos.limits import VideoLimits
from modelmill.videos.sources import Source

Work = Callable[[Source, VideoLimits, Mapping[str, Any]], list[dict[str, Any]]]
"""Works on one video, in the limited process: its bytes, the limits, the options as JSON. Returns rows."""


@dataclass(frozen=True)
class Task:
    """A kind of work on one video."""

    name: str
    function: str
    """``module:function``; a :data:`Work`."""
    columns: Mapping[str, str]
    """What it returns: the type of each column, as :data:`TYPES` names it."""
    version: int
    """Raised when the same video gives other rows."""

    def load(self) -> Work:
        """Import the function."""
        module, _, name = self.function.partition(":")
        work: Work = getattr(import_module(module), name)
        return work

    def recipe(self, options: Mapping[str, Any]) -> str:
        """Return what tells rows of these options and this version from others: 16 hexadecimal digits."""
        text = json.dumps([self.name, self.version, options], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


PROBED = {
    "bytes": "integer",
    "container": "text",
    "streams": "integer",
    "seconds": "float",
    "declared_seconds": "float",
    "width": "integer",
    "height": "integer",
    "rotation": "integer",
    "codec": "text",
    "pixel_format": "text",
    "frames": "integer",
    "frames_per_second": "float",
    "keyframes": "integer",
    "longest_keyframe_gap": "float",
    "bit_rate": "float",
    "audio_codec": "text",
    "audio_channels": "integer",
    "audio_sample_rate": "integer",
    "subtitles": "text",
    "subtitles_from": "text",
    "subtitles_language": "text",
    "subtitles_seconds": "float",
    "tags": "text",
}
"""Columns of ``probe_videos``: times in seconds, rates in bits and frames per second, ``tags`` as JSON."""

TASKS: Mapping[str, Task] = {
    task.name: task for task in (Task("probe", "modelmill.videos.probing:probe", PROBED, version=1),)
}
"""Every task by its name."""
