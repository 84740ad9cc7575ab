"""All measures of a video, in one pass over its pictures and one over its sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.videos import pictures, stretches
from modelmill.videos.blocks import blockiness
from modelmill.videos.borders import Borders
from modelmill.videos.fingerprints import Fingerprints
from modelmill.videos.limits import VideoLimits
from modelmill.videos.overlays import Overlays
from modelmill.videos.scaling import Scaler
from modelmill.videos.sound import Sound, listen
from modelmill.videos.sources import Source
from modelmill.videos.stills import Stills
from modelmill.videos.watching import Interval, Sampling, Seen, watch

if TYPE_CHECKING:
    from av import VideoFrame

SERIES = (
    "brightness",
    "contrast",
    "dark_share",
    "bright_share",
    "colourfulness",
    "motion",
    "text_share",
    "black",
    "frozen",
    "blur",
    "sharpness",
    "noise",
    "blockiness",
)
"""Measures in time: a number for each sampled frame; NULL where a frame was not looked at for it. ``black``
and ``frozen`` are the length of the stretch that a frame is in: exact, however far apart the samples are."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "exposure": ("brightness", "contrast", "dark_share", "bright_share"),
    "colour": ("colourfulness",),
    "motion": ("motion",),
    "text": ("text_share",),
    "detail": ("blur", "sharpness", "noise"),
    "blocks": ("blockiness",),
    "borders": ("border", "border_share", "border_box"),
    "overlay": ("overlay_share", "overlay_box"),
    "hashes": ("hash_times", "hashes"),
}
"""Columns that are NULL if their group is not asked for. All others come from filters of every frame."""
_OVERALL = frozenset(("exposure", "colour", "motion", "text", "overlay", "hashes"))
"""Groups that are measured on small pictures."""

Row = dict[str, Any]


def measure(source: Source, limits: VideoLimits, options: Mapping[str, Any]) -> list[Row]:
    """Measure a video.

    :param source: the video.
    :param limits: what it may be.
    :param options: ``frames_per_second``, ``most``, ``details``, ``every_frame``: see
        :class:`~modelmill.videos.watching.Sampling`; ``sound``: whether it is listened to; ``measures``: the
        groups of measures that are asked for; ``stills``: width of the pictures that are kept, 0 for none.
    :return: one row: see ``MEASURED`` in :mod:`modelmill.videos.tasks`.
    :raises RefusedVideoError: if no frame can be decoded.
    """
    named = ("frames_per_second", "most", "details", "every_frame")
    sampling = Sampling(**{name: options[name] for name in named})
    looking = _Looking(frozenset(options["measures"]))
    stills = Stills(options["stills"]) if options["stills"] else None

    def look(time: float, frame: VideoFrame, detail: bool) -> None:
        if stills is not None:
            stills.see(time, frame)
        looking.look(time, frame, detail)

    seen = watch(source, limits, sampling, look, cut=None if stills is None else stills.cut)
    sound = listen(source, limits) if options["sound"] else None
    row = {**looking.row(seen), **_times(seen), **_heard(sound)}
    row["stills"] = None if stills is None else stills.found(seen.end)
    return [{name: _rounded(value) for name, value in row.items()}]


