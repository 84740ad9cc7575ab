"""What a video's container, streams and packets say. One frame is decoded; all packets are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modelmill.videos.containers import (
    declared_seconds,
    libav,
    open_container,
    own_seconds,
    video_stream,
)
from modelmill.videos.limits import VideoLimits
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.sources import Source
from modelmill.videos.subtitles import read_subtitles
from modelmill.videos.upright import is_lying

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

_TAG_CHARACTERS = 4000
"""Of all tags together, and a quarter of it for each value."""
_TRUNCATED_BELOW = 0.8
"""Share of the declared duration that the frames must reach."""
_SLACK_SECONDS = 1.0
"""A last frame has a duration too, which not every container says."""


@dataclass
class _Packets:
    """What the packets of the video say."""

    count: int = 0
    keyframes: int = 0
    bytes: int = 0
    first: float | None = None
    last: float | None = None
    newest: float | None = None
    """Beginning of the last frame."""
    own: float | None = None
    """Seconds that the video's stream says of itself."""
    key_times: list[float] = field(default_factory=list)

    def add(self, start: float, end: float, *, is_key: bool) -> None:
        """Take a packet of the video."""
        self.first = start if self.first is None else min(self.first, start)
        self.newest = start if self.newest is None else max(self.newest, start)
        self.last = end if self.last is None else max(self.last, end)
        if is_key:
            self.key_times.append(start)

    @property
    def seconds(self) -> float:
        if self.first is None or self.last is None or self.newest is None:
            return 0.0
        if self.own is not None and self.newest - self.first <= self.own < self.last - self.first:
            return self.own  # packets that come at odd times may be said to last longer than they do
        return self.last - self.first


def probe(source: Source, limits: VideoLimits, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read what a video says of itself.

    :param source: the video.
    :param limits: what it may be.
    :param options: ``sidecars``: whether the file of subtitles beside the video counts.
    :return: one row: see ``PROBED`` in :mod:`modelmill.videos.tasks`.
    :raises RefusedVideoError: if it is none, is broken, or goes beyond the limits.
    """
    with open_container(source, limits) as container:
        stream = video_stream(container, limits)
        rotation = _first_frame(container, stream)
    with open_container(source, limits) as container:
        stream = video_stream(container, limits)
        packets = _read_packets(container, stream)
        declared = declared_seconds(container)
        _check_complete(packets, declared, lambda: _end_of_all(source, limits))
        row = _described(container, stream, packets)
    with open_container(source, limits) as container:
        subtitles = read_subtitles(
            container, source if options.get("sidecars") else replace(source, sidecar=None)
        )
    row |= {"bytes": source.size, "declared_seconds": declared, "rotation": rotation}
    if is_lying(rotation):  # as it is shown, and measured
        row["width"], row["height"] = row["height"], row["width"]
    row["subtitles"] = subtitles.text if subtitles else None
    row["subtitles_from"] = subtitles.source if subtitles else None
    row["subtitles_language"] = subtitles.language if subtitles else None
    row["subtitles_seconds"] = subtitles.seconds if subtitles else None
    return [row]


def _first_frame(container: InputContainer, stream: VideoStream) -> int:
    """Decode a frame, and return its rotation in degrees."""
    av = libav()
    error_text = ""
    try:
        for frame in container.decode(stream):
            return int(frame.rotation) % 360
    except av.error.FFmpegError as error:
        error_text = str(error)
    raise RefusedVideoError("no_frames", error_text)


def _read_packets(container: InputContainer, stream: VideoStream) -> _Packets:
    av = libav()
    found = _Packets(own=own_seconds(container, stream))
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            found.count += 1
            found.bytes += packet.size
            found.keyframes += bool(packet.is_keyframe)
            times = _times(packet)
            if times is not None:
                found.add(*times, is_key=bool(packet.is_keyframe))
    except av.error.FFmpegError as error:
        raise RefusedVideoError("broken", f"packet {found.count}: {error}"[:300]) from error
    return found


def _times(packet: Packet[Any]) -> tuple[float, float] | None:
    """Return when a packet begins and ends, in seconds; None if it does not say."""
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None or packet.time_base is None:
        return None
    start = float(time * packet.time_base)
    return start, start + float((packet.duration or 0) * packet.time_base)


def _check_complete(
    packets: _Packets, declared: float | None, end_of_all: Callable[[], float | None]
) -> None:
    """Refuse a video whose frames end early; sound that goes on behind the last one is no reason.

    :param packets: of the video.
    :param declared: seconds that the container says.
    :param end_of_all: reads all streams, and returns the time of their end: it is asked for seldom.
    :raises RefusedVideoError: if the video ends before its own time, or all before the container's.
    """
    seconds = packets.seconds
    if packets.own is not None and _ends_early(seconds, packets.own):
        raise RefusedVideoError("truncated", f"frames for {seconds:.1f} s of {packets.own:.1f} s")
    if declared is None or not _ends_early(seconds, declared):
        return
    end = end_of_all()
    reached = seconds if end is None or packets.first is None else end - packets.first
    if _ends_early(reached, declared):
        raise RefusedVideoError("truncated", f"frames for {seconds:.1f} s of {declared:.1f} s")


def _ends_early(seconds: float, declared: float) -> bool:
    return declared > _SLACK_SECONDS and seconds + _SLACK_SECONDS < _TRUNCATED_BELOW * declared


def _end_of_all(source: Source, limits: VideoLimits) -> float | None:
    """Return the time at which the last packet of any stream ends; None if none says when it is."""
    av, ends = libav(), list[float]()
    with open_container(source, limits) as container, contextlib.suppress(av.error.FFmpegError):
        ends = [times[1] for packet in container.demux() if packet.size and (times := _times(packet))]
    return max(ends, default=None)


def _described(container: InputContainer, stream: VideoStream, packets: _Packets) -> dict[str, Any]:
    codec, sound = stream.codec_context, container.streams.audio
    heard = next((one for one in sound if one.codec_context is not None), None)
    ends = [*sorted(packets.key_times), packets.last]
    gaps = [after - before for before, after in pairwise(ends) if before is not None and after is not None]
    seconds = packets.seconds
    return {
        "container": container.format.name,
        "streams": len(container.streams),
        "seconds": seconds,
        "width": codec.width,
        "height": codec.height,
        "codec": codec.name,
        "pixel_format": codec.pix_fmt,
        "frames": packets.count,
        "frames_per_second": packets.count / seconds if seconds > 0 else None,
        "keyframes": packets.keyframes,
        "longest_keyframe_gap": max(gaps, default=None),
        "bit_rate": packets.bytes * 8 / seconds if seconds > 0 else None,
        "audio_codec": heard.codec_context.name if heard else None,
        "audio_channels": heard.codec_context.channels if heard else None,
        "audio_sample_rate": heard.codec_context.sample_rate if heard else None,
        "tags": _tags(container),
    }


def _tags(container: InputContainer) -> str:
    """Return tags as JSON: the first ones by name, as many as there is room for."""
    kept, length = dict[str, str](), 2
    for name, value in sorted(container.metadata.items()):
        shown = value[: _TAG_CHARACTERS // 4]
        length += len(json.dumps({name: shown}, ensure_ascii=False))
        if length > _TAG_CHARACTERS:
            break
        kept[name] = shown
    return json.dumps(kept, ensure_ascii=False)
