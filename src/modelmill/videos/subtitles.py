"""Subtitles as text: the most explicit thing that a video says of its content."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.videos.containers import libav
from modelmill.videos.limits import SUBTITLE_CHARACTERS, SUBTITLE_FORMATS
from modelmill.videos.sources import Source

if TYPE_CHECKING:
    from av.container import InputContainer

_MARKUP = re.compile(r"\{[^}]*\}|<[^>]*>")
_LINE_BREAK = re.compile(r"\\[Nnh]")


@dataclass(frozen=True)
class Subtitles:
    """The text of a video's subtitles."""

    text: str
    """One line for each caption, without markup."""
    source: str
    """``embedded``, or the name of the file beside the video."""
    language: str | None
    seconds: float
    """Time on which there is a caption."""


def read_subtitles(container: InputContainer, source: Source) -> Subtitles | None:
    """Read the subtitles of a video: the embedded ones, else those of the file beside it.

    :param container: a container that has just been opened; it is read to the end.
    :param source: the video, with what lies beside it.
    :return: the subtitles; None if there are none, or they are pictures.
    """
    streams = [one for one in container.streams if one.type == "subtitle" and one.codec_context is not None]
    if streams:
        found = _captions(container, streams[0])
        if found is not None:
            return Subtitles(found[0], "embedded", streams[0].language, found[1])
    if source.sidecar:
        return _beside(source.sidecar, source.sidecar_name)
    return None


def _beside(content: bytes, name: str) -> Subtitles | None:
    av = libav()
    options = {"format_whitelist": ",".join(SUBTITLE_FORMATS), "protocol_whitelist": "none"}
    text = content.decode("utf-8", errors="replace").lstrip("\ufeff")
    form = {"vtt": "webvtt"}.get(name.rsplit(".", 1)[-1].lower(), name.rsplit(".", 1)[-1].lower())
    try:
        with av.open(io.BytesIO(text.encode()), format=form, options=options) as container:
            streams = [one for one in container.streams if one.type == "subtitle"]
            found = _captions(container, streams[0]) if streams else None
    except av.error.FFmpegError:
        return None  # the video is none the worse for it
    return None if found is None else Subtitles(found[0], name, None, found[1])


def _captions(container: InputContainer, stream: Any) -> tuple[str, float] | None:
    av = libav()
    lines: list[str] = []
    seconds, length = 0.0, 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or length > SUBTITLE_CHARACTERS:
                continue
            line = " ".join(_texts(stream.codec_context.decode2(packet)))
            if line:
                lines.append(line)
                length += len(line) + 1
                seconds += float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
    except av.error.FFmpegError:
        pass  # what was read until there counts
    return ("\n".join(lines)[:SUBTITLE_CHARACTERS], seconds) if lines else None


def _texts(subtitles: Iterable[Any] | None) -> list[str]:
    found = []
    for one in subtitles or ():
        raw = getattr(one, "dialogue", None) or getattr(one, "text", None) or b""
        text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else str(raw)
        plain = " ".join(_MARKUP.sub("", _LINE_BREAK.sub(" ", text)).split())
        if plain:
            found.append(plain)
    return found
