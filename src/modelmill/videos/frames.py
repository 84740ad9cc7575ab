"""Frames that stand for a video: some of each shot, as small pictures with perceptual hashes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.videos import stretches
from modelmill.videos.borders import Borders
from modelmill.videos.limits import VideoLimits
from modelmill.videos.perceptual_hash import jpeg, perceptual_hash
from modelmill.videos.scaling import Scaler
from modelmill.videos.sources import Source
from modelmill.videos.watching import Sampling, watch

if TYPE_CHECKING:
    from av import VideoFrame

_QUALITY = 85


def extract(source: Source, limits: VideoLimits, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Extract frames of a video.

    The video is decoded once: of the frames that are sampled meanwhile those in the middle of the parts of
    each shot are kept.

    :param source: the video.
    :param limits: what it may be.
    :param options: ``frames_per_second``: of the samples; ``every_seconds``: a shot has a frame for each so
        many seconds, one at least; ``most``: frames of a video at most; ``width``: of the pictures.
    :return: a row for each frame: see ``EXTRACTED`` in :mod:`modelmill.videos.tasks`.
    :raises RefusedVideoError: if no frame can be decoded.
    """
    from PIL import Image

    borders, samples = Borders(), list[tuple[float, bytes]]()
    whole, small = Scaler(), Scaler()

    def look(time: float, frame: VideoFrame, detail: bool) -> None:
        if detail and not borders.settled:
            borders.see(whole.grey(frame))
        image = Image.fromarray(small.picture(frame))
        if image.width > options["width"]:
            height = max(1, round(image.height * options["width"] / image.width))
            image = image.resize((options["width"], height), Image.Resampling.LANCZOS)
        samples.append((time, jpeg(image, _QUALITY)))

    seen = watch(source, limits, Sampling(frames_per_second=options["frames_per_second"]), look)
    box, size = borders.box(), borders.size or (seen.width, seen.height)
    rows = []
    shots = stretches.shots(seen.cuts, seen.end)
    if seen.source_width is None:
        places = chosen([time for time, _ in samples], shots, options)
    else:  # one for each part of a shot, already
        places = spread(len(samples), options["most"])
    for number, place in enumerate(places):
        time, content = samples[place]
        with Image.open(io.BytesIO(content)) as image:
            inner = _without_borders(image, box, size)
            rows.append(
                {
                    "frame": number,
                    "shot": number if seen.source_width else sum(start <= time for start, _ in shots) - 1,
                    "time": round(time, 5),
                    "width": image.width,
                    "height": image.height,
                    "jpeg": content,
                    "phash": perceptual_hash(inner),
                }
            )
    return rows


def chosen(
    times: Sequence[float], shots: Sequence[stretches.Interval], options: Mapping[str, Any]
) -> list[int]:
    """Choose samples: the one next to the middle of each part of each shot.

    :param times: of the samples, ascending; at least one.
    :param shots: the shots.
    :param options: ``every_seconds`` and ``most``: see :func:`extract`.
    :return: numbers of samples, ascending, each once; if there are too many, evenly spread ones.
    """
    wanted = set()
    for start, end in shots:
        parts = max(1, int((end - start) / options["every_seconds"]))
        inside = [place for place, time in enumerate(times) if start <= time < end]
        for part in range(parts if inside else 0):
            middle = start + (part + 0.5) * (end - start) / parts
            wanted.add(min(inside, key=lambda place: abs(times[place] - middle)))
    found = sorted(wanted) or [0]
    return [found[place] for place in spread(len(found), options["most"])]


def spread(count: int, most: int) -> list[int]:
    """Return the places of so many things, or evenly spread ones of them if there are more than ``most``."""
    return list(range(count)) if count <= most else [int(place * count / most) for place in range(most)]


def _without_borders(image: Any, box: Sequence[float] | None, size: tuple[int, int]) -> Any:
    if box is None or [*box] == [0, 0, *size]:
        return image
    scale = image.width / size[0], image.height / size[1]
    inner = [round(part * scale[place % 2]) for place, part in enumerate(box)]
    return image.crop(tuple(inner)) if inner[2] > inner[0] and inner[3] > inner[1] else image
