"""Where the picture stands still, and where still pictures follow each other as slides do.

Of a frame that is shown for a second an encoder writes nothing, but for a few frames in which it refines what
is there. So the picture stands still where no cell of it differs from the first frame of the stretch by more
than such refining does, and where most frames are exactly the one before. What moves in a corner, or slowly,
is more than that in some cell, though next to nothing on average. Where there is nothing to see, in a picture
that is nearly all white, say, nothing would be seen to move: that is no frozen stretch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.videos.stretches import Interval

if TYPE_CHECKING:
    from av import VideoFrame

Grey = npt.NDArray[np.uint8]

_SHORTEST = 0.4
"""Seconds from which a stretch is one."""
_CELL = 8
"""Pixels of the side of a cell, of a picture of 160."""
_BEGUN = 0.05
"""Mean absolute difference to the frame before, of 100, up to which a stretch begins: of what moves no frame
has to be compared with any other."""
_JUMP = 1.0
"""The one that ends a stretch whatever is in it."""
_REFINED = (0.6, 6.0)
"""Grey levels by which a cell of a stretch may differ from its first frame: as many as the picture's texture
has, but no less than the one and no more than the other. Motion changes a cell by its texture, refining
hardly does."""
_TEXTURE = 12.0
"""Deviation of a cell, in grey levels, that counts at most: a few strong edges are not much to see."""
_BLACK = 24
"""Grey levels of black borders at most."""
_EXACT = 0.01
"""Mean absolute difference, of 100, up to which a frame is the one before, as far as an encoder can tell."""
_NOTHING = 2.0
"""Texture, in grey levels, below which there is nothing to see."""
_POP = 0.25
"""Seconds of a disturbance, with the same picture before and after it, that ends no stretch."""
_FLAT = 0.3
"""Texture below which a picture is of one colour: neither frozen nor a slide, but it may be between two."""
_SLIDE = 0.6
"""Seconds of a slide at least."""
_OTHER = 2.0
"""Grey levels by which the next slide differs at least, on average."""
_CUT = 0.15
"""Seconds of a change that is a cut."""
_FADE = 1.8
"""Seconds of a change at most."""
_UNMIXED = 0.2
"""Share of the difference of two slides by which a frame between them may differ from a mixture of both."""
_BETWEEN = 24
"""Frames of a change that are looked at; one more, and every other one is forgotten."""


Between = list[tuple[float, "VideoFrame | Grey"]]


@dataclass
class _Still:
    start: float
    end: float
    first: Grey
    last: Grey
    texture: float
    between: Between
    """Frames since the stretch before."""


@dataclass
class Stillness:
    """Looks at all frames of a video, in the order of time: small ones, grey, of one size."""

    frozen: list[Interval] = field(default_factory=list)
    """Where it stands still, and there is something to see."""
    slides: list[Interval] = field(default_factory=list)
    """Runs of two slides and more, with the changes between them."""
    _start: float = 0.0
    _first: VideoFrame | Grey | None = None
    _last: VideoFrame | Grey | None = None
    _tolerance: float | None = None
    _frames: int = 0
    _exact: int = 0
    _between: Between = field(default_factory=list)
    _growing: _Still | None = None
    _before: _Still | None = None
    """The stretch before the one that grows."""
    _joined: bool = False
    """Whether a run of slides ends with it."""

    def see(self, time: float, frame: VideoFrame | Grey, change: float) -> None:
        """Look at a frame.

        :param time: of the frame, in seconds.
        :param frame: the frame; turned into an array only where it may stand still.
        :param change: its mean absolute difference to the frame before, 0 to 100.
        """
        limit = _JUMP if self._frames else _BEGUN
        if self._first is not None and change <= limit and (change == 0 or self._stays(frame)):
            self._frames += 1
            self._exact += change <= _EXACT
            self._last = frame
            return
        self._close(time)
        self._start, self._first, self._last = time, frame, frame
        self._frames = self._exact = 0
        if change > _JUMP:
            self._tolerance = None  # else the picture is much the same, and so is its texture
        self._between.append((time, frame))
        if len(self._between) > _BETWEEN:
            self._between = self._between[::2]

    def end(self, time: float) -> None:
        """End the video, or the part of it whose frames have this size."""
        self._close(time)
        self._settle()
        self._first, self._before, self._joined, self._between = None, None, False, []

    def _stays(self, frame: VideoFrame | Grey) -> bool:
        self._first = first = _pixels(self._first)
        cell = _difference(first, _pixels(frame))
        if not _REFINED[0] < cell <= _REFINED[1]:
            return cell <= _REFINED[0]
        if self._tolerance is None:
            self._tolerance = _tolerance(_texture(first))
        return cell <= self._tolerance

    def _close(self, time: float) -> None:
        """End what stands still: if it is long enough it is a stretch, or a part of the one before."""
        if self._first is None or time - self._start < _SHORTEST or 2 * self._exact < self._frames:
            return
        first, last = _pixels(self._first), _pixels(self._last)
        texture = _texture(first)
        if not self._frames or texture < _FLAT:
            return
        between = self._between[:-1]  # the last one begins this stretch
        still = _Still(self._start, time, first, last, texture, between)
        growing, self._between = self._growing, []
        if growing is not None and still.start - growing.end <= _POP and _same(growing, still):
            growing.end, growing.last = still.end, still.last
            return
        self._settle()
        self._growing = still

    def _settle(self) -> None:
        """Settle the stretch that grew: it does so no more."""
        still, self._growing = self._growing, None
        if still is None:
            return
        if still.texture >= _NOTHING:
            self.frozen.append((still.start, still.end))
        joined = self._before is not None and _is_change(self._before, still)
        if joined and self._before is not None:
            start = self.slides.pop()[0] if self._joined else self._before.start
            self.slides.append((start, still.end))
        self._before, self._joined = still, joined


def _pixels(frame: VideoFrame | Grey | None) -> Grey:
    """Return the pixels of a grey frame: its own, which are not copied."""
    if isinstance(frame, np.ndarray):
        return frame
    plane = frame.planes[0]  # type: ignore[union-attr]
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[arg-type]
    return lines[:, : plane.width]


def _tolerance(texture: float) -> float:
    return min(max(texture, _REFINED[0]), _REFINED[1])


def _difference(one: Grey, other: Grey) -> float:
    """Return by how many grey levels the worst cell of two pictures differs, on average."""
    return float(_means(np.maximum(one, other) - np.minimum(one, other)).max())


def _texture(picture: Grey) -> float:
    """Return how much there is to see: the mean of the deviations within cells, in grey levels.

    Within black borders, whose edges are nothing to see. The larger one of two grids, half a cell apart:
    plain squares may lie in the cells of one.
    """
    shown = picture > _BLACK
    rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0.0
    inner = picture[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]]
    half, found = _CELL // 2, []
    for part in (inner, inner[half:-half, half:-half]):
        if not part.size:
            continue
        numbers = part.astype(np.uint16)
        variances = _means(numbers * numbers) - _means(numbers) ** 2
        found.append(float(np.minimum(np.sqrt(np.maximum(variances, 0)), _TEXTURE).mean()))
    return max(found, default=0.0)


def _means(picture: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.float64]:
    """Return the mean of each cell; of a picture that is smaller than one, its own."""
    rows, columns = (max(1, size // _CELL) for size in picture.shape)
    height, width = (
        min(size, count * _CELL) for size, count in zip(picture.shape, (rows, columns), strict=True)
    )
    down = np.add.reduce(picture[:height, :width].reshape(rows, -1, width), axis=1, dtype=np.uint32)
    pixels = height // rows * (width // columns)
    means: npt.NDArray[np.float64] = down.reshape(rows, columns, -1).sum(2) / pixels
    return means


def _same(before: _Still, still: _Still) -> bool:
    return _difference(before.last, still.first) <= 2 * _tolerance(before.texture)


def _is_change(before: _Still, still: _Still) -> bool:
    """Return whether one slide follows another: by a cut, or by a fade, whose frames are mixtures of both.

    Where something else is between two still pictures the scene moves, and stands still at times.
    """
    if min(before.end - before.start, still.end - still.start) < _SLIDE or still.start - before.end > _FADE:
        return False
    ends = np.stack([before.last, still.first]).reshape(2, -1).astype(np.float32)
    other = float(np.abs(ends[0] - ends[1]).mean())
    if other < _OTHER:
        return False
    if still.start - before.end <= _CUT:
        return True
    # Least squares, for each frame: also of a fade to black and up again, whose parts are less than one.
    products = (ends @ ends.T).astype(np.float64)
    if np.linalg.det(products) <= 1e-6 * products[0, 0] * products[1, 1]:
        return False
    for _, frame in still.between:
        picture = _pixels(frame).ravel().astype(np.float32)
        parts = np.linalg.solve(products, (ends @ picture).astype(np.float64)).astype(np.float32)
        if np.abs(picture - parts @ ends).mean() > _UNMIXED * other:
            return False
    return True
