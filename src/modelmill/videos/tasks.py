"""What the limited process can do with a video, and the columns that each task fills."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from modelmill.errors import ConfigError
from modelmill.videos.limits import VideoLimits
from modelmill.videos.sources import Source

Work = Callable[[Source, VideoLimits, Mapping[str, Any]], list[dict[str, Any]]]
"""Works on one video, in the limited process: its bytes, the limits, the options as JSON. Returns rows."""


@dataclass(frozen=True)
class VideoTask:
    """A kind of work on one video."""

    name: str
    function: str
    """``module:function``; a :data:`Work`."""
    columns: Mapping[str, str]
    """What it returns: the type of each column, as :data:`TYPES` names it."""
    version: int
    """Raised when the same video gives other rows."""

    example: Mapping[str, Any]
    """Options with which the limited process tries the task at its start: what it imports is there then."""
    extra: str = "video"
    """Extra of modelmill that has what the task imports. Only processes that are asked for a task of another
    extra than ``video`` load it: it takes memory and time."""
    package: str = "av"
    """What is imported of it."""

    def check(self) -> None:
        """Make sure that the task can be done here.

        :raises ConfigError: if what it imports is not installed.
        """
        if find_spec(self.package) is None:
            raise ConfigError(
                f"{self.name} needs an extra (there is no package {self.package})",
                remedy=f"pip install 'modelmill[{self.extra}]'",
            )

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
"""Columns of ``probe_videos``: times in seconds, rates in bits and frames per second, ``tags`` as JSON.
``width`` and ``height`` are those of the picture as it is shown, to which every box belongs; ``rotation``:
degrees against the clock by which it is stored turned."""

MEASURED = {
    "times": "numbers",
    "brightness": "numbers",
    "contrast": "numbers",
    "dark_share": "numbers",
    "bright_share": "numbers",
    "colourfulness": "numbers",
    "motion": "numbers",
    "text_share": "numbers",
    "black": "numbers",
    "frozen": "numbers",
    "blur": "numbers",
    "sharpness": "numbers",
    "noise": "numbers",
    "blockiness": "numbers",
    "border": "text",
    "border_share": "float",
    "border_box": "numbers",
    "overlay_share": "float",
    "overlay_box": "numbers",
    "hash_times": "numbers",
    "hashes": "bytes",
    "measured_seconds": "float",
    "decode_errors": "integer",
    "cuts": "numbers",
    "shots": "integer",
    "shot_seconds": "float",
    "shortest_shot": "float",
    "still_share": "float",
    "slideshow": "float",
    "black_seconds": "float",
    "black_starts": "numbers",
    "black_ends": "numbers",
    "frozen_seconds": "float",
    "frozen_starts": "numbers",
    "frozen_ends": "numbers",
    "loudness": "float",
    "loudness_range": "float",
    "silent_share": "float",
    "silent_starts": "numbers",
    "silent_ends": "numbers",
    "sound_broken": "boolean",
    "stills": "bytes",
}
"""Columns of ``measure_videos``. The measures from ``brightness`` to ``blockiness`` have a number for each of
``times``, in seconds from the first frame; boxes are left, top, right, bottom in pixels. ``hashes`` is for
``find_duplicate_videos``: see :class:`modelmill.videos.duplicates.Fingerprint`. ``stills`` is a video of a
picture of each shot: see :mod:`modelmill.videos.stills`."""

EXTRACTED = {
    "frame": "integer",
    "shot": "integer",
    "time": "float",
    "width": "integer",
    "height": "integer",
    "jpeg": "bytes",
    "phash": "text",
}
"""Columns of ``extract_frames``: several rows for a video. ``shot`` counts from 0; ``time`` is in seconds
from the first frame."""

READ = {
    "text": "text",
    "texts": "texts",
    "texts_at": "numbers",
    "text_boxes": "numbers",
    "text_scores": "numbers",
    "text_times": "numbers",
    "text_area": "numbers",
}
"""Columns of ``read_text_in_frames``. ``text``: each line that was read, once, separated by newlines.
``texts``: each line of each frame, with the frame's time in ``texts_at``, its confidence in ``text_scores``
and four numbers in ``text_boxes``: left, top, right, bottom in pixels. ``text_area``: the share of the
picture that lies in such boxes, for each frame that was read, at ``text_times``."""

DEFECTS = {
    "clip": "text",
    "source_digest": "text",
    "defect": "text",
    "parameters": "text",
    "box": "numbers",
    "start": "float",
    "end": "float",
    "clip_width": "integer",
    "clip_height": "integer",
    "clip_seconds": "float",
    "video": "bytes",
}
"""Columns of ``make_defects``: a row for each defect of a clip. ``clip`` is a key; ``parameters`` are JSON;
``box`` is in pixels, ``start`` and ``end`` are in seconds, where a defect has them; ``video`` is an MP4."""

TASKS: Mapping[str, VideoTask] = {
    task.name: task
    for task in (
        VideoTask("probe", "modelmill.videos.probing:probe", PROBED, version=3, example={}),
        VideoTask(
            "measure",
            "modelmill.videos.measuring:measure",
            MEASURED,
            version=9,
            example={
                "frames_per_second": 10.0,
                "most": 10,
                "details": 2,
                "every_frame": False,
                "sound": True,
                "measures": ["exposure", "colour", "motion", "text", "detail", "blocks", "overlay", "hashes"],
                "stills": 32,
            },
        ),
        VideoTask(
            "extract",
            "modelmill.videos.frames:extract",
            EXTRACTED,
            version=3,
            example={"frames_per_second": 10.0, "every_seconds": 1.0, "most": 4, "width": 32},
        ),
        VideoTask(
            "read_text",
            "modelmill.videos.reading_text:read_text",
            READ,
            version=2,
            example={
                "frames_per_second": 10.0,
                "every_seconds": 1.0,
                "most": 2,
                "width": 64,
                "score": 0.5,
                "until": ["text"],
            },
            extra="ocr",
            package="rapidocr",
        ),
        VideoTask(
            "defects",
            "modelmill.videos.defects:defects",
            DEFECTS,
            version=5,
            example={
                "defects": [{"kind": kind} for kind in ("clean", "blur", "overlay", "text", "crop")],
                "seed": 0,
                "seconds": 1.0,
                "width": 64,
                "codec": "libx264",
                "crf": 23,
            },
        ),
    )
}
"""Every task by its name."""
