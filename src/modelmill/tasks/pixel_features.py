"""What a baseline counts in an image: how bright and how rough it is, and a thumbnail.

A model of images has to beat a linear model of these: numbers that need no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.tasks.baselines import Fit
from modelmill.tokens.images import decoded

Floats = npt.NDArray[np.float64]

_THUMBNAIL = 8
_LEVELS = 16
_SIDE = 256
"""Statistics are taken at most at this side: they need no more pixels."""
_PARTS = (
    ("statistics", slice(0, -(_THUMBNAIL**2))),
    ("statistics and a thumbnail", slice(None)),
)
_STRENGTHS = (1.0, 10.0)
_FEWEST_ROWS = 20
"""Validation rows that a choice needs; with fewer, every fifth row is held out."""
_HELD_OUT = 5


def pixel_baseline(
    images: Sequence[bytes],
    truth: npt.NDArray[Any],
    new_images: Sequence[bytes],
    *,
    validation: int,
    fit: Fit,
    score: Callable[[npt.NDArray[Any], npt.NDArray[Any]], float],
) -> tuple[str, npt.NDArray[Any]] | None:
    """Choose statistics with or without a thumbnail, fit a linear model of them, and answer other images.

    :param images: files to fit on; at least one.
    :param truth: their labels, ``(rows,)`` or ``(rows, classes)``.
    :param new_images: files to answer.
    :param validation: so many of the images, the last ones, are validation rows.
    :param fit: the linear model.
    :param score: from labels and answers how good these are.
    :return: name of the features and the answers.
    :raises UnreadableImageError: if one cannot be decoded.
    """
    table = np.array([pixel_statistics(one) for one in images])
    other = np.array([pixel_statistics(one) for one in new_images])
    rows = np.arange(len(images))
    held = rows >= len(rows) - validation if validation >= _FEWEST_ROWS else rows % _HELD_OUT == 1
    tried = [(name, part, strength) for name, part in _PARTS for strength in _STRENGTHS]
    best = tried[0]
    if held.sum() >= _FEWEST_ROWS and not held.all():
        wanted, known = truth[held], truth[~held]

        def quality(one: tuple[str, slice, float]) -> float:
            features, new = _standardised(table[~held, one[1]], table[held, one[1]])
            return score(wanted, fit(features, known, new, one[2]))

        best = max(tried, key=quality)
    name, part, strength = best
    features, new = _standardised(table[:, part], other[:, part])
    return name, fit(features, truth, new, strength)


def _standardised(table: Floats, other: Floats) -> tuple[Floats, Floats]:
    mean, spread = table.mean(0), table.std(0)
    # As long as a row of TF-IDF is, so that the same strengths suit both.
    scale = np.where(spread > 0, spread, 1.0) * np.sqrt(table.shape[1])
    return (table - mean) / scale, (other - mean) / scale


def pixel_statistics(content: bytes) -> Floats:
    """Return simple numbers of an image.

    :param content: its file.
    :return: mean and spread of red, green and blue; shares of pixels by brightness; roughness from side to
        side and from top to bottom; height over width; and the brightness of 8 by 8 fields.
    :raises UnreadableImageError: if it cannot be decoded.
    """
    from PIL import Image

    image = decoded(content)
    shape = image.height / image.width
    fields = image.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    image.thumbnail((_SIDE, _SIDE))
    pixels = np.asarray(image, dtype=np.float64) / 255  # (height, width, 3)
    light = pixels.mean(2)
    levels = np.histogram(light, bins=_LEVELS, range=(0, 1))[0] / light.size
    rough = [np.abs(np.diff(light, axis=axis)).mean() if light.shape[axis] > 1 else 0.0 for axis in (0, 1)]
    simple = [pixels.mean((0, 1)), pixels.std((0, 1)), levels, rough, [shape]]
    return np.concatenate([*simple, np.asarray(fields, dtype=np.float64).ravel() / 255])
