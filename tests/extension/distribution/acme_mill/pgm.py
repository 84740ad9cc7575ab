"""Grey images in the binary PGM format: a header of text, then a byte for each pixel."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_HEADER = re.compile(rb"P5\s+(\d+)\s+(\d+)\s+255\s")


def pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image, ``(height, width)``.

    :raises ValueError: if the bytes are not such an image.
    """
    header = _HEADER.match(content)
    if header is None:
        raise ValueError("a photo must be a grey PGM image of 8 bits")
    width, height = int(header[1]), int(header[2])
    return np.frombuffer(content, np.uint8, width * height, header.end()).reshape(height, width)
