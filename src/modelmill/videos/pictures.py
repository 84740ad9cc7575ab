"""Measures of one picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.float32]

_MOST_SIDE = 640
"""Pixels of the part of a picture that is looked at for sharpness and noise: its middle."""


def luma(picture: Picture) -> Luma:
    """Return the luma of an RGB picture, ITU-R BT.601: ``(height, width)``, 0 to 255."""
    return (picture @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)


def colourfulness(picture: Picture) -> float:
    """Return how colourful an RGB picture is: 0 for grey, about 100 for very colourful.

    Hasler and Suesstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003. libav has none.

    :param picture: ``(height, width, 3)``.
    :return: the measure M3 of the paper.
    """
    red, green, blue = (picture[..., place].astype(np.float32) for place in range(3))
    one, other = red - green, (red + green) / 2 - blue
    spread = np.hypot(one.std(), other.std())
    return float(spread + 0.3 * np.hypot(one.mean(), other.mean()))


def middle(picture: Picture) -> Luma:
    """Return the middle of a grey picture: three quarters of each side, 640 pixels at most."""
    parts = []
    for size in picture.shape[:2]:
        length = min(int(size * 0.75) or 1, _MOST_SIDE)
        start = (size - length) // 2
        parts.append(slice(start, start + length))
    return picture[parts[0], parts[1]].astype(np.float32)


def blur(grey: Luma) -> float | None:
    """Return how blurred a picture is: 0 sharp, 1 without any edge.

    The picture is blurred again: a sharp one changes much, a blurred one little. Crete, Dolmiere, Ladret and
    Nicolas, The blur effect, SPIE 6492, 2007, with their filter of 9 pixels; here only where there are edges,
    since the steps of a nearly plain surface are those of its quantisation. libav's ``blurdetect`` measures
    the width of edges, at 35 ms a frame of 720 lines; this takes 12.

    :param grey: ``(height, width)``, 0 to 255.
    :return: the larger one of both directions; None if there is nothing to compare.
    """
    found = [_blur_along(one) for one in (grey, grey.T)]
    return max((one for one in found if one is not None), default=None)


_BLUR_WINDOW = 9
_EDGE = 10.0
"""Grey levels between the ends of the filter, from which there is an edge within it."""
_EDGES = 0.002
"""Share of the places that have one, below which a picture says nothing."""


def _blur_along(grey: Luma) -> float | None:
    if grey.shape[1] < 2 * _BLUR_WINDOW:
        return None
    sums = np.cumsum(np.pad(grey, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    smooth = (sums[:, _BLUR_WINDOW:] - sums[:, :-_BLUR_WINDOW]) / _BLUR_WINDOW
    inner = grey[:, _BLUR_WINDOW // 2 : _BLUR_WINDOW // 2 + smooth.shape[1]]
    sharp, again = np.abs(np.diff(inner, axis=1)), np.abs(np.diff(smooth, axis=1))
    edges = again * _BLUR_WINDOW >= _EDGE
    if edges.mean() < _EDGES:
        return None
    sharp, again = sharp[edges], again[edges]
    total = float(sharp.sum())
    if total == 0:  # the only edge is beside the part that is compared: a drawing's margin
        return None
    return 1 - float(np.maximum(sharp - again, 0).sum()) / total


def sharpness(grey: Luma) -> float:
    """Return the variance of the Laplacian: large for pictures with fine detail.

    Pech-Pacheco and others, Diatom autofocusing in brightfield microscopy, ICPR 2000. libav has none.

    :param grey: ``(height, width)``, 0 to 255.
    :return: the variance; 0 for pictures smaller than 3 x 3.
    """
    if min(grey.shape) < 3:
        return 0.0
    centre = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * centre).var())


def noise(grey: Luma) -> float | None:
    """Return the standard deviation of noise, in grey levels.

    Immerkaer, Fast noise variance estimation, CVIU 64, 1996: a mask that is blind to flat and linear parts.
    libav's ``bitplanenoise`` gives shares of bits, which tell dark pictures from bright ones more than noise.

    :param grey: ``(height, width)``, 0 to 255.
    :return: the estimate; None for pictures smaller than 3 x 3.
    """
    if min(grey.shape) < 3:
        return None
    rows = grey[:-2] - 2 * grey[1:-1] + grey[2:]
    masked = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.sqrt(np.pi / 2) * np.abs(masked).mean() / 6)
