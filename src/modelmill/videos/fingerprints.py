"""Fingerprints of videos: perceptual hashes of frames, and of their middles, without black borders.

A copy that was encoded again, resized or made brighter has nearly the hashes of its source at the same times;
a copy that was cropped has nearly those of its source's middle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelmill.videos.perceptual_hash import perceptual_hash

Hashes = npt.NDArray[np.uint64]
Picture = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.float32]

CROPS = (0.0, 0.015, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2)
"""Shares of the width and of the height that are cut off each side before a frame is hashed."""
_MOST = 24
"""Frames of a video at most. One more, and every other one is forgotten: copies are hashed at the same times,
whatever length their containers declare."""
_STEP = 0.5
"""Seconds between frames, at first."""
_FLAT = 4.0
"""Standard deviation of the grey levels below which a picture has nothing to hash."""


class Fingerprints:
    """Gathers frames, and hashes them when their borders are known."""

    def __init__(self) -> None:
        self._step = _STEP
        self._frames: list[tuple[int, float, Picture]] = []

    def see(self, time: float, grey: Picture | Luma) -> None:
        """Look at a frame.

        :param time: in seconds from the first frame; ascending.
        :param grey: ``(height, width)``.
        """
        place = int(time / self._step + 1e-6)
        if self._frames and place <= self._frames[-1][0]:
            return
        self._frames.append((place, time, grey.astype(np.uint8)))
        while len(self._frames) > _MOST:
            self._step *= 2
            self._frames = [(place // 2, time, grey) for place, time, grey in self._frames if place % 2 == 0]

    def found(self, inner: Sequence[float]) -> tuple[list[float], bytes]:
        """Hash the frames.

        :param inner: the picture within the borders: left, top, right, bottom as shares of width and height.
        :return: the times of those that are not flat, in seconds, and their hashes, ``(frames, crops)``, each
            as 8 bytes with the highest first.
        """
        from PIL import Image

        times, hashes = list[float](), list[str]()
        for _, time, grey in self._frames:
            height, width = grey.shape
            left, top, right, bottom = (part * (width, height)[end % 2] for end, part in enumerate(inner))
            within = grey[
                int(top) : max(int(bottom), int(top) + 1), int(left) : max(int(right), int(left) + 1)
            ]
            if within.std() < _FLAT:
                continue
            picture = Image.fromarray(grey)
            across, down = right - left, bottom - top
            boxes = (
                (left + part * across, top + part * down, right - part * across, bottom - part * down)
                for part in CROPS
            )
            times.append(time)
            hashes += [perceptual_hash(picture, box) for box in boxes]
        return times, bytes.fromhex("".join(hashes))
