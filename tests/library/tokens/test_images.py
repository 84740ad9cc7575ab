"""Images as pixels: what is decoded and how, and what is refused."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from modelmill.errors import ModelError
from modelmill.tokens.contents import CONTENTS, content_of
from modelmill.tokens.images import FORMATS, ImageInput, ImageReader, UnreadableImageError, decoded

IMAGES, TEXTS = CONTENTS["image"], CONTENTS["text"]
HALF = (0.5, 0.5, 0.5)


def written(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def bars(width: int = 6, height: int = 4) -> Image.Image:
    """Return an image whose left half is red and whose right half is blue."""
    image = Image.new("RGB", (width, height), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, width // 2, height))
    return image


def test_a_row_has_all_of_red_before_green_before_blue() -> None:
    settings = ImageInput(height=2, width=4, resampling="nearest", mean=HALF, spread=HALF)
    tokens = ImageReader(settings).encode([written(bars()), written(Image.new("RGB", (9, 9), (1, 2, 3)))])
    assert tokens.lengths.tolist() == [24, 24] == [settings.numbers] * 2
    assert tokens.values.dtype == np.uint8
    first = tokens.raw(0).reshape(3, 2, 4)
    assert first[0].tolist() == [[255, 255, 0, 0]] * 2
    assert first[1].max() == 0
    assert first[2].tolist() == [[0, 0, 255, 255]] * 2
    assert [set(channel.ravel().tolist()) for channel in tokens.raw(1).reshape(3, 2, 4)] == [{1}, {2}, {3}]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_decoded(kind: str) -> None:
    assert decoded(written(Image.new("RGB", (5, 3), (200, 100, 50)), kind)).size == (5, 3)


def test_photos_stand_upright_and_16_bits_become_8() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    assert decoded(written(bars(6, 4), "JPEG", exif=turned)).size == (4, 6)
    deep = Image.fromarray(np.array([[0, 65535], [32768, 256]], np.uint16))
    assert np.asarray(decoded(written(deep)))[..., 0].tolist() == [[0, 255], [128, 1]]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb() -> bytes:
    """Return a PNG file of 60 bytes that declares 20,000 by 20,000 pixels."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def test_what_is_no_image_is_refused_with_the_reason() -> None:
    whole = written(bars(200, 200))
    for content, said in (
        (b"", "a whole file of the kind PNG"),
        (b"no image", "a whole file of the kind PNG"),
        (whole[:100], "a whole file of the kind PNG"),
        (bomb(), "50,000,000 pixels|DecompressionBomb"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a whole file of the kind PNG"),
    ):
        with pytest.raises(UnreadableImageError, match=said):
            decoded(content)
    settings = ImageInput(height=2, width=2, mean=HALF, spread=HALF)
    with pytest.raises(UnreadableImageError) as error:
        ImageReader(settings).encode([whole, whole[:100]])
    assert error.value.row == 1


def test_images_come_in_base64() -> None:
    content = written(bars())
    text = base64.b64encode(content).decode()
    assert IMAGES.of_json(text) == content == IMAGES.of_json(f"data:image/png;base64,{text}")
    assert IMAGES.of_json(None) is None
    assert IMAGES.of_json("") is None
    for value, said in (
        (3, "an image is null, or its file in base64; got 3"),
        ("§", "an image is null, or its file in base64"),
        (base64.b64encode(b"abc").decode(), "a whole file"),
    ):
        with pytest.raises(ValueError, match=said):
            IMAGES.of_json(value)


def test_what_can_be_read_is_told_from_what_cannot() -> None:
    assert IMAGES.readable(written(bars()))
    assert not any(map(IMAGES.readable, (None, b"", b"abc")))
    assert IMAGES.problem("a text") == "an image is bytes, not a text"
    assert [TEXTS.readable(one) for one in ("a", " \u00a0", None)] == [True, False, False]
    assert TEXTS.problem(b"abc") == "a text is a string or null; got 3 bytes"
    assert IMAGES.fits(pa.binary())
    assert not IMAGES.fits(pa.string())
    assert IMAGES.shown(b"abc", limit=40) == "image of 3 bytes, SHA-256 ba7816bf8f01cf"


def test_a_folder_says_what_it_reads(tmp_path: Path) -> None:
    assert content_of(tmp_path).kind == "text"
    settings = ImageInput(height=2, width=2, mean=HALF, spread=HALF)
    settings.save(tmp_path)
    assert content_of(tmp_path).kind == "image"
    assert ImageInput.load(tmp_path) == settings
    (tmp_path / "image.json").write_text('{"height": 0}')
    with pytest.raises(ModelError, match=r"image\.json must say how images are read"):
        ImageInput.load(tmp_path)
