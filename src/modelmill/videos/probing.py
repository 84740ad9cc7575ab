"""What a video's container, streams and packets say. One frame is decoded; all packets are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modelmill.videos.containers import declared_seconds, libav, open_container, video_stream
from modelmill.videos.limits import VideoLimits
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.sources import Source
from modelmill.videos.subtitles import read_subtitles

if TYPE_CHECKING:
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
    key_times: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return 0.0 if self.first is None or self.last is None else self.last - self.first


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
        _check_complete(packets, declared)
        row = _described(container, stream, packets)
    with open_container(source, limits) as container:
        subtitles = read_subtitles(
            container, source if options.get("sidecars") else replace(source, sidecar=None)
        )
    row |= {"bytes": source.size, "declared_seconds": declared, "rotation": rotation}
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
    found = _Packets()
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            found.count += 1
            found.bytes += packet.size
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.time_base is not None:
                start = float(time * packet.time_base)
                end = start + float((packet.duration or 0) * packet.time_base)
                found.first = start if found.first is None else min(found.first, start)
                found.last = end if found.last is None else max(found.last, end)
                if packet.is_keyframe:
                    found.key_times.append(start)
            found.keyframes += bool(packet.is_keyframe)
    except av.error.FFmpegError as error:
        raise RefusedVideoError("broken", f"packet {found.count}: {error}"[:300]) from error
    return found


def _check_complete(packets: _Packets, declared: float | None) -> None:
    if declared is None or declared <= _SLACK_SECONDS:
        return
    if packets.seconds + _SLACK_SECONDS < _TRUNCATED_BELOW * declared:
        raise RefusedVideoError("truncated", f"frames for {packets.seconds:.1f} s of {declared:.1f} s")


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
