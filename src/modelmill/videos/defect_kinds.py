"""Known transformations of clean clips: each makes a defect whose label is exact.

A kind is a class of options, whose field ``kind`` is its name, with a method that transforms frames. Ranges
are drawn from evenly, for each clip anew.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modelmill.options import Options

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = npt.NDArray[np.uint8]
Pictures = list[Picture]
Range = tuple[float, float]

_Side = Annotated[float, Field(ge=0, le=0.45)]
"""Share of a side of the picture that is cut off at both ends: something is left between them."""
_Positive = Annotated[float, Field(gt=0)]
_Factor = Annotated[float, Field(ge=0)]
_Width = Annotated[float, Field(gt=0, le=0.9)]
_Lines = Annotated[int, Field(ge=1, le=50)]
_Crf = Annotated[int, Field(ge=0, le=63)]


@dataclass
class Made:
    """What a transformation made."""

    frames: Pictures
    parameters: dict[str, Any]
    box: list[float] | None = None
    """Where the defect is, or for borders the picture within them: left, top, right, bottom in pixels."""
    start: float | None = None
    """Seconds at which a stretch begins."""
    end: float | None = None
    encoding: dict[str, str] = field(default_factory=dict)
    """Options of the encoder."""


@dataclass(frozen=True)
class Clip:
    """A clean clip."""

    frames: Pictures
    """RGB, all of one size, even in both directions."""
    rate: float
    """Frames per second."""
    random: np.random.Generator

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames[0].shape[1], self.frames[0].shape[0]

    def draw(self, bounds: Range) -> float:
        """Draw a number."""
        return round(float(self.random.uniform(*bounds)), 4)


class Defect(Options):
    """Base of the kinds."""

    kind: str

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"a range goes up: {name} is {list(value)}")
        return self

    @abstractmethod
    def make(self, clip: Clip) -> Made:
        """Transform a clip."""


class Clean(Defect):
    """Nothing but encoding it again: the negative examples."""

    kind: Literal["clean"] = "clean"

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        return Made(clip.frames, {})


class Blur(Defect):
    """Gaussian blur."""

    kind: Literal["blur"] = "blur"
    sigma: tuple[_Positive, _Positive] = Field(
        (2.0, 5.0), description="Standard deviation in pixels, at 480 pixels of width."
    )

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        from PIL import ImageFilter

        sigma = clip.draw(self.sigma)
        kernel = ImageFilter.GaussianBlur(sigma * clip.size[0] / 480)
        frames = _each(clip.frames, lambda image: image.filter(kernel))
        return Made(frames, {"sigma": sigma})


class Border(Defect):
    """Black borders: letterbox, pillarbox or both."""

    kind: Literal["border"] = "border"
    share: tuple[_Side, _Side] = Field(
        (0.04, 0.2), description="Share of the height or width that each border takes."
    )

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        form = str(clip.random.choice(["letterbox", "pillarbox", "both"]))
        width, height = clip.size
        across = round(clip.draw(self.share) * width) if form != "letterbox" else 0
        down = round(clip.draw(self.share) * height) if form != "pillarbox" else 0
        box = (across, down, width - across, height - down)

        import PIL.Image

        def framed(image: Image) -> Image:
            found = PIL.Image.new("RGB", (width, height))
            found.paste(image.resize((box[2] - box[0], box[3] - box[1])), box[:2])
            return found

        parameters = {"form": form, "across": across, "down": down}
        return Made(_each(clip.frames, framed), parameters, box=[float(part) for part in box])


class Overlay(Defect):
    """A logo in a corner: a box with letters."""

    kind: Literal["overlay"] = "overlay"
    width: tuple[_Width, _Width] = Field((0.12, 0.25), description="Width, as a share of the picture's.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        size = clip.draw(self.width) * clip.size[0]
        width, height = round(size), min(max(12, round(size / 3)), clip.size[1])
        across, down = clip.size[0] - width, clip.size[1] - height
        left = min(8, across) if clip.random.random() < 0.5 else max(0, across - 8)
        top = min(8, down) if clip.random.random() < 0.5 else max(0, down - 8)
        box = [left, top, left + width, top + height]

        def drawn(image: Image) -> Image:
            from PIL import ImageDraw

            pen = ImageDraw.Draw(image)
            pen.rectangle(tuple(box), fill=(250, 240, 40), outline=(20, 20, 20), width=2)
            pen.text((left + 4, top + 2), "LOGO", fill=(10, 10, 90), font_size=max(8, height - 6))
            return image

        return Made(_each(clip.frames, drawn), {"width": width}, box=[float(part) for part in box])


class Text(Defect):
    """Lines of text over much of the picture."""

    kind: Literal["text"] = "text"
    lines: tuple[_Lines, _Lines] = Field((4, 8), description="Lines of text.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        lines = int(clip.random.integers(self.lines[0], self.lines[1] + 1))
        size = max(10, clip.size[1] // (lines + 4))
        words = ["ORDER", "NOW", "SALE", "FREE", "TODAY", "ONLY", "NEW", "BEST"]
        texts = [" ".join(map(str, clip.random.choice(words, 6))) for _ in range(lines)]

        def drawn(image: Image) -> Image:
            from PIL import ImageDraw

            pen = ImageDraw.Draw(image)
            for number, text in enumerate(texts):
                place = (6, (number + 1) * (size + 2))
                pen.text(place, text, fill="white", font_size=size, stroke_width=2, stroke_fill="black")
            return image

        return Made(_each(clip.frames, drawn), {"lines": lines, "size": size})


class Freeze(Defect):
    """A frame that stands for a while."""

    kind: Literal["freeze"] = "freeze"
    seconds: tuple[_Positive, _Positive] = Field((1.2, 2.0), description="How long it stands.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        start, end = _stretch(clip, clip.draw(self.seconds))
        held = [clip.frames[start]] * (end - start)
        frames = [*clip.frames[:start], *held, *clip.frames[end:]]
        return Made(frames, {}, start=start / clip.rate, end=end / clip.rate)


class Black(Defect):
    """A black stretch."""

    kind: Literal["black"] = "black"
    seconds: tuple[_Positive, _Positive] = Field((1.1, 2.0), description="How long it is black.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        start, end = _stretch(clip, clip.draw(self.seconds))
        held = [np.zeros_like(clip.frames[0])] * (end - start)
        frames = [*clip.frames[:start], *held, *clip.frames[end:]]
        return Made(frames, {}, start=start / clip.rate, end=end / clip.rate)


class Slides(Defect):
    """Still pictures with cuts or fades between them."""

    kind: Literal["slides"] = "slides"
    seconds: tuple[_Positive, _Positive] = Field((1.0, 2.0), description="How long each is shown.")
    fade: tuple[_Factor, _Factor] = Field((0.0, 0.6), description="Seconds of a fade; below 0.1 it is a cut.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        shown, fade = clip.draw(self.seconds), clip.draw(self.fade)
        length, fading = max(2, round(shown * clip.rate)), round(fade * clip.rate) if fade >= 0.1 else 0
        count = max(2, len(clip.frames) // (length + fading))
        places = np.linspace(0, len(clip.frames) - 1, count).astype(int)
        # Frames of one scene look alike: every other one is mirrored, as another picture would be.
        slides = [clip.frames[place][:, :: -1 if number % 2 else 1] for number, place in enumerate(places)]
        frames: Pictures = []
        for number, slide in enumerate(slides):
            frames += [np.ascontiguousarray(slide)] * length
            for step in range(fading if number + 1 < len(slides) else 0):
                part = (step + 1) / (fading + 1)
                frames.append((slide * (1 - part) + slides[number + 1] * part).astype(np.uint8))
        return Made(frames, {"seconds": shown, "fade": fade if fading else 0.0, "slides": count})


class Exposure(Defect):
    """Too dark, or too bright. A dark clip is not made brighter, nor a bright one darker: it may be good."""

    kind: Literal["exposure"] = "exposure"
    dark: tuple[_Factor, _Factor] = Field(
        (0.08, 0.25), description="Factor of the light where it is too dark."
    )
    bright: tuple[_Factor, _Factor] = Field(
        (2.5, 4.0), description="Factor of the light where it is too bright."
    )

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        form = str(clip.random.choice(["dark", "bright"]))
        light = float(np.mean([frame[::4, ::4].mean() for frame in clip.frames])) / 255
        if not _DIM <= light <= _LIGHT:
            form = "dark" if light < _DIM else "bright"
        factor = clip.draw(self.dark if form == "dark" else self.bright)
        frames = [np.minimum(frame * factor, 255).astype(np.uint8) for frame in clip.frames]
        return Made(frames, {"form": form, "factor": factor})


_DIM, _LIGHT = 0.25, 0.65
"""Light of clips, of 1, below which they are never made brighter, and above which never darker."""


class Crop(Defect):
    """A part of the picture, enlarged to its size."""

    kind: Literal["crop"] = "crop"
    share: tuple[_Side, _Side] = Field((0.02, 0.1), description="Share of each side that is cut off.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        share, (width, height) = clip.draw(self.share), clip.size
        left, top = round(share * width), round(share * height)
        box = (left, top, width - left, height - top)
        frames = _each(clip.frames, lambda image: image.crop(box).resize((width, height)))
        return Made(frames, {"share": share}, box=[float(part) for part in box])


class Compression(Defect):
    """Few bits: blocks and smears."""

    kind: Literal["compression"] = "compression"
    crf: tuple[_Crf, _Crf] = Field((38, 48), description="Rate factor of the encoder: 51 is the worst.")

    def make(self, clip: Clip) -> Made:
        """See :meth:`Defect.make`."""
        crf = int(clip.random.integers(self.crf[0], self.crf[1] + 1))
        return Made(clip.frames, {"crf": crf}, encoding={"crf": str(crf)})


AnyDefect = Annotated[
    Clean | Blur | Border | Overlay | Text | Freeze | Black | Slides | Exposure | Crop | Compression,
    Field(discriminator="kind"),
]


def _each(frames: Pictures, change: Callable[[Image], Image]) -> Pictures:
    import PIL.Image

    return [np.asarray(change(PIL.Image.fromarray(frame)), np.uint8) for frame in frames]


def _stretch(clip: Clip, seconds: float) -> tuple[int, int]:
    """Draw a stretch within the clip: the first frame, and the one after the last."""
    length = min(max(2, round(seconds * clip.rate)), max(2, len(clip.frames) - 4))
    start = int(clip.random.integers(1, max(2, len(clip.frames) - length)))
    return start, start + length
