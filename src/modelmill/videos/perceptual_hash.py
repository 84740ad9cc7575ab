"""Perceptual hashes: pictures that look alike have hashes with few different bits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 32
_KEPT = 8


def _cosines(size: int) -> np.ndarray:
    """Return the matrix of the discrete cosine transform of type II, ``(size, size)``."""
    place = np.arange(size)
    return np.cos(np.pi * (2 * place[None, :] + 1) * place[:, None] / (2 * size))


_COSINES = _cosines(_SIDE)


def perceptual_hash(picture: Image, box: tuple[float, float, float, float] | None = None) -> str:
    """Return the hash of a picture: whether each of its 64 lowest frequencies is above their median.

    Zauner, Implementation and benchmarking of perceptual image hash functions, 2010, section 3.2.1. Remove
    black borders first: with them, two thirds of the copies are not found.

    :param picture: of any size and mode.
    :param box: the part that is hashed: left, top, right, bottom in pixels, also in parts of them; None: all.
    :return: 16 hexadecimal digits.
    """
    from PIL import Image

    small = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(small, np.float64)
    low = (_COSINES @ pixels @ _COSINES.T)[:_KEPT, :_KEPT].ravel()
    bits = low > np.sort(low[1:])[31]  # the median; with the first, the mean, brightness would decide for all
    return np.packbits(bits).tobytes().hex()


def distance(one: str, other: str) -> int:
    """Return how many of 64 bits differ.

    :param one: a hash.
    :param other: another one.
    :return: 10 and less: most probably copies.
    """
    return (int(one, 16) ^ int(other, 16)).bit_count()


def jpeg(picture: Image, quality: int) -> bytes:
    """Return a picture as JPEG."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return content.getvalue()