class _Looking:
    """Measures sampled frames.

    :param asked: the groups of measures.
    """

    def __init__(self, asked: AbstractSet[str]) -> None:
        self._asked = asked
        self._small, self._whole = Scaler(), Scaler()
        self.times: list[float] = []
        self.series: dict[str, list[float | None]] = {name: [] for name in SERIES}
        self._borders, self._overlays = Borders(), Overlays()
        self._fingerprints = Fingerprints()
        self._before: pictures.Luma | None = None

    def look(self, time: float, frame: VideoFrame, detail: bool) -> None:
        """Measure a frame: see :data:`modelmill.videos.watching.Look`."""
        values = self._overall(time, self._small.picture(frame)) if self._asked & _OVERALL else {}
        if detail:
            values |= self._detail(frame)
        self.times.append(time)
        for name, column in self.series.items():
            column.append(values.get(name))

    def _overall(self, time: float, picture: pictures.Picture) -> dict[str, float | None]:
        """Measure a small picture."""
        grey = pictures.luma(picture)
        values: dict[str, float | None] = {}
        if "exposure" in self._asked:
            mean = grey.mean(keepdims=True)
            values["brightness"] = float(mean[0, 0]) / 255
            values["contrast"] = float(grey.std(mean=mean)) / 255
            values["dark_share"] = float(np.count_nonzero(grey < 24)) / grey.size
            values["bright_share"] = float(np.count_nonzero(grey > 240)) / grey.size
        if "colour" in self._asked:
            values["colourfulness"] = pictures.colourfulness(picture)
        if "motion" in self._asked and self._before is not None and self._before.shape == grey.shape:
            values["motion"] = float(np.abs(grey - self._before).mean())
        if "text" in self._asked:
            values["text_share"] = pictures.text_share(grey)
        if "overlay" in self._asked:
            self._overlays.see(grey)
        if "hashes" in self._asked:
            self._fingerprints.see(time, grey)
        self._before = grey
        return values

    def _detail(self, frame: VideoFrame) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        bordered = self._asked & {"borders", "overlay", "hashes"}  # of the picture within them
        if self._asked & {"detail", "blocks"} or (bordered and not self._borders.settled):
            grey = self._whole.grey(frame)
            self._borders.see(grey)
            if "detail" in self._asked:
                middle = pictures.middle(grey)
                found["blur"] = pictures.blur(middle, pictures.blur_window(grey.shape[1]))
                found["sharpness"] = pictures.sharpness(middle)
                found["noise"] = pictures.noise(middle)
            if "blocks" in self._asked:
                found["blockiness"] = blockiness(grey)
        return found

    def row(self, seen: Seen) -> Row:
        """Return the series, the borders and the overlay."""
        within = {"black": seen.black, "frozen": seen.frozen}
        for name, intervals in within.items():
            self.series[name] = [_stretch_at(time, intervals) for time in self.times]
        box = self._borders.box()
        size = self._borders.size or (seen.width, seen.height)
        inner = (0.0, 0.0, 1.0, 1.0) if box is None else _shares(box, size)
        overlay = self._overlays.found(inner)
        hash_times, hashes = self._fingerprints.found(inner)
        across, down = inner[2] - inner[0] < 1, inner[3] - inner[1] < 1
        kinds = {(False, False): "none", (True, False): "pillarbox", (False, True): "letterbox"}
        placed = None
        if overlay.box is not None:
            placed = [part * size[place % 2] for place, part in enumerate(overlay.box)]
        row = {
            "times": self.times,
            **self.series,
            "border": None if box is None else kinds.get((across, down), "both"),
            "border_share": None if box is None else 1 - (inner[2] - inner[0]) * (inner[3] - inner[1]),
            "border_box": box,
            "overlay_share": overlay.share,
            "overlay_box": placed,
            "hash_times": hash_times,
            "hashes": hashes,
        }
        unasked = (name for group, names in GROUPS.items() if group not in self._asked for name in names)
        return row | dict.fromkeys(unasked)


def _shares(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _stretch_at(time: float, intervals: Sequence[Interval]) -> float:
    """Return the length of the stretch that a time lies in, in seconds; 0 if it lies in none."""
    return next((end - start for start, end in intervals if start <= time < end), 0.0)


def _times(seen: Seen) -> Row:
    found = stretches.shots(seen.cuts, seen.end)
    lengths = [end - start for start, end in found]
    row: Row = {
        "measured_seconds": seen.end,
        "decode_errors": seen.errors,
        "cuts": seen.cuts,
        "shots": len(found),
        "shot_seconds": float(np.mean(lengths)),
        "shortest_shot": min(lengths),
        "still_share": stretches.share_still(seen.differences),
        "slideshow": stretches.slideshow(seen.slides, seen.end),
    }
    for name, intervals in (("black", seen.black), ("frozen", seen.frozen)):
        row[f"{name}_seconds"] = stretches.covered(intervals)
        row[f"{name}_starts"] = [start for start, _ in intervals]
        row[f"{name}_ends"] = [end for _, end in intervals]
    return row


def _heard(sound: Sound | None) -> Row:
    if sound is None:
        return dict.fromkeys(("loudness", "loudness_range", "silent_share", "silent_starts", "silent_ends"))
    share = min(1.0, stretches.covered(sound.silent) / sound.seconds) if sound.seconds > 0 else None
    return {
        "loudness": sound.loudness,
        "loudness_range": sound.loudness_range,
        "silent_share": share,
        "silent_starts": [start for start, _ in sound.silent],
        "silent_ends": [end for _, end in sound.silent],
        "sound_broken": sound.broken,
    }


def _rounded(value: Any) -> Any:
    """Round floats to five places: more would be noise, and takes room in the table."""
    if isinstance(value, float):
        return round(value, 5)
    return [_rounded(one) for one in value] if isinstance(value, list) else value
