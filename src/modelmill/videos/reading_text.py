"""Text that is seen in a video: a frame of each shot, read by RapidOCR with the models that its wheel has."""

from __future__ import annotations

import functools
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.system.imports import needing_extra
from modelmill.videos import stretches
from modelmill.videos.frames import chosen, spread
from modelmill.videos.limits import VideoLimits
from modelmill.videos.perceptual_hash import jpeg
from modelmill.videos.scaling import Picture, Scaler
from modelmill.videos.sources import Source
from modelmill.videos.watching import Sampling, watch

if TYPE_CHECKING:
    from av import VideoFrame

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the video."""

_QUALITY = 92
_SIDE = 640
"""Longest side at which text is looked for, in pixels. RapidOCR's own default enlarges small frames until the
shorter side has 736, which takes four times as long."""


def read_text(source: Source, limits: VideoLimits, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the text in frames of a video.

    The frames are those in the middle of the parts of each shot. Detection and recognition: PP-OCR (Du and
    others, PP-OCR: a practical ultra lightweight OCR system, 2020, in version 6).

    :param source: the video.
    :param limits: what it may be.
    :param options: ``frames_per_second``: of the frames to choose from; ``every_seconds``: a shot has a frame
        for each so many seconds, one at least; ``most``: frames of a video at most; ``width``: of the
        pictures that are read; ``score``: confidence of a text at least; ``until``: phrases, of which the
        first that is read ends it.
    :return: one row: see ``READ`` in :mod:`modelmill.videos.tasks`.
    :raises RefusedVideoError: if no frame can be decoded.
    """
    from PIL import Image

    samples, scaler = list[tuple[float, bytes]](), Scaler()

    def look(time: float, frame: VideoFrame, _detail: bool) -> None:
        samples.append((time, jpeg(Image.fromarray(scaler.picture(frame, options["width"])), _QUALITY)))

    seen = watch(source, limits, Sampling(frames_per_second=options["frames_per_second"]), look)
    shots = stretches.shots(seen.cuts, seen.end)
    found = _Found()
    if seen.source_width is None:
        places = chosen([time for time, _ in samples], shots, options)
    else:
        places = spread(len(samples), options["most"])
    for place in places:
        time, content = samples[place]
        with Image.open(io.BytesIO(content)) as image:
            picture = np.asarray(image.convert("RGB"), np.uint8)
        found.add(round(time, 5), picture, seen.source_width or seen.width, options["score"])
        if options["until"] and says(found.text, options["until"]):
            break
    return [found.row()]


class _Found:
    """What was read of a video."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.areas: list[float] = []
        self.texts: list[tuple[float, str, Box, float]] = []

    def add(self, time: float, picture: Picture, width: int, least: float) -> None:
        """Read a frame."""
        lines = [line for line in recognised(picture) if line[2] >= least]
        scale = width / picture.shape[1]
        covered = sum((box[2] - box[0]) * (box[3] - box[1]) for _, box, _ in lines)
        self.times.append(time)
        self.areas.append(round(min(1.0, covered / (picture.shape[0] * picture.shape[1])), 5))
        for text, (left, top, right, bottom), score in lines:
            box = (left * scale, top * scale, right * scale, bottom * scale)
            self.texts.append((time, text, box, round(score, 3)))

    @property
    def text(self) -> str:
        """Each line once, however many frames it stands in."""
        return "\n".join(dict.fromkeys(text for _, text, _, _ in self.texts))

    def row(self) -> dict[str, Any]:
        """Return the row."""
        return {
            "text": self.text,
            "texts": [text for _, text, _, _ in self.texts],
            "texts_at": [time for time, _, _, _ in self.texts],
            "text_boxes": [round(part, 1) for _, _, box, _ in self.texts for part in box],
            "text_scores": [score for _, _, _, score in self.texts],
            "text_times": self.times,
            "text_area": self.areas,
        }


def says(text: str, phrases: Sequence[str]) -> bool:
    """Return whether a text has one of some phrases, as signals of the kind ``phrases`` find them.

    :param text: the text.
    :param phrases: compared without case, in NFKC; white space stands for any; whole words only.
    :return: whether it has.
    """
    told = f" {_plain(text)} "
    return any(
        re.search(rf"(?<!{_WORD}){re.escape(plain)}(?!{_WORD})", told)
        for plain in map(_plain, phrases)
        if plain
    )


_WORD = r"[\w\x80-\U0010ffff]"
"""What is beyond ASCII may belong to a word: who is not sure reads on."""


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def recognised(picture: Picture) -> list[tuple[str, Box, float]]:
    """Read the lines of text in a picture.

    :param picture: RGB, ``(height, width, 3)``.
    :return: each line's text, its box in pixels of the picture, and its confidence, 0 to 1.
    :raises ConfigError: if RapidOCR is not installed.
    """
    found = _engine()(np.ascontiguousarray(picture[:, :, ::-1]))
    if found.boxes is None or found.txts is None:
        return []
    boxes: Sequence[Any] = [np.asarray(box, np.float64) for box in found.boxes]
    lines = []
    for text, box, score in zip(found.txts, boxes, found.scores, strict=True):
        (left, top), (right, bottom) = box.min(0), box.max(0)
        corners = (float(max(left, 0)), float(max(top, 0)), float(right), float(bottom))
        lines.append((str(text).replace("\0", ""), corners, float(score)))
    return lines


@functools.cache
def _engine() -> Any:
    """Load the models, and read a word: afterwards no file is opened any more."""
    with needing_extra("reading text in frames needs", "ocr"):
        from rapidocr import RapidOCR
    from PIL import Image, ImageDraw

    engine = RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,  # text that stands on its head is not looked for
            "Det.limit_type": "max",
            "Det.limit_side_len": _SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    picture = Image.new("RGB", (160, 64))
    ImageDraw.Draw(picture).text((16, 8), "TEXT", fill="white", font_size=40)
    engine(np.asarray(picture))
    return engine
