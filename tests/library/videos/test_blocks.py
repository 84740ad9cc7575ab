"""Blockiness: the steps on a grid beside the others."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from modelmill.videos.blocks import blockiness

pytest.importorskip("av")


def textured(size: tuple[int, int] = (320, 240), seed: int = 0) -> np.ndarray:
    """Return a smooth picture with some noise: ``(height, width)``."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(40, 215, (12, 16), np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    return np.clip(smooth + random.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8)


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=quality)
    with Image.open(content) as image:
        return np.asarray(image)


def by_libav(picture: np.ndarray) -> float:
    """Return what ``blockdetect`` says of the first frame that it sees."""
    import av

    graph = av.filter.Graph()
    start = graph.add_buffer(
        width=picture.shape[1], height=picture.shape[0], format="gray", time_base=Fraction(1, 25)
    )
    block, end = graph.add("blockdetect"), graph.add("buffersink")
    start.link_to(block)
    block.link_to(end)
    graph.configure()
    graph.vpush(av.VideoFrame.from_ndarray(picture, "gray"))
    return float(graph.vpull().metadata["lavfi.block"])


@pytest.mark.parametrize("size", [(320, 240), (161, 99), (1000, 701), (64, 64)])
def test_it_is_what_libav_says_of_a_first_frame(size: tuple[int, int]) -> None:
    picture = textured(size)
    for quality in (95, 40, 10):
        shown = compressed(picture, quality)
        assert blockiness(shown) == pytest.approx(by_libav(shown), rel=0.02)


def test_fewer_bits_are_more_blocks() -> None:
    found = [blockiness(compressed(textured(), quality)) or 0.0 for quality in (95, 30, 5)]
    assert 0.5 < (blockiness(textured()) or 0.0) < 1.6
    assert found[0] < found[1] < found[2]
    assert found[2] > 5


def test_either_direction_and_blocks_of_another_size_count() -> None:
    picture = textured((480, 320))
    for period in (4, 8, 16):
        columns = picture.astype(np.int16)
        columns += (np.arange(480) // period % 2 * 12).astype(np.int16)
        across = np.clip(columns, 0, 255).astype(np.uint8)
        down = np.ascontiguousarray(across.T)
        assert blockiness(across) > 1.5 * (blockiness(picture) or 0.0)  # type: ignore[operator]
        assert blockiness(down) == pytest.approx(blockiness(across))


def test_a_frame_does_not_change_what_is_said_of_the_next_one() -> None:
    one, other = compressed(textured(), 5), compressed(textured(seed=1), 95)
    alone = blockiness(other)
    blockiness(one)
    assert blockiness(other) == alone


def test_plain_and_drawn_pictures_have_a_number_and_small_ones_none() -> None:
    assert blockiness(np.full((120, 160), 90, np.uint8)) == 0
    board = (np.indices((128, 160)) // 8).sum(0) % 2 * 200  # nothing beside the grid
    drawn = blockiness(board.astype(np.uint8))
    assert drawn is not None
    assert 100 < drawn < 1e7
    assert blockiness(np.zeros((63, 640), np.uint8)) is None
