"""Measures of one picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.float32]

_MOST_SIDE = 640
"""Pixels of the part of a picture that is looked at for sharpness and noise: its middle."""


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(picture: Picture) -> Luma:
    """Return the luma of an RGB picture, ITU-R BT.601: ``(height, width)``, 0 to 255."""
    return picture @ _LUMA


def colourfulness(picture: Picture) -> float:
    """Return how colourful an RGB picture is: 0 for grey, about 100 for very colourful.

    Hasler and Suesstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003. libav has none.

    :param picture: ``(height, width, 3)``.
    :return: the measure M3 of the paper.
    """
    red, green, blue = (picture[..., place].astype(np.float32) for place in range(3))
    one, other = red - green, (red + green) / 2 - blue
    means = [values.mean(keepdims=True) for values in (one, other)]
    spread = np.hypot(one.std(mean=means[0]), other.std(mean=means[1]))
    return float(spread + 0.3 * np.hypot(means[0][0, 0], means[1][0, 0]))


_CELL = 8
"""Pixels of the side of a cell, of a picture of 320."""
_STROKE = 24.0
"""Grey levels between neighbours from which there is the edge of a stroke."""
_STROKES = 0.05
"""Share of a cell's pixels that are such edges, upwards as well as downwards."""
_INK_PLACE = 3
"""Pixels of a cell that are brighter than its ink, or darker."""
_INK = 20.0
"""Grey levels within which the ink of cells beside each other is."""


def text_share(grey: Luma) -> float:
    """Return the share of a picture that looks like lines of text, in any script.

    Strokes have an edge up and an edge down, near each other, and a line has them all along, in one ink:
    counted are cells of 8 pixels that have both, as have the cells left and right of them, where the bright
    or the dark pixels of all three are alike. After Wong and Chen, A new robust algorithm for video text
    extraction, Pattern Recognition 36, 2003, who look for lines with many large gradients of both signs. Text
    smaller than some 8 pixels is not seen. libav has no such filter.

    :param grey: ``(height, width)``, 0 to 255, the picture at 320 pixels.
    :return: 0 to 1.
    """
    rows, columns = grey.shape[0] // _CELL, grey.shape[1] // _CELL
    if rows < 1 or columns < 3:
        return 0.0
    change = np.zeros((rows * _CELL, columns * _CELL), np.float32)
    pairs = min(grey.shape[1] - 1, columns * _CELL)  # the picture may end with the last cell
    np.subtract(grey[: rows * _CELL, 1 : pairs + 1], grey[: rows * _CELL, :pairs], out=change[:, :pairs])
    filled = np.ones((rows, columns), bool)
    for edges in (change > _STROKE, change < -_STROKE):
        # Eight pixels at once, each a byte of a number; no byte overflows.
        down = np.add.reduce(edges.view(np.uint64).reshape(rows, _CELL, columns), axis=1)
        inside = down.view(np.uint8).reshape(rows, columns, _CELL).sum(2)
        filled &= inside > _STROKES * _CELL * _CELL
    row, column = np.nonzero(filled[:, 1:-1] & filled[:, :-2] & filled[:, 2:])
    if not len(row):
        return 0.0
    cells = grey[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2)
    pixels = np.sort(cells.reshape(rows, columns, -1)[filled], axis=1)
    place = np.cumsum(filled).reshape(filled.shape) - 1
    three = np.stack([place[row, column + beside] for beside in range(3)])
    inks = (pixels[three, _INK_PLACE], pixels[three, -1 - _INK_PLACE])
    one_ink = np.minimum(*(np.ptp(ink, axis=0) for ink in inks)) < _INK
    return float(one_ink.sum()) / filled.size


def middle(picture: Picture) -> Picture:
    """Return the middle of a grey picture: three quarters of each side, 640 pixels at most."""
    parts = []
    for size in picture.shape[:2]:
        length = min(int(size * 0.75) or 1, _MOST_SIDE)
        start = (size - length) // 2
        parts.append(slice(start, start + length))
    return picture[parts[0], parts[1]]


