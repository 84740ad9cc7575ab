"""Black borders around a picture that moves: their box, to the pixel.

libav's ``cropdetect`` is not in the wheel of PyAV.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

_BLACK = 28
"""Grey level up to which a pixel may be part of a border: black, and what an encoder makes of it."""
_OUTLIERS = 0.02
"""Share of brighter pixels that a line of a border may have."""
_SPREAD = 5.0
"""Standard deviation that the pixels of a line of a border may have."""
_STEP = 14.0
"""Grey levels by which the picture beside a border is brighter, in some frame: a dark scene fades in."""
_LEAST = 0.01
"""Share of the height or width below which lines are no border."""


@dataclass
class Borders:
    """Looks for lines that are black in every frame that is not black as a whole."""

    _lines: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    _means: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _shape: tuple[int, int] = (0, 0)
    _settled: bool = False

    @property
    def settled(self) -> bool:
        """Whether there are no borders, whatever follows: at each edge some line was not black already."""
        return self._settled

    def see(self, grey: Picture) -> None:
        """Look at a frame.

        :param grey: ``(height, width)`` at full size.
        """
        if self._settled or grey.mean() < 6 or (self._shape[0] and grey.shape != self._shape):
            return
        quiet, means = list[npt.NDArray[np.bool_]](), list[npt.NDArray[np.float32]]()
        bright = grey > _BLACK
        for axis in (1, 0):
            mean = grey.mean(axis, dtype=np.float32)
            black = bright.mean(axis) <= _OUTLIERS
            asked = np.flatnonzero(black)  # few lines: of the others no spread is needed
            square = np.square(grey.take(asked, 1 - axis), dtype=np.float32).mean(axis)
            black[asked] = np.sqrt(np.maximum(square - mean[asked] ** 2, 0)) <= _SPREAD * 2
            quiet.append(black)
            means.append(mean)
        if not self._shape[0]:
            self._shape, self._lines, self._means = (grey.shape[0], grey.shape[1]), quiet, means
        else:
            self._lines = [one & other for one, other in zip(self._lines, quiet, strict=True)]
            self._means = [np.maximum(one, other) for one, other in zip(self._means, means, strict=True)]
        self._settled = not any(_may_begin(lines) for lines in self._lines)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the frames that were looked at; None if every frame was black."""
        return (self._shape[1], self._shape[0]) if self._shape[0] else None

    def box(self) -> list[float] | None:
        """Return the picture within the borders: left, top, right, bottom in pixels.

        :return: the whole frame if there are none; None if every frame was black.
        """
        if not self._shape[0]:
            return None
        (top, bottom), (left, right) = (
            _inner(lines, means) for lines, means in zip(self._lines, self._means, strict=True)
        )
        return [float(left), float(top), float(right), float(bottom)]


def _least(size: int) -> int:
    return max(2, round(_LEAST * size))


def _may_begin(quiet: npt.NDArray[np.bool_]) -> bool:
    """Return whether enough lines at an edge are black: it can only become fewer."""
    least = _least(len(quiet))
    return bool(quiet[:least].all() or quiet[-least:].all())


def _inner(quiet: npt.NDArray[np.bool_], means: npt.NDArray[np.float32]) -> tuple[int, int]:
    """Return the first line of the picture and the line after its last one."""
    size, loud = len(quiet), np.flatnonzero(~quiet)
    if not len(loud):
        return 0, size
    start, end = int(loud[0]), int(loud[-1]) + 1
    least = _least(size)
    if start < least or not _steps(means, start, 1):
        start = 0
    if size - end < least or not _steps(means, end - 1, -1):
        end = size
    return start, end


def _steps(means: npt.NDArray[np.float32], first: int, towards: int) -> bool:
    """Return whether the picture begins with a step: within a few lines of its first one."""
    inside = [first + towards * distance for distance in range(6)]
    outside = [first - towards * distance for distance in range(1, 4)]
    bright = max(float(means[place]) for place in inside if 0 <= place < len(means))
    dark = [float(means[place]) for place in outside if 0 <= place < len(means)]
    return bool(dark) and bright - float(np.median(dark)) >= _STEP
