"""A picture of each shot, kept while a video is measured: who reads text, or asks a model, decodes no video.

They travel as a small video of their own, Motion JPEG in Matroska, in which each picture has its time. What
works on videos works on it, and takes every frame.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from modelmill.videos.containers import libav
from modelmill.videos.perceptual_hash import jpeg
from modelmill.videos.scaling import Scaler

if TYPE_CHECKING:
    from av import VideoFrame

TAG = "MODELMILL_STILLS"
"""Tag of such a video: the width of the video that its pictures are of, in pixels."""
EVERY_SECONDS = 10.0
"""Part of a long shot that has a picture of its own."""
_MOST = 64
"""Pictures of a video at most. One more, and every other one is forgotten, of the later ones, too."""
_CANDIDATES = 16
"""Frames of a part that are held until its middle is known; one more, and every other one is forgotten."""
_LARGE = 1280
"""Width from which a frame that is held is made small at once: sixteen large ones would take much memory."""
_QUALITY = 92
_DIGITS = 6
"""Of a width at most: the tag may stand in anybody's file."""
_MILLISECONDS = Fraction(1, 1000)


class Stills:
    """Keeps a picture of each shot: of the frames that are sampled one next to the middle.

    :param width: of the pictures at most, in pixels.
    """

    def __init__(self, width: int) -> None:
        self._width, self._source_width, self._scaler = width, 0, Scaler()
        self._start, self._step = 0.0, 1
        self._seen: list[tuple[float, VideoFrame]] = []
        self._count = 0
        self._parts, self._every = 0, 1
        self._kept: list[tuple[float, bytes, tuple[int, int]]] = []

    def see(self, time: float, frame: VideoFrame) -> None:
        """Look at a sampled frame: times ascend."""
        self._source_width = self._source_width or frame.width
        if time >= self._start + EVERY_SECONDS:
            self.cut(time)
        if self._count % self._step == 0:
            self._seen.append((time, self._small(frame) if frame.width > _LARGE else frame))
        self._count += 1
        if len(self._seen) > _CANDIDATES:
            self._seen, self._step = self._seen[::2], 2 * self._step

    def cut(self, time: float) -> None:
        """End the part: a shot ends here, or is long."""
        middle, seen = (self._start + time) / 2, self._seen
        self._start, self._step, self._seen, self._count = time, 1, [], 0
        if not seen:
            return
        if self._parts % self._every == 0:
            at, frame = min(seen, key=lambda one: abs(one[0] - middle))
            self._kept.append((at, *self._picture(frame)))
        self._parts += 1
        if len(self._kept) > _MOST:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def _picture(self, frame: VideoFrame) -> tuple[bytes, tuple[int, int]]:
        from PIL import Image

        picture = Image.fromarray(np.asarray(self._small(frame).to_ndarray(), np.uint8))
        return jpeg(picture, _QUALITY), picture.size

    def _small(self, frame: VideoFrame) -> VideoFrame:
        return self._scaler.rgb(frame, self._width)

    def found(self, end: float) -> bytes | None:
        """End the last shot, and make a video of the pictures.

        :param end: end of the video that they are of, in seconds.
        :return: the video; None if there are no pictures.
        """
        self.cut(end)
        if not self._kept:
            return None
        av, content = libav(), io.BytesIO()
        with av.open(content, "w", format="matroska") as container:
            container.metadata[TAG] = str(self._source_width)
            stream = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height = self._kept[0][2]
            stream.pix_fmt, stream.time_base = "yuvj420p", _MILLISECONDS
            for time, picture, _ in self._kept:
                packet = av.Packet(picture)
                packet.stream, packet.time_base = stream, _MILLISECONDS
                packet.pts = packet.dts = round(time * 1000)
                packet.is_keyframe = True
                container.mux(packet)
        return content.getvalue()


def source_width(tags: Mapping[str, str]) -> int | None:
    """Look whether a video is one of stills.

    :param tags: of the container.
    :return: the width of the video that the stills are of, in pixels; None if it is an ordinary video.
    """
    text = tags.get(TAG, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) else None
