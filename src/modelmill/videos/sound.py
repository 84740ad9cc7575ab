"""How loud a video is, and where it is silent: libav's ``ebur128`` and ``silencedetect``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from modelmill.videos.containers import libav, open_container
from modelmill.videos.limits import VideoLimits
from modelmill.videos.sources import Source

FILTERS = (("aresample", "48000"), ("ebur128", "metadata=1"), ("silencedetect", "noise=-50dB:d=0.5"))
"""EBU R 128 (ITU-R BS.1770): integrated loudness in LUFS and loudness range in LU. Silence: below -50 dB for
half a second."""
_NOTHING = -70.0
"""LUFS of the absolute gate: no block was louder."""


@dataclass
class Sound:
    """What was heard."""

    loudness: float | None = None
    """Integrated, in LUFS; None: no sound, or all of it below the gate."""
    loudness_range: float | None = None
    """In LU."""
    silent: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    broken: bool = False
    """Whether the decoder failed before the end."""


def listen(source: Source, limits: VideoLimits) -> Sound | None:
    """Measure the first stream of sound.

    :param source: the video.
    :param limits: what it may be.
    :return: what was heard; None if there is no sound.
    """
    av = libav()
    with open_container(source, limits) as container:
        streams = [one for one in container.streams.audio if one.codec_context is not None]
        if not streams:
            return None
        found, state = Sound(), _State()
        try:
            for frame in container.decode(streams[0]):
                state.see(frame, found)
        except (av.error.FFmpegError, ValueError):
            found.broken = True
        state.end(found)
    return found


class _State:
    def __init__(self) -> None:
        self._graph: Any = None
        self._begun: float | None = None
        self._first: float | None = None

    def see(self, frame: Any, found: Sound) -> None:
        av = libav()
        if self._graph is None:
            self._graph = _graph(frame)
        if frame.time is not None:
            self._first = frame.time if self._first is None else self._first
            found.seconds = frame.time - self._first + frame.samples / frame.sample_rate
        self._graph.push(frame)
        while True:
            try:
                measured = self._graph.pull().metadata
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._note(measured, found)

    def _note(self, measured: dict[str, str], found: Sound) -> None:
        if "lavfi.r128.I" in measured:
            loudness = float(measured["lavfi.r128.I"])
            found.loudness = loudness if math.isfinite(loudness) and loudness > _NOTHING else None
            spread = float(measured.get("lavfi.r128.LRA", "nan"))
            found.loudness_range = spread if math.isfinite(spread) else None
        for key, value in measured.items():
            if key.startswith("lavfi.silence_start"):
                self._begun = float(value) - (self._first or 0.0)
            elif key.startswith("lavfi.silence_end") and self._begun is not None:
                found.silent.append((max(self._begun, 0.0), float(value) - (self._first or 0.0)))
                self._begun = None

    def end(self, found: Sound) -> None:
        if self._begun is not None:
            found.silent.append((max(self._begun, 0.0), found.seconds))


def _graph(frame: Any) -> Any:
    graph = libav().filter.Graph()
    last = graph.add_abuffer(
        sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=frame.time_base
    )
    for name, options in (*FILTERS, ("abuffersink", "")):
        node = graph.add(name, options) if options else graph.add(name)
        last.link_to(node)
        last = node
    graph.configure()
    return graph
