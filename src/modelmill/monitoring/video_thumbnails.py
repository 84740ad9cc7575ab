"""Pictures of moments of videos, from the table of their frames, with the box of the evidence drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.artifacts import TableRef
from modelmill.tables.reading import scan_arrow

if TYPE_CHECKING:
    from PIL.Image import Image

_BATCH_ROWS = 64
"""Pictures of 320 pixels have some 20 KB."""
_MOST_STORED = 4_000_000
"""Bytes of a stored frame; larger ones are no frames of ``extract_frames``."""
_MOST_PIXELS = 16_000_000
_QUALITY = 80
_BOX, _OUTLINE = (255, 64, 64), (0, 0, 0)


@dataclass(frozen=True)
class Wanted:
    """A moment to show."""

    seconds: float | None
    """From the first frame; None: the middle one of the frames is shown."""
    box: tuple[float, ...] | None
    """Left, top, right, bottom, in pixels of the video."""
    size: tuple[float, float] | None
    """Width and height of the video's picture; None: unknown, and no box is drawn."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture of a moment."""

    jpeg: bytes | None
    """The frame nearest to the moment; None: there is no picture."""
    seconds: float | None
    """Its time; None: the video has no frame."""
    without: str
    """Why there is no picture, or no box in it; empty if nothing is missing."""


def thumbnails(
    frames: TableRef, wanted: Mapping[str, Wanted], *, width: int, most_bytes: int
) -> dict[str, Thumbnail]:
    """Return a picture for each video.

    :param frames: the table that ``extract_frames`` wrote.
    :param wanted: the moments, by key; the first ones get pictures where not all fit.
    :param width: of the pictures, in pixels, at most.
    :param most_bytes: of all pictures together.
    :return: a picture for each key.
    :raises TableError: if the table lacks a column.
    """
    times = _nearest(frames, wanted)
    stored = _stored(frames, times)
    found = dict[str, Thumbnail]()
    left = most_bytes
    for key, one in wanted.items():
        content = stored.pop(key, None)
        picture, why = _drawn(content, one, width)
        if picture is not None and len(picture) > left:
            picture, why = None, "the page's limit for pictures is reached"
        left -= len(picture or b"")
        found[key] = Thumbnail(picture, times.get(key), why)
    return found


def _nearest(frames: TableRef, wanted: Mapping[str, Wanted]) -> dict[str, float]:
    """Return the times of the frames to show."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys, found = pa.array(wanted, pa.string()), dict[str, list[float]]()
    for batch in scan_arrow(frames, columns=["key", "time"], batch_rows=10_000):
        some = batch.filter(pc.is_in(batch.column("key"), keys))
        for key, time in zip(some.column("key").to_pylist(), some.column("time").to_pylist(), strict=True):
            found.setdefault(key, []).append(time)
    return {key: _nearest_of(sorted(times), wanted[key].seconds) for key, times in found.items()}


def _nearest_of(times: Sequence[float], seconds: float | None) -> float:
    if seconds is None:
        return times[len(times) // 2]
    return min(times, key=lambda time: abs(time - seconds))


def _stored(frames: TableRef, times: Mapping[str, float]) -> dict[str, bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc

    keys, found = pa.array(times, pa.string()), dict[str, bytes]()
    for batch in scan_arrow(frames, columns=["key", "time", "jpeg"], batch_rows=_BATCH_ROWS):
        for row in batch.filter(pc.is_in(batch.column("key"), keys)).to_pylist():
            if times[row["key"]] == row["time"] and row["jpeg"] and len(row["jpeg"]) <= _MOST_STORED:
                found[row["key"]] = row["jpeg"]
    return found


def _drawn(content: bytes | None, wanted: Wanted, width: int) -> tuple[bytes | None, str]:
    """Return the picture, encoded anew, and what is not shown."""
    from PIL import Image

    if content is None:
        return None, "no frame of it was extracted"
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                return None, f"its frame has {opened.width} x {opened.height} pixels"
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return None, f"its frame is no JPEG: {type(error).__name__}"
    if picture.width > width:
        size = (width, max(1, round(picture.height * width / picture.width)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    why = ""
    if wanted.box is not None:
        why = _box_drawn(picture, wanted)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue(), why


def _box_drawn(picture: Image, wanted: Wanted) -> str:
    """Draw the box; return why it cannot be drawn, or nothing."""
    from PIL import ImageDraw

    if wanted.size is None:
        return "no box: the decisions have no width and height of the video"
    if wanted.box is None or len(wanted.box) != 4 or min(wanted.size) <= 0:
        return "no box: it has not four sides"
    scale = picture.width / wanted.size[0], picture.height / wanted.size[1]
    last = picture.width - 1, picture.height - 1
    left, top, right, bottom = (
        min(max(part * scale[place % 2], 0.0), float(last[place % 2]))
        for place, part in enumerate(wanted.box)
    )
    if not (left < right and top < bottom):
        return "no box: it is empty, or outside the picture"
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right, bottom), outline=_OUTLINE, width=4)
    draw.rectangle((left, top, right, bottom), outline=_BOX, width=2)
    return ""
