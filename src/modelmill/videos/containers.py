"""Opening containers with libav, through PyAV."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modelmill.system.imports import needing_extra
from modelmill.videos.limits import CONTAINERS, VideoLimits
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.sources import Source

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


def libav() -> ModuleType:
    """Import PyAV.

    :return: the module ``av``.
    :raises ConfigError: if it is not installed.
    """
    with needing_extra("videos need", "video"):
        import av
        import av.logging
    av.logging.set_level(None)
    found: ModuleType = av
    return found


@contextlib.contextmanager
def open_container(source: Source, limits: VideoLimits) -> Iterator[InputContainer]:
    """Open a video's container.

    libav gets a file object and no name; formats that name other files are not on the list, and no protocol
    is, so a track that lies in another file is not opened either.

    :param source: the video.
    :param limits: streams, duration and pixels that it may have.
    :yields: the container.
    :raises RefusedVideoError: if it is no video, or goes beyond the limits.
    """
    av = libav()
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "none",  # no protocol has this name
        "max_pixels": str(limits.max_pixels),
        "threads": "1",
    }
    source.file.seek(0)
    try:
        container: InputContainer = av.open(source.file, mode="r", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise _refusal(source, error) from error
    with container:
        count = len(container.streams)
        if count > limits.max_streams:
            raise RefusedVideoError("too_many_streams", f"more than {limits.max_streams}")
        declared = declared_seconds(container)
        if declared is not None and declared > limits.max_seconds:
            raise RefusedVideoError("too_long", f"{declared:,.0f} s of {limits.max_seconds:,.0f}")
        yield container


def _refusal(source: Source, error: Exception) -> RefusedVideoError:
    text = str(error)
    source.file.seek(0)
    head = source.file.read(16)
    known = (head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"), head[:4] in _MAGIC)
    return RefusedVideoError("broken" if any(known) else "not_a_video", text[:300])


_MAGIC = (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"FLV\x01", b"\x00\x00\x01\xba")
"""First bytes of Matroska, AVI, Ogg, FLV and MPEG: such a file is a damaged video rather than none."""


_CLOCK = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")


def declared_seconds(container: InputContainer) -> float | None:
    """Return how long a container says that it is; None if it does not."""
    return None if container.duration is None else container.duration / 1_000_000


def own_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Return how long a stream says that it is, the others beside it left out.

    :param container: an open container.
    :param stream: its video.
    :return: in seconds; None if it does not say, or says more than its container: a tag may be left from a
        longer video that this one was cut out of.
    """
    said = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if said is not None:  # Matroska's; its duration may be that of the whole container
        hours, minutes, seconds = map(float, said.groups())
        found = 3600 * hours + 60 * minutes + seconds
    else:
        found = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    whole = declared_seconds(container)
    return found if found and (whole is None or found <= whole + 1) else None


def video_stream(container: InputContainer, limits: VideoLimits) -> VideoStream:
    """Return the video of a container: its first one that is no cover picture.

    :param container: an open container.
    :param limits: pixels that a frame may have.
    :return: the stream; it is decoded in one thread.
    :raises RefusedVideoError: if there is none, or its frames are too large.
    """
    streams = [one for one in container.streams.video if not _is_cover(one)]
    if not streams or streams[0].codec_context is None:
        kinds = ", ".join(sorted({one.type or "unknown" for one in container.streams})) or "none"
        raise RefusedVideoError("no_video", f"streams: {kinds}")
    stream = streams[0]
    codec = stream.codec_context
    if codec.width * codec.height > limits.max_pixels:
        raise RefusedVideoError("too_many_pixels", f"{codec.width} x {codec.height}")
    codec.thread_count = 1  # the memory of frames in flight is bounded, and so is the processor time
    codec.options = {"max_pixels": str(limits.max_pixels)}
    return stream


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)
