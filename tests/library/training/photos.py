"""Small pictures with a class, a set of classes and a number, for tests of what learns from images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

KINDS = ("stripes", "plain", "noise")


def picture(kind: str, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    light = 90 + seed % 80
    pixels = np.full((20, 24, 3), light, np.int64)
    if kind == "stripes":
        pixels[:, (np.arange(24) // 4) % 2 == 0] -= 80
    if kind == "noise":
        pixels += random.integers(-80, 80, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def rows(count: int) -> dict[str, Any]:
    kinds = [KINDS[number % 3] for number in range(count)]
    images = [picture(kind, number) for number, kind in enumerate(kinds)]
    light = [float(np.asarray(Image.open(io.BytesIO(image))).mean()) for image in images]
    traits = [
        [name for name, so in (("flat", kind == "plain"), ("bright", level > 130)) if so]
        for kind, level in zip(kinds, light, strict=True)
    ]
    return {
        "id": [f"{number:03d}" for number in range(count)],
        "photo": pa.array(images, pa.binary()),
        "kind": kinds,
        "traits": pa.array(traits, pa.list_(pa.string())),
        "light": light,
        "split": (["train"] * 8 + ["validation"] * 2 + ["test"] * 5) * (count // 15),
    }
