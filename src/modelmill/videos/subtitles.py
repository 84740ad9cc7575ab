"""Subtitles as text: the most explicit thing that a video says of its content."""

from __future__ import annotations

import codecs
import contextlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelmill.videos.containers import libav
from modelmill.videos.limits import SUBTITLE_CHARACTERS, SUBTITLE_FORMATS
from modelmill.videos.sources import Source

if TYPE_CHECKING:
    from av.container import InputContainer

_DRAWING = re.compile(r"\{[^}]*\\p[1-9][^}]*\}.*?(?:\{[^}]*\\p0[^}]*\}|\Z)", re.DOTALL)
"""Points of a drawing in ASS."""
_MARKUP = re.compile(r"\{[^}]*\}|</?[A-Za-z][^<>]*>|</?\d[\d:.]*>")
"""Styles; tags of HTML and WebVTT, its times among them. ``1 < 2`` is none."""
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
    """Time on which there is a caption; where there are several at once, it counts once."""


def read_subtitles(container: InputContainer, source: Source) -> Subtitles | None:
    """Read the subtitles of a video: the embedded ones, else those of the file beside it.

    :param container: a container that has just been opened; it is read to the end.
    :param source: the video, with what lies beside it.
    :return: the subtitles, of several the first that are no pictures; None if there are none.
    """
    streams = [one for one in container.streams if one.type == "subtitle" and one.codec_context is not None]
    for stream, captions in _captions(container, streams):
        if captions.lines:
            return Subtitles(captions.text, "embedded", stream.language, captions.seconds)
    if source.sidecar:
        return _beside(source.sidecar, source.sidecar_name)
    return None


def _beside(content: bytes, name: str) -> Subtitles | None:
    av = libav()
    options = {"format_whitelist": ",".join(SUBTITLE_FORMATS), "protocol_whitelist": "none"}
    text = decoded(content).lstrip("\ufeff")
    form = {"vtt": "webvtt"}.get(name.rsplit(".", 1)[-1].lower(), name.rsplit(".", 1)[-1].lower())
    try:
        with av.open(io.BytesIO(text.encode()), format=form, options=options) as container:
            streams = [one for one in container.streams if one.type == "subtitle"]
            found = [captions for _, captions in _captions(container, streams[:1])]
    except av.error.FFmpegError:
        return None  # the video is none the worse for it
    if not found or not found[0].lines:
        return None
    return Subtitles(found[0].text, name, None, found[0].seconds)


def decoded(content: bytes) -> str:
    """Return the text of a file of subtitles, whatever it was written in.

    :param content: the file, or its beginning.
    :return: by its byte order mark, else UTF-8, UTF-16, GB 18030 or Windows-1252: the first that fits as a
        whole. UTF-8 with damaged characters is what fits none.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, errors="replace")
    zeros = [content[place::2].count(0) for place in (0, 1)]  # of the letters of ASCII in UTF-16
    wide = ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le",) if max(zeros) > len(content) // 8 else ()
    for name in (*wide, "utf-8", "gb18030", "cp1252"):
        # The file may have been cut off in the middle of a character.
        with contextlib.suppress(UnicodeDecodeError):
            return _DECODERS[name]().decode(content)
    return content.decode("utf-8", errors="replace")


_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before that of UTF-16, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Found here: once a video is open, no file is, of Python's own neither.
_ENCODINGS = (*dict(_MARKS).values(), "gb18030", "cp1252")
_DECODERS = {name: codecs.getincrementaldecoder(name) for name in _ENCODINGS}


@dataclass
class _Captions:
    """What a stream of subtitles says."""

    lines: list[str] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)
    length: int = 0

    @property
    def text(self) -> str:
        return "\n".join(self.lines)[:SUBTITLE_CHARACTERS]

    @property
    def seconds(self) -> float:
        """Time on which there is a caption."""
        found, reached = 0.0, -math.inf
        for start, end in sorted(self.times):
            found += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return found

    def add(self, packet: Any, line: str) -> None:
        """Take a caption."""
        self.lines.append(line)
        self.length += len(line) + 1
        if packet.time_base and packet.pts is not None:
            start = float(packet.pts * packet.time_base)
            self.times.append((start, start + float((packet.duration or 0) * packet.time_base)))


def _captions(container: InputContainer, streams: Sequence[Any]) -> list[tuple[Any, _Captions]]:
    """Read streams of subtitles, in their order."""
    av = libav()
    found = {stream.index: (stream, _Captions()) for stream in streams}
    try:
        for packet in container.demux(streams) if streams else ():
            if packet.size == 0:  # the end of a stream, which does not say of which
                continue
            stream, captions = found[packet.stream_index]
            if captions.length > SUBTITLE_CHARACTERS:
                continue
            line = " ".join(_texts(stream.codec_context.decode2(packet)))
            if line:
                captions.add(packet, line)
    except av.error.FFmpegError:
        pass  # what was read until there counts
    return list(found.values())


def _texts(subtitles: Iterable[Any] | None) -> list[str]:
    found = []
    for one in subtitles or ():
        raw = getattr(one, "dialogue", None) or getattr(one, "text", None) or b""
        text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else str(raw)
        text = _DRAWING.sub("", text)
        plain = " ".join(_MARKUP.sub("", _LINE_BREAK.sub(" ", text)).split())
        if plain:
            found.append(plain)
    return found
