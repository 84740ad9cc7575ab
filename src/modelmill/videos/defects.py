"""Labelled clips, made of clean ones: decoded, transformed, encoded again, in memory."""

from __future__ import annotations

import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from modelmill.videos.containers import libav, open_container, video_stream
from modelmill.videos.defect_kinds import AnyDefect, Clip, Made, Pictures
from modelmill.videos.limits import VideoLimits
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.sources import Source, digest_of
from modelmill.videos.upright import Upright

_LEAST_FRAMES = 8
_KINDS: TypeAdapter[Any] = TypeAdapter(AnyDefect)


def defects(source: Source, limits: VideoLimits, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make labelled clips of a clean one.

    What is drawn depends on the clip's content, the seed and the place of a defect in the list alone.

    :param source: the clean clip.
    :param limits: what it may be.
    :param options: ``defects``: the kinds with their options; ``seed``; ``seconds`` and ``width`` of the
        clips at most; ``codec`` and ``crf``: how they are encoded.
    :return: a row for each defect: see ``DEFECTS`` in :mod:`modelmill.videos.tasks`.
    :raises RefusedVideoError: if the clip cannot be decoded, or is too short.
    """
    frames, rate = _read(source, limits, options)
    digest = digest_of(source.file)
    rows = []
    for number, raw in enumerate(options["defects"]):
        kind = _KINDS.validate_python(raw)
        random = np.random.default_rng([int(digest[:15], 16), options["seed"], number])
        made: Made = kind.make(Clip(frames, rate, random))
        encoding = {"crf": str(options["crf"]), **made.encoding}
        rows.append(
            {
                "clip": f"{digest[:12]}-{options['seed']}-{number}-{kind.kind}",
                "source_digest": digest,
                "defect": kind.kind,
                "parameters": json.dumps(made.parameters, sort_keys=True),
                "box": made.box,
                "start": made.start,
                "end": made.end,
                "clip_width": frames[0].shape[1],
                "clip_height": frames[0].shape[0],
                "clip_seconds": len(made.frames) / rate,
                "video": encoded(made.frames, rate, options["codec"], encoding),
            }
        )
    return rows


def _read(source: Source, limits: VideoLimits, options: Mapping[str, Any]) -> tuple[Pictures, float]:
    """Decode the beginning of a clip, in its own rate but at most 30 frames a second."""
    av = libav()
    frames: Pictures = []
    with open_container(source, limits) as container:
        stream = video_stream(container, limits)
        own = float(stream.average_rate or 25)
        every = max(1, math.ceil(own / 30.1))  # a rate such as 30.02 is not halved
        most = int(options["seconds"] * own / every)
        size: tuple[int, int] | None = None
        upright = Upright()
        try:
            for number, frame in enumerate(container.decode(stream)):
                if number % every:
                    continue
                shown = upright.of(frame)
                if size is None:
                    size = _even(shown.width, shown.height, options["width"])
                small = shown.reformat(*size, "rgb24", interpolation="AREA")
                frames.append(np.asarray(small.to_ndarray(), np.uint8))
                if len(frames) >= most:
                    break
        except av.error.FFmpegError as error:
            raise RefusedVideoError("broken", f"frame {len(frames)}: {error}"[:300]) from error
    if len(frames) < _LEAST_FRAMES:
        raise RefusedVideoError("no_frames", f"{len(frames)} frames; {_LEAST_FRAMES} are needed")
    return frames, own / every


def _even(width: int, height: int, most: int) -> tuple[int, int]:
    scale = min(1.0, most / width)
    return max(16, round(width * scale / 2) * 2), max(16, round(height * scale / 2) * 2)


_STEADY = {"x264-params": "asm=MMX2,SSE2,SSSE3"} if platform.machine() in ("x86_64", "AMD64") else {}
"""With AVX2 x264 wrote up to ten different files of the same 30 frames. Without it takes as long."""


def encoded(frames: Sequence[Any], rate: float, codec: str, options: Mapping[str, str]) -> bytes:
    """Encode pictures.

    :param frames: RGB, ``(height, width, 3)``, all of one size, even in both directions.
    :param rate: frames per second.
    :param codec: name of one of libav's encoders.
    :param options: the encoder's options.
    :return: an MP4 file, the same bytes each time.
    """
    av = libav()
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {**(_STEADY if codec == "libx264" else {}), **options}
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return content.getvalue()
