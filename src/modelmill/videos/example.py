"""A tiny video in memory: the limited process tries its tasks on it, so that all they import is there."""

from __future__ import annotations

import io

import numpy as np

from modelmill.videos.containers import libav


def tiny_video() -> bytes:
    """Return a video of a second with sound, in Matroska: two shots of noise, 64 x 64, FFV1 and PCM."""
    av = libav()
    random = np.random.default_rng(0)
    content = io.BytesIO()
    with av.open(content, "w", format="matroska") as container:
        pictures = container.add_stream("ffv1", rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        scenes = random.integers(0, 255, (2, 64, 64, 3), np.uint8)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.roll(scenes[number // 5], number, axis=1), "rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        samples = random.integers(-900, 900, (1, 8000)).astype(np.int16)
        heard = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        heard.sample_rate = 8000
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))
    return content.getvalue()
