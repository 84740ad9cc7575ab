"""What stays where it is while the picture moves: logos, captions, clocks.

Edges of an overlay have the same gradient in every frame; those of the scene do not, unless nothing moves:
then nothing can be said. After Dekel and others, On the effectiveness of visible watermarks, CVPR 2017,
section 3.1: there the median of gradients over pictures is taken. A scene may also keep its edges while its
light changes, or stand still in one place while it moves in another: so an overlay's own pixels must hardly
change, and those around it must. Something before a camera that stands still may do that too, beside what
moves; but then other edges of the scene stay as well. libav has no such filter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Place = tuple[slice, slice]
"""Lines and columns of a picture."""
Kind = Literal["overlay", "scene", "unknown"]

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
_MOVES = 3.0
"""Median over pixels of the standard deviation in time, in grey levels, from which the picture moves."""
_AROUND = (3, 10)
"""Pixels from an overlay between which it is looked at what is around it."""
_AROUND_MOVES = 4.0
"""Standard deviation in time that three quarters of the pixels around an overlay have at least."""
_STEADY = 0.3
"""Standard deviation in time of an overlay's edges, as a share of that of the pixels around it, at most. Of a
logo that one sees through a quarter was measured, of others a tenth, of the scene's own edges two thirds and
more."""
_HARDLY = 0.5
"""Such a share, of the mean around an edge's pixel, up to which the pixel may belong to an overlay."""
_WINDOW = 16
"""Pixels to each side over which that mean is taken."""
_STILL = 6.0
"""Such a deviation of edges, in grey levels, up to which a scene around which nothing moves stands still."""
_STAY = 0.04
"""Share of the picture's edges outside of overlays up to which some stay by chance; from there on the camera
stands still. Of the scenes that it was chosen on: up to 0.032 in 19 of 20 clips with overlays, 0.053 and more
in those where a part of the scene was taken for one."""
_LARGEST = 0.4
"""Share of the cells from which it is a scene that stands still rather than an overlay."""
_LARGEST_BOX = 0.25
"""Share of the picture, of a box, from which that is so."""


@dataclass
class FoundOverlay:
    """An overlay, or none, or that it cannot be said."""

    share: float | None
    """Share of the picture that its box takes; 0: there is none; None: it stands still, or a part of
    the scene does."""
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
        down, across = _gradient(grey), _gradient(grey.T).T
        found = {
            "down": down,
            "across": across,
            "length": np.hypot(down, across),
            "level": grey,
            "square": grey * grey,
        }
        for name, value in found.items():
            if name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.astype(np.float32)
        self._count += 1

    def found(self, inner: tuple[float, float, float, float]) -> FoundOverlay:
        """Return the largest overlay.

        :param inner: the picture within black borders: left, top, right, bottom as shares.
        :return: the overlay.
        """
        if self._count < _LEAST_SAMPLES:
            return FoundOverlay(None, None)
        means = {name: value / self._count for name, value in self._sums.items()}
        height, width = means["level"].shape
        left, right = round(inner[0] * width) + 2, round(inner[2] * width) - 2
        top, bottom = round(inner[1] * height) + 2, round(inner[3] * height) - 2
        if right - left < 2 * _CELL or bottom - top < 2 * _CELL:
            return FoundOverlay(None, None)
        part = (slice(top, bottom), slice(left, right))
        spread = np.sqrt(np.maximum(means["square"] - means["level"] ** 2, 0))[part]
        if float(np.median(spread)) < _MOVES:
            return FoundOverlay(None, None)
        length = means["length"][part]
        mean = np.hypot(means["down"], means["across"])[part]
        sharp = length > _GRADIENT
        edges = sharp & (mean > _COHERENCE * length)
        # Edges of the scene that touch an overlay change as much as what is around them: not one with it.
        edges &= spread <= np.maximum(_STILL, _HARDLY * _means_around(spread))
        return _largest(edges, sharp, spread, (left, top), (width, height))