def blur(grey: Picture, window: int = 9) -> float | None:
    """Return how blurred a picture is: 0 sharp, 1 without any edge.

    The picture is blurred again: a sharp one changes much, a blurred one little. Crete, Dolmiere, Ladret and
    Nicolas, The blur effect, SPIE 6492, 2007, with their filter of 9 pixels; here only where there are edges,
    since the steps of a nearly plain surface are those of its quantisation. libav's ``blurdetect`` measures
    the width of edges, at 35 ms a frame of 720 lines; this takes 2.

    :param grey: ``(height, width)``.
    :param window: pixels of the filter: see :func:`blur_window`.
    :return: the larger one of both directions; None if there is nothing to compare.
    """
    # Along lines that lie in memory one after the other: across them each pixel is a line away.
    found = [_blur_along(np.ascontiguousarray(one), window) for one in (grey, grey.T)]
    return max((one for one in found if one is not None), default=None)


def blur_window(width: int) -> int:
    """Return the pixels of the filter for a video so wide: 9 at 480 and more, fewer below.

    What is shown small is enlarged where it is seen, its blur as well: with 9 pixels a small video seems
    sharper than the same one in its full size.

    :param width: of the video, in pixels.
    :return: an odd number, 5 to 9: with 3 pixels every edge of a film is as wide as the filter.
    """
    return min(max(2 * round((9 * width / 480 - 1) / 2) + 1, 5), 9)


_EDGE = 10
"""Grey levels between the ends of the filter, from which there is an edge within it."""
_EDGES = 0.002
"""Share of the places that have one, below which a picture says nothing."""


def _blur_along(grey: Picture, window: int) -> float | None:
    if grey.shape[1] < 2 * window:
        return None
    # The difference of two means that lie side by side is that of the ends of both: no mean is needed.
    ends = _apart(grey[:, window:], grey[:, :-window])
    edges = np.flatnonzero(ends >= _EDGE)
    if len(edges) / ends.size < _EDGES:
        return None
    first = window // 2
    near = grey[:, first : first + ends.shape[1] + 1]
    steps = _apart(near[:, 1:], near[:, :-1])
    sharp, again = (found.ravel()[edges].astype(np.float32) for found in (steps, ends))
    again /= window
    total = float(sharp.sum())
    if total == 0:  # the only edge is beside the part that is compared: a drawing's margin
        return None
    return 1 - float(np.maximum(sharp - again, 0).sum()) / total


def _apart(one: Picture, other: Picture) -> Picture:
    """Return by how many grey levels pixels differ: in bytes, a quarter of the memory of other numbers."""
    return np.maximum(one, other) - np.minimum(one, other)


def sharpness(grey: Picture) -> float:
    """Return the variance of the Laplacian: large for pictures with fine detail.

    Pech-Pacheco and others, Diatom autofocusing in brightfield microscopy, ICPR 2000. libav has none.

    :param grey: ``(height, width)``.
    :return: the variance; 0 for pictures smaller than 3 x 3.
    """
    if min(grey.shape) < 3:
        return 0.0
    levels = grey.astype(np.int16)
    around = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    around -= 4 * levels[1:-1, 1:-1]
    return float(around.astype(np.float32).var())


def noise(grey: Picture) -> float | None:
    """Return the standard deviation of noise, in grey levels.

    Immerkaer, Fast noise variance estimation, CVIU 64, 1996: a mask that is blind to flat and linear parts.
    libav's ``bitplanenoise`` gives shares of bits, which tell dark pictures from bright ones more than noise.

    :param grey: ``(height, width)``.
    :return: the estimate; None for pictures smaller than 3 x 3.
    """
    if min(grey.shape) < 3:
        return None
    levels = grey.astype(np.int16)
    rows = levels[:-2] - 2 * levels[1:-1] + levels[2:]
    masked = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.sqrt(np.pi / 2) * np.abs(masked).astype(np.float32).mean() / 6)
