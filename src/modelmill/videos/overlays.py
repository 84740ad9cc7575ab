"""What stays where it is while the picture moves: logos, captions, clocks.

Edges of an overlay have the same gradient in every frame; those of the scene do not, unless nothing moves:
then nothing can be said. After Dekel and others, On the effectiveness of visible watermarks, CVPR 2017,
section 3.1: there the median of gradients over pictures is taken. libav has no such filter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_LEAST_SAMPLES = 8
_CELL = 8
"""Pixels of the side of a cell: cells that touch each other are one overlay."""
_GRADIENT = 10.0
"""Mean gradient that an edge has, in grey levels."""
_COHERENCE = 0.92
"""Length of the mean gradient, as a share of the mean length, from which an edge is always the same."""
_FILLED = 0.12
"""Share of a cell's pixels that are such edges."""
_LEAST_PIXELS = 64
"""Such edges that an overlay has: fewer are chance."""
_MOVES = 5.0
"""Median over pixels of the standard deviation in time, in grey levels, from which the picture moves."""
_LARGEST = 0.4
"""Share of the cells from which it is a scene that stands still rather than an overlay."""


@dataclass
class Overlay:
    """An overlay, or none, or that it cannot be said."""

    share: float | None
    """Share of the picture that its box takes; 0: there is none; None: the camera does not move."""
    box: list[float] | None
    """Left, top, right, bottom as shares of the picture."""


@dataclass
class Overlays:
    """Adds gradients up over frames of one size."""

    _sums: dict[str, Luma] = field(default_factory=dict)
    _count: int = 0

    def see(self, grey: Luma) -> None:
        """Look at a frame.

        :param grey: ``(height, width)``, the sampled picture.
        """
        if min(grey.shape) < 2 or (self._count and grey.shape != self._sums["level"].shape):
            return
        down, across = np.gradient(grey)
        found = {
            "down": down,
            "across": across,
            "length": np.hypot(down, across),
            "level": grey,
            "square": grey * grey,
        }
        for name, value in found.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.astype(np.float32)
        self._count += 1

    def found(self, inner: tuple[float, float, float, float]) -> Overlay:
        """Return the largest overlay.

        :param inner: the picture within black borders: left, top, right, bottom as shares.
        :return: the overlay.
        """
        if self._count < _LEAST_SAMPLES:
            return Overlay(None, None)
        means = {name: value / self._count for name, value in self._sums.items()}
        height, width = means["level"].shape
        left, right = round(inner[0] * width) + 2, round(inner[2] * width) - 2
        top, bottom = round(inner[1] * height) + 2, round(inner[3] * height) - 2
        if right - left < 2 * _CELL or bottom - top < 2 * _CELL:
            return Overlay(None, None)
        part = (slice(top, bottom), slice(left, right))
        spread = np.sqrt(np.maximum(means["square"] - means["level"] ** 2, 0))[part]
        if float(np.median(spread)) < _MOVES:
            return Overlay(None, None)
        length = means["length"][part]
        mean = np.hypot(means["down"], means["across"])[part]
        edges = (length > _GRADIENT) & (mean > _COHERENCE * length)
        return _largest(edges, (left, top), (width, height))


def _largest(edges: Mask, corner: tuple[int, int], size: tuple[int, int]) -> Overlay:
    rows, columns = edges.shape[0] // _CELL, edges.shape[1] // _CELL
    cells = edges[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).mean((1, 3))
    filled = cells >= _FILLED
    if not filled.any():
        return Overlay(0.0, None)
    if filled.mean() > _LARGEST:
        return Overlay(None, None)
    place = max(_components(filled), key=lambda one: sum(float(cells[cell]) for cell in one))
    if sum(float(cells[cell]) for cell in place) * _CELL * _CELL < _LEAST_PIXELS:
        return Overlay(0.0, None)
    down, across = [cell[0] for cell in place], [cell[1] for cell in place]
    pixels = [
        corner[0] + min(across) * _CELL,
        corner[1] + min(down) * _CELL,
        corner[0] + (max(across) + 1) * _CELL,
        corner[1] + (max(down) + 1) * _CELL,
    ]
    box = [pixels[0] / size[0], pixels[1] / size[1], pixels[2] / size[0], pixels[3] / size[1]]
    return Overlay((box[2] - box[0]) * (box[3] - box[1]), box)


def _components(filled: Mask) -> list[list[tuple[int, int]]]:
    """Return the groups of filled cells that touch each other, corners included."""
    left = {(int(row), int(column)) for row, column in np.argwhere(filled)}
    found = []
    while left:
        group, waiting = list[tuple[int, int]](), [left.pop()]
        while waiting:
            row, column = waiting.pop()
            group.append((row, column))
            for near in ((row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)):
                if near in left:
                    left.remove(near)
                    waiting.append(near)
        found.append(group)
    return found