def _gradient(grey: Luma) -> Luma:
    """Return how the lines of a picture differ from one to the next, as ``numpy.gradient`` does."""
    found = np.empty_like(grey)
    np.subtract(grey[2:], grey[:-2], out=found[1:-1])
    found[1:-1] /= 2
    found[0], found[-1] = grey[1] - grey[0], grey[-1] - grey[-2]
    return found


def _means_around(values: Luma) -> Luma:
    """Return the mean over a square around each pixel, or what of it is inside."""
    for axis in (0, 1):
        sums = np.cumsum(np.insert(values, 0, 0, axis=axis), axis=axis)
        places = np.arange(values.shape[axis])
        first, after = np.maximum(places - _WINDOW, 0), np.minimum(places + _WINDOW + 1, len(places))
        total = np.take(sums, after, axis) - np.take(sums, first, axis)
        values = total / np.expand_dims(after - first, 1 - axis)
    return values


def _largest(
    edges: Mask, sharp: Mask, spread: Luma, corner: tuple[int, int], size: tuple[int, int]
) -> FoundOverlay:
    rows, columns = edges.shape[0] // _CELL, edges.shape[1] // _CELL
    cells = edges[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).mean((1, 3))
    filled = cells >= _FILLED
    if filled.mean() > _LARGEST:
        return FoundOverlay(None, None)
    kinds = dict[Kind, list[Place]]()
    for group in _components(filled):
        place = _place(edges, group)
        if int(edges[place].sum()) >= _LEAST_PIXELS:
            kinds.setdefault(_kind(edges, spread, place), []).append(place)
    if "overlay" not in kinds:
        return FoundOverlay(None if "unknown" in kinds else 0.0, None)
    if _stays(edges, sharp, kinds["overlay"]):
        return FoundOverlay(None, None)
    down, across = max(kinds["overlay"], key=lambda place: int(edges[place].sum()))
    pixels = (
        corner[0] + across.start,
        corner[1] + down.start,
        corner[0] + across.stop,
        corner[1] + down.stop,
    )
    box = [part / size[place % 2] for place, part in enumerate(pixels)]
    return FoundOverlay((box[2] - box[0]) * (box[3] - box[1]), box)


def _place(edges: Mask, cells: list[tuple[int, int]]) -> Place:
    """Return the lines and columns that the edges in some cells take."""
    inside = np.zeros_like(edges)
    for row, column in cells:
        part = slice(row * _CELL, (row + 1) * _CELL), slice(column * _CELL, (column + 1) * _CELL)
        inside[part] = edges[part]
    down, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1)


def _kind(edges: Mask, spread: Luma, place: Place) -> Kind:
    """Say what edges are that stay: of an overlay, of the scene, or that it cannot be said."""
    around = np.zeros_like(edges)
    near, far = (_wider(place, pixels) for pixels in _AROUND)
    around[far], around[near] = True, False
    own = float(np.median(spread[place][edges[place]]))
    least, usual = (
        (float(one) for one in np.quantile(spread[around], [0.25, 0.5])) if around.any() else (0, 0)
    )
    down, across = place
    large = (down.stop - down.start) * (across.stop - across.start) > _LARGEST_BOX * edges.size
    if least >= _AROUND_MOVES and not large:
        return "overlay" if own <= _STEADY * usual else "scene"
    return "unknown" if own <= max(_STILL, _STEADY * usual) else "scene"


def _stays(edges: Mask, sharp: Mask, overlays: list[Place]) -> bool:
    """Say whether edges outside of overlays stay, too: of a camera that stands still."""
    outside = np.ones_like(edges)
    for place in overlays:
        outside[_wider(place, _AROUND[1])] = False
    return int((edges & outside).sum()) > _STAY * int((sharp & outside).sum())


def _wider(place: Place, pixels: int) -> Place:
    down, across = (slice(max(0, part.start - pixels), part.stop + pixels) for part in place)
    return down, across


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
