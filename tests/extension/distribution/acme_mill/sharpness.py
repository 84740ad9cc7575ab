"""A measure: how sharp a photo is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field

from acme_mill.pgm import pixels
from modelmill.signals.measures import MeasureOptions, measure


class SharpnessOptions(MeasureOptions):
    """What is compared."""

    distance: int = Field(1, ge=1, description="Pixels between the two that are compared.")


@measure("sharpness", result="float", operands=("bytes",), options=SharpnessOptions)
def sharpness(photos: pa.Array, options: SharpnessOptions) -> pa.Array:
    """Mean difference of neighbouring pixels, from 0 to 1."""
    found = [None if one is None else _difference(one, options.distance) for one in photos.to_pylist()]
    return pa.array(found, pa.float64())


def _difference(content: bytes, distance: int) -> float | None:
    image = pixels(content).astype(np.int16)
    if image.shape[1] <= distance:
        return None  # nothing to compare
    return float(np.abs(image[:, distance:] - image[:, :-distance]).mean()) / 255
