"""One pass over a video's frames: filters of libav on all of them, pictures of some of them.

All frames are decoded (most clips have one keyframe only, so keyframes alone settle neither slideshows nor
frozen stretches), scaled to 160 pixels and shown to libav's own filters: there each costs microseconds. Or
the filters see the sampled frames alone, and what nobody needs is not decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelmill.videos.containers import libav, open_container, own_seconds, video_stream
from modelmill.videos.limits import VideoLimits
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.skipping import Due, Skipping
from modelmill.videos.sources import Source
from modelmill.videos.stillness import Stillness
from modelmill.videos.stills import source_width
from modelmill.videos.stretches import without
from modelmill.videos.upright import Upright, is_lying

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph

Interval = tuple[float, float]
"""Start and end in seconds from the first frame."""

SMALL_WIDTH = 160
FILTERS = (
    ("scale", f"{SMALL_WIDTH}:-2:flags=area"),
    ("format", "gray"),
    ("scdet", "threshold=10"),
    ("blackdetect", "d=0.1:picture_black_ratio_th=0.98:pixel_black_th=0.03"),
)
"""Filters of all frames, with their options. ``scdet``: cuts, by the difference of mean absolute frame
differences. ``blackdetect``: 98 % of the pixels below 3 % of white."""
_ERRORS = 50
"""Errors of the decoder in a row after which the rest of a video is given up."""


@dataclass(frozen=True)
class Sampling:
    """Which frames are looked at more closely."""

    frames_per_second: float = 4.0
    """Sampled frames; those of long videos are farther apart."""
    most: int = 1200
    """Sampled frames of a video at most; twice as many of one that is longer than it says."""
    details: int = 24
    """Sampled frames that are also seen at full size."""
    every_frame: bool = True
    """Whether libav's filters see all frames; else they see the sampled ones alone: what begins and ends is
    found up to a sample late, and what is shorter than two samples may be missed."""


@dataclass
class Seen:
    """What was seen of a video."""

    width: int
    """Of the first frame as it is shown, in pixels; a stream may change its size."""
    height: int
    times: list[float] = field(default_factory=list)
    """Of all frames that the filters saw."""
    differences: list[float] = field(default_factory=list)
    """Mean absolute difference of each of them to the one before, 0 to 100, at 160 pixels."""
    cuts: list[float] = field(default_factory=list)
    frozen: list[Interval] = field(default_factory=list)
    """Without what is black: that stands still, too."""
    slides: list[Interval] = field(default_factory=list)
    """Runs of slides: see :class:`modelmill.videos.stillness.Stillness`."""
    black: list[Interval] = field(default_factory=list)
    end: float = 0.0
    errors: int = 0
    source_width: int | None = None
    """Of the video that these are stills of, in pixels; None: it is an ordinary video."""


Look = Callable[[float, "VideoFrame", bool], None]
"""Gets a sampled frame, upright: its time, the frame, and whether it is one of those to see at full size."""


def watch(
    source: Source,
    limits: VideoLimits,
    sampling: Sampling,
    look: Look,
    *,
    cut: Callable[[float], None] | None = None,
) -> Seen:
    """Decode a video once.

    Of stills (:mod:`modelmill.videos.stills`) every frame is sampled, at the time that it has in their video.

    :param source: the video.
    :param limits: what it may be.
    :param sampling: which frames are handed to ``look``.
    :param look: called with each sampled frame, in the order of time.
    :param cut: called with the time of each hard cut, before the frame after it is looked at.
    :return: what libav's filters saw.
    :raises RefusedVideoError: if it is no video, or no frame can be decoded.
    """
    with open_container(source, limits) as container:
        stream = video_stream(container, limits)
        declared = container.duration / 1e6 if container.duration else 60.0
        step = max(1 / sampling.frames_per_second, declared / sampling.most)
        detail_step = max(declared / sampling.details, step)
        seen, filters = Seen(stream.codec_context.width, stream.codec_context.height), _Filters()
        seen.source_width, upright = source_width(container.metadata), Upright()
        if seen.source_width is not None:
            step = 0.0
        skipping = Skipping(step) if step and not sampling.every_frame else None
        frames = _timed(_decoded(container, stream, seen, skipping), None if step else 0.0, skipping)
        due, details, taken = Due(step), Due(0.0), 0
        for time, frame in frames:
            sampled = taken < 2 * sampling.most and due.take(time)
            if not sampled and not sampling.every_frame:
                continue
            if not seen.times:
                sides = (frame.width, frame.height)
                seen.width, seen.height = sides[::-1] if is_lying(frame.rotation) else sides
            cuts = len(seen.cuts)
            filters.see(frame, time, seen)
            if cut is not None and len(seen.cuts) > cuts:
                cut(time)
            if sampled:
                detail = details.is_due(time)
                details.at = time + detail_step if detail else details.at
                taken += 1
                look(time, upright.of(frame), detail)
        seen.end = _end(seen, own_seconds(container, stream), skipping)
        filters.end(seen)
    if not seen.times:
        raise RefusedVideoError("no_frames")
    return seen


def _decoded(container: Any, stream: Any, seen: Seen, skipping: Skipping | None) -> Any:
    """Yield the frames; what the decoder cannot read is counted and passed over."""
    av, codec = libav(), stream.codec_context
    row, left_out = 0, False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if skipping is not None and skipping.may(packet, _USUAL_SECONDS) != left_out:
                left_out = not left_out
                codec.skip_frame = "NONREF" if left_out else "DEFAULT"
            frames = packet.decode()
        except av.error.FFmpegError:
            seen.errors += 1
            row += 1
            if row > _ERRORS:
                return
            continue
        row = 0
        yield from (frame for frame in frames if frame.width and frame.height)


def _end(seen: Seen, own: float | None, skipping: Skipping | None) -> float:
    """Return when a video ends: after its last frame, but not after what its stream says."""
    last, end = max(seen.times, default=0.0), seen.end
    if skipping is not None:  # the filters have not seen the last ones
        last, end = max(last, skipping.last), max(end, skipping.end)
    if own is not None and seen.times and last <= own < end:
        return own  # frames that come at odd times may be said to last longer than they do
    return end


def _timed(
    frames: Iterable[VideoFrame], first: float | None, skipping: Skipping | None
) -> Iterator[tuple[float, VideoFrame]]:
    """Yield the frames with their times, in seconds from the first frame, or from ``first``."""
    for number, frame in enumerate(frames):
        time = number / 25 if frame.time is None else float(frame.time)
        if first is None:
            first = time
            if skipping is not None:
                skipping.begin(first)
        yield time - first, frame


class _Filters:
    """The filters of all frames, as one graph; a change of the frames' size begins a new one."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._form: tuple[int, int, str] | None = None
        self._still = Stillness()
        self._black: float | None = None
        errors = libav().error
        self._nothing = (errors.BlockingIOError, errors.EOFError)
        self._length: tuple[int | None, float] = None, _USUAL_SECONDS

    def see(self, frame: VideoFrame, time: float, seen: Seen) -> None:
        form = (frame.width, frame.height, frame.format.name)
        if form != self._form:
            self._end_stretches(time, seen)  # the new graph knows nothing of what has begun
            self._graph, self._form = _graph(frame), form
        seen.times.append(time)
        seen.end = max(seen.end, time + self._duration(frame))
        if self._graph is None:
            return
        try:
            self._graph.vpush(frame)
            small = self._graph.vpull()
        except self._nothing:
            seen.differences.append(0.0)
            return
        found: dict[str, str] = small.metadata
        first = not seen.differences
        seen.differences.append(0.0 if first else float(found.get("lavfi.scd.mafd", 0.0)))
        if float(found.get("lavfi.scd.score", 0.0)) >= _CUT_SCORE and not first:
            seen.cuts.append(time)
        self._still.see(time, small, seen.differences[-1])
        # The filter gives times of the stream, which need not begin at 0: what is kept is told by the frame.
        if "lavfi.black_start" in found:
            self._black = time
        if "lavfi.black_end" in found and self._black is not None:
            seen.black.append((self._black, time))
            self._black = None

    def _duration(self, frame: VideoFrame) -> float:
        length = getattr(frame, "duration", None) or None
        if length != self._length[0]:
            unit = frame.time_base
            self._length = length, float(length * unit) if length and unit else _USUAL_SECONDS
        return self._length[1]

    def end(self, seen: Seen) -> None:
        self._end_stretches(seen.end, seen)
        seen.frozen = without(self._still.frozen, seen.black)
        seen.slides = self._still.slides

    def _end_stretches(self, time: float, seen: Seen) -> None:
        self._still.end(time)
        if self._black is not None:
            seen.black.append((self._black, time))
            self._black = None


_CUT_SCORE = 10.0
_USUAL_SECONDS = 0.04
"""Of a frame that does not say how long it is shown."""


def _graph(frame: VideoFrame) -> Graph | None:
    """Make the graph; None for pictures too narrow for it."""
    av = libav()
    if min(frame.width, frame.height) < 8:
        return None
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    for name, options in (*FILTERS, ("buffersink", "")):
        node = graph.add(name, options) if options else graph.add(name)
        last.link_to(node)
        last = node
    graph.configure()
    return graph  # type: ignore[no-any-return]
