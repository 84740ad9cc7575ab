"""Frames that need not be decoded: no other frame is made of them, and they are not looked at.

Of most videos a third to a half of the frames are such; the others have to be decoded to get at the next one.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

_SAME = 1e-6
"""Seconds that times may be apart and yet the same."""


@dataclass
class Due:
    """Says which frames are due, of frames in the order of time: one in each step, the first one there is."""

    step: float
    """In seconds; 0: every frame is due."""
    at: float = 0.0
    """From when on the next one is, in seconds from the first frame."""

    def is_due(self, time: float) -> bool:
        """Return whether a frame is due."""
        return time >= self.at - _SAME

    def take(self, time: float) -> bool:
        """Take a frame if it is due; after one that comes late the next one is half a step away at least."""
        if not self.is_due(time):
            return False
        self.at = max(self.at + self.step, time + self.step / 2)
        return True


class Skipping:
    """Tells from the packets of a stream which frames will be due, before any of them is decoded.

    Packets come in the order in which they are decoded. A frame that no other one needs comes after all that
    are shown before it, so what is due can be told; where that is not so, or a container has wrong times, a
    frame more is decoded, or the next one is looked at.

    :param step: see :class:`Due`.
    """

    def __init__(self, step: float) -> None:
        self._due = Due(step)
        self._first: float | None = None
        self._coming: list[float] = []
        self._last = self._end = 0.0

    @property
    def last(self) -> float:
        """When the last frame of the packets so far is shown, in seconds from the first frame."""
        return 0.0 if self._first is None else self._last - self._first

    @property
    def end(self) -> float:
        """When the last frame of the packets so far ends, in seconds from the first frame."""
        return 0.0 if self._first is None else self._end - self._first

    def begin(self, first: float) -> None:
        """Note the time of the first frame, in seconds of the stream: before that nothing is left out."""
        self._first = first

    def may(self, packet: Any, usual: float) -> bool:
        """Return whether a packet's frame may be left out, if no other frame needs it.

        :param packet: the next packet of the stream.
        :param usual: seconds for which a frame is shown that does not say so.
        :return: whether it may; never for a packet without a time.
        """
        if packet.pts is None or not packet.time_base:
            return False  # a frame without a time, or the end of the stream
        time = float(packet.pts * packet.time_base)
        length = float(packet.duration * packet.time_base) if packet.duration else usual
        self._last, self._end = max(self._last, time), max(self._end, time + length)
        heapq.heappush(self._coming, time)
        if self._first is None:
            return False
        while self._coming[0] < time:
            self._due.take(heapq.heappop(self._coming) - self._first)
        return not self._due.is_due(time - self._first)
