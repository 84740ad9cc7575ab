"""Scenes of the wheel ``comfyui-workflow-templates-media-video``: animated pictures, made to clips.

One half is for choosing thresholds, the other one for judging what was chosen: pictures of one scene are in
the same half.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from modelmill.videos.defects import encoded

LEAST_FRAMES = 24


def pictures(wheel: Path, *, tuned: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of clips of one half."""
    with zipfile.ZipFile(wheel) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".webp"))
        shown = dict[str, Image.Image]()
        for name in names:
            image = Image.open(io.BytesIO(files.read(name)))
            if getattr(image, "n_frames", 1) >= LEAST_FRAMES:
                shown[Path(name).stem] = image
        first = {name for place, name in enumerate(shown) if (place + (place > 33)) % 2 == 0}
        taken = {scene_of(name) for name in first}
        for name, image in shown.items():
            if (name in first) if tuned else (scene_of(name) not in taken):
                yield name, clip_of(image)


def scene_of(name: str) -> str:
    """Return what pictures of one scene have in common: the name without its number."""
    return name.rsplit("-", 1)[0]


def clip_of(image: Image.Image) -> bytes:
    """Return a clip of an animated picture, at most 480 pixels wide and high."""
    frames, durations = list[np.ndarray](), list[float]()
    scale = min(1.0, 480 / max(image.size))
    size = round(image.width * scale / 2) * 2, round(image.height * scale / 2) * 2
    for frame in ImageSequence.Iterator(image):
        durations.append(frame.info.get("duration") or 66)
        frames.append(np.asarray(frame.convert("RGB").resize(size), np.uint8))
    rate = 1000 / float(np.mean(durations))
    return encoded(frames, rate, "libx264", {"crf": "12", "preset": "veryfast"})
