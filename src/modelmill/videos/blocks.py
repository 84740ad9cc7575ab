"""How much of a picture's edges lie on a grid: the blocks of an encoder that had too few bits.

Muijs and Kirenko, A no-reference blocking artifact measure for adaptive video processing, EUSIPCO 2005,
formulas 1 to 3, with the search that libav's ``blockdetect`` has, for the grid's period, and for a grid that
lies between two pixels after scaling. That filter never clears its sums, so what it says of a frame is about
all frames that it has seen; and it takes twice as long.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

_PERIODS = range(3, 25)
"""Pixels from one line of the grid to the next: blocks of 8 and 16, also in a picture that was scaled."""
_NEAR = 3
"""Steps to each side with which a step is compared."""
_LEAST = 64
"""Pixels of each side of a picture of which anything can be said."""
_PLAIN = 1e-4
"""Strength of the steps beside the grid at least: there is always some noise, but in drawings."""
_BAND = 1 << 16
"""Pixels that are worked on at once: what a processor keeps near."""


def blockiness(grey: Picture) -> float | None:
    """Return how much stronger the steps on a grid are than those beside it: 1 and less without blocks.

    :param grey: ``(height, width)`` at full size: scaling makes the grid blurred.
    :return: the larger one of both directions, of the grid with the strongest steps; None for small pictures.
    """
    if min(grey.shape) < _LEAST:
        return None
    return max(_on_a_grid(_across(grey) / grey.shape[0]), _on_a_grid(_down(grey) / grey.shape[1]))


def _across(grey: Picture) -> Numbers:
    """Return how strong the steps from each column to the next are: sums over the rows."""
    rows = max(1, _BAND // grey.shape[1])
    bands = (grey[first : first + rows] for first in range(0, grey.shape[0], rows))
    total: Numbers = np.sum([_strengths(band.T).sum(1) for band in bands], axis=0, dtype=np.float64)
    return total


def _down(grey: Picture) -> Numbers:
    """Return how strong the steps from each row to the next are: sums over the columns."""
    rows, last = max(1, _BAND // grey.shape[1]), grey.shape[0] - 2 * _NEAR - 1
    bands = (grey[first : min(first + rows, last) + 2 * _NEAR + 1] for first in range(0, last, rows))
    return np.concatenate([_strengths(band).sum(1) for band in bands]).astype(np.float64)


def _strengths(lines: Picture) -> npt.NDArray[np.float32]:
    """Return the steps from each line to the next, as shares of the steps beside them.

    :param lines: at least eight; in whatever order they lie in memory.
    :return: seven lines less: the first one is of the step from the fourth to the fifth line.
    """
    steps = np.maximum(lines[1:], lines[:-1]) - np.minimum(lines[1:], lines[:-1])
    wide = steps.astype(np.uint16)
    two = wide[1:] + wide[:-1]
    three = two[:-1] + wide[_NEAR - 1 :]
    around = (three[: -_NEAR - 1] + three[_NEAR + 1 :]).astype(np.float32)
    np.maximum(around, np.float32(1), out=around)  # of whole numbers it takes longer, and so does a division
    return np.divide(steps[_NEAR:-_NEAR].astype(np.float32), around, out=around)


def _on_a_grid(profile: Numbers) -> float:
    """Return by how much the steps of the strongest grid are stronger than the others.

    :param profile: mean strength of each step, from the one behind the fourth line on.
    :return: their ratio, about 1 where there is no grid.
    """
    on, counts = _grids(len(profile))
    beside = np.pad(profile, 1)
    near = np.maximum(profile, np.maximum(beside[2:], beside[:-2]))
    grid = on @ near / counts
    others = (profile.sum() - on @ profile) / (len(profile) - counts)
    return float((grid / np.maximum(others, _PLAIN)).max())


@lru_cache(8)
def _grids(size: int) -> tuple[Numbers, Numbers]:
    """Return which steps lie on the grid of each period, ``(periods, size)``, and how many do."""
    places = np.arange(size) + _NEAR
    on = np.array([places % period == period - 1 for period in _PERIODS], np.float64)
    return on, on.sum(1)
