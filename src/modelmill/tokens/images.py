"""Images as rows of pixels: decoded within limits, brought to one size, a number a pixel and channel.

An image is hostile input: only Pillow's decoders of :data:`FORMATS` see it, and its declared size is looked
at before its pixels are. Mean and spread, by which an encoder standardises pixels, are applied by the encoder
itself: what is cached, hashed and fed to a graph are bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from modelmill.errors import ModelError
from modelmill.options import Record
from modelmill.tokens.token_ids import Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_FILE = "image.json"
"""File of a bundle that says how images are read: :class:`ImageInput`."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What is decoded; of an animation the first picture."""
MOST_BYTES = 64 << 20
MOST_PIXELS = 50_000_000
MOST_SIDE = 2048
"""Pixels to which an image is brought, high and wide."""
CHANNELS = 3
_MOST_SETTINGS_BYTES = 1 << 16
IMAGES_AT_ONCE = 256
"""Images whose pixels are in memory at the same time: at 224 pixels 39 MB."""

Pixels = npt.NDArray[np.uint8]


class UnreadableImageError(ValueError):
    """Bytes that are no image, or one that is not decoded; the message says why."""

    def __init__(self, why: str, *, row: int = 0) -> None:
        super().__init__(why)
        self.row = row
        """Its place among the images that were to be read."""


class ImageInput(Record):
    """How images are brought to the size that an encoder reads, and by what it standardises their pixels.

    The whole image is read, whatever its shape: what lies at its edges, such as a border, is not cut off.
    """

    height: int = Field(ge=1, le=MOST_SIDE)
    width: int = Field(ge=1, le=MOST_SIDE)
    resampling: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = "bilinear"
    mean: tuple[float, float, float]
    """Of red, green and blue, from 0 to 1: subtracted before the pixels are divided by :attr:`spread`."""
    spread: tuple[float, float, float]

    @property
    def numbers(self) -> int:
        """Numbers of a row: three for each pixel."""
        return CHANNELS * self.height * self.width

    def save(self, folder: Path) -> None:
        """Write ``image.json``."""
        (folder / IMAGE_FILE).write_text(self.model_dump_json(indent=2))

    @classmethod
    def load(cls, folder: Path) -> ImageInput:
        """Read ``image.json``.

        :param folder: a bundle.
        :return: what it says.
        :raises ModelError: if it cannot be read.
        """
        try:
            with (folder / IMAGE_FILE).open("rb") as file:
                # One that is longer is cut, and so no JSON.
                return cls.model_validate_json(file.read(_MOST_SETTINGS_BYTES))
        except (OSError, ValidationError) as error:
            raise ModelError(
                f"{IMAGE_FILE} must say how images are read ({type(error).__name__})",
                got=str(folder / IMAGE_FILE),
                remedy="make the model again with modelmill",
            ) from error


def decoded(content: bytes) -> Image:
    """Decode an image, upright and in red, green and blue.

    :param content: a file of one of :data:`FORMATS`.
    :return: the image; what is transparent has the colour that the file says, and grey of 16 bits has 8.
    :raises UnreadableImageError: if it is none, is cut off, or is larger than :data:`MOST_PIXELS` or
        :data:`MOST_BYTES`.
    """
    from PIL import Image, ImageOps

    if len(content) > MOST_BYTES:
        raise UnreadableImageError(f"an image has at most {MOST_BYTES >> 20} MB; got {len(content):,} bytes")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise UnreadableImageError(f"an image has at most {MOST_PIXELS:,} pixels; got {width} x {height}")
        image.load()
        image = ImageOps.exif_transpose(image) or image
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        return image.convert("RGB")
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        why = str(error).splitlines()[0][:100] if str(error) else ""
        raise UnreadableImageError(
            f"an image is a whole file of the kind {', '.join(FORMATS)} ({type(error).__name__}: {why})"
        ) from error


def black_image() -> bytes:
    """Return a small black square as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def fitted(image: Image, to: ImageInput) -> Pixels:
    """Bring an image to the size that an encoder reads.

    :param image: in red, green and blue.
    :param to: the size, and the resampling.
    :return: ``(3, height, width)``.
    """
    from PIL import Image

    resampling = Image.Resampling[to.resampling.upper()]
    pixels: Pixels = np.asarray(image.resize((to.width, to.height), resampling))
    return pixels.transpose(2, 0, 1)


class ImageReader:
    """Brings images to the size that a model reads.

    :param settings: the size, and how.
    """

    def __init__(self, settings: ImageInput) -> None:
        self.settings = settings
        self.name = f"Pillow {metadata.version('pillow')}"
        self.dtype = np.uint8

    def encode(self, contents: Sequence[bytes]) -> Tokens:
        """Decode images.

        :param contents: files of one of :data:`FORMATS`.
        :return: a row of pixels for each, red before green before blue, :attr:`ImageInput.numbers` long.
        :raises UnreadableImageError: for the first that cannot be decoded, with its place.
        """
        rows = np.empty((len(contents), self.settings.numbers), dtype=np.uint8)
        for row, content in enumerate(contents):
            try:
                rows[row] = fitted(decoded(content), self.settings).reshape(-1)
            except UnreadableImageError as error:
                raise UnreadableImageError(str(error), row=row) from error
        return Tokens.packed(rows.reshape(-1), np.full(len(rows), self.settings.numbers, dtype=np.int64))
