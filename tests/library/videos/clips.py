"""Clips that tests make: real files, encoded by libav."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def moving(seed: int = 0, size: tuple[int, int] = (128, 96)) -> Callable[[int], Image]:
    """Return a function of the frame's number: a textured picture that moves one pixel a frame."""
    width, height = size
    random = np.random.default_rng(seed)
    coarse = random.integers(30, 225, (height // 8 + 2, width // 8 + 64, 3)).astype(np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)
    noise = random.integers(0, 12, picture.shape).astype(np.uint8)

    def frame(number: int) -> Image:
        start = number % (picture.shape[1] - width)
        return picture[:height, start : start + width] + noise[:height, start : start + width]

    return frame


def write_frames(
    path: Path, frames: Iterable[Image], *, rate: int = 25, codec: str = "libx264", sound: bool = False
) -> Path:
    """Encode pictures of one size."""
    import av

    with av.open(str(path), "w") as container:
        stream = None
        audio = container.add_stream("aac", rate=16000) if sound else None
        count = 0
        for image in frames:
            if stream is None:
                stream = container.add_stream(codec, rate=rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            count += 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))
        if audio is not None:
            write_tone(container, audio, count / rate)
    return path


def changing_size(parts: Iterable[Iterable[Image]]) -> bytes:
    """Encode parts of a stream, each with pictures of another size, one after the other at 25 a second."""
    import av

    content, count = b"", 0
    for part in parts:
        written = io.BytesIO()
        with av.open(written, "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.pix_fmt = "yuv420p"
            stream.codec_context.max_b_frames = 0
            for image in part:
                if not stream.codec_context.is_open:
                    stream.height, stream.width = image.shape[:2]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
                frame.pts, frame.time_base = count, Fraction(1, 25)
                container.mux(stream.encode(frame))
                count += 1
            container.mux(stream.encode(None))
        content += written.getvalue()
    return content


def write_tone(container: object, stream: object, seconds: float) -> None:
    """Encode a tone of 440 Hz."""
    import av

    times = np.arange(int(seconds * 16000)) / 16000
    tone = (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    for start in range(0, len(tone) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))  # type: ignore[attr-defined]
    container.mux(stream.encode(None))  # type: ignore[attr-defined]


def write_clip(
    path: Path, *, seconds: float = 1, size: tuple[int, int] = (128, 96), seed: int = 0, sound: bool = False
) -> Path:
    """Encode a textured picture that moves, at 25 frames a second."""
    frame = moving(seed, size)
    return write_frames(path, (frame(number) for number in range(round(seconds * 25))), sound=sound)
