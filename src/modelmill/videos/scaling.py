"""Frames in another size or format, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.videos.containers import libav

if TYPE_CHECKING:
    from av import VideoFrame

Picture = npt.NDArray[np.uint8]

SAMPLE_WIDTH = 320


class Scaler:
    """Scales frames to one form: what libav prepares for it serves all frames, in one thread.

    A frame's own ``reformat`` prepares it again for each frame, and starts a thread for each core: three to
    six times the processor time of the same pixels.
    """

    def __init__(self) -> None:
        self._reformatter = libav().video.reformatter.VideoReformatter()

    def rgb(self, frame: VideoFrame, width: int) -> VideoFrame:
        """Return a frame as RGB, at most so wide; of a narrower one at its own width."""
        width = min(width, frame.width)
        height = max(2, round(frame.height * width / frame.width))
        small: VideoFrame = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation="AREA", threads=1
        )
        return small

    def picture(self, frame: VideoFrame, width: int = SAMPLE_WIDTH) -> Picture:
        """Return the pixels of :meth:`rgb`, ``(height, width, 3)``."""
        return np.asarray(self.rgb(frame, width).to_ndarray(), np.uint8)

    def grey(self, frame: VideoFrame) -> Picture:
        """Return the luma of a frame at its own size, ``(height, width)``."""
        return np.asarray(self._reformatter.reformat(frame, format="gray", threads=1).to_ndarray(), np.uint8)
