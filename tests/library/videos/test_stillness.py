"""Frozen stretches and slides, in clips that are encoded with few bits, and what only looks like them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.library.videos.clips import Image as Pixels
from tests.library.videos.clips import moving

from modelmill.videos.defects import encoded
from modelmill.videos.limits import VideoLimits
from modelmill.videos.measuring import measure
from modelmill.videos.requests import VideoMeasureOptions
from modelmill.videos.sources import open_source

pytest.importorskip("av")

OPTIONS = VideoMeasureOptions(sound=False, measures=("exposure",)).model_dump(mode="json")
SIZE = (320, 240)
RATE = 25.0


def measured(frame: Callable[[int], Pixels], count: int = 100, **encoder: str) -> dict[str, Any]:
    content = encoded([frame(number) for number in range(count)], RATE, "libx264", {"crf": "30"} | encoder)
    with open_source({"content": content}, VideoLimits()) as source:
        (row,) = measure(source, VideoLimits(), OPTIONS)
    return row


def natural(seed: int) -> Pixels:
    """A picture with detail at all sizes, and noise, as a camera takes it."""
    random = np.random.default_rng(seed)
    total = np.zeros((SIZE[1] + 80, SIZE[0] + 80, 3))
    for cells in (4, 8, 16, 40, 120):
        small = Image.fromarray(random.integers(0, 255, (cells, cells, 3), np.uint8))
        total += np.asarray(small.resize((SIZE[0] + 80, SIZE[1] + 80), Image.Resampling.BICUBIC), float)
    return np.clip(total / 5 + random.normal(0, 4, total.shape), 0, 255).astype(np.uint8)


def moves(picture: Pixels, number: int, speed: float = 1.0) -> Pixels:
    left = round(40 + 38 * np.sin(number * speed / 12))
    return np.ascontiguousarray(picture[40 : 40 + SIZE[1], left : left + SIZE[0]])


def stretches(row: dict[str, Any], name: str = "frozen") -> list[tuple[float, float]]:
    return list(zip(row[f"{name}_starts"], row[f"{name}_ends"], strict=True))


@pytest.mark.parametrize("encoder", [{}, {"g": "12"}, {"crf": "24", "preset": "veryfast"}])
def test_a_freeze_is_one_stretch_whatever_the_encoder_refines(encoder: dict[str, str]) -> None:
    picture = natural(1)
    row = measured(lambda number: moves(picture, 30 if 30 <= number < 65 else number), **encoder)
    ((start, end),) = stretches(row)
    assert (start, end) == pytest.approx((1.2, 2.6), abs=0.13)
    assert row["slideshow"] == 0


def test_what_moves_in_a_corner_does_not_stand_still() -> None:
    picture = moves(natural(2), 0)

    def frame(number: int) -> Pixels:
        """A small lamp goes on and off, and moves: a thousandth of the picture."""
        found = picture.copy()
        left = 280 + 2 * (number // 4 % 6)
        found[20:28, left : left + 8] = 250
        return found

    row = measured(frame, crf="24")
    assert max((end - start for start, end in stretches(row)), default=0) < 0.5


def test_where_there_is_nothing_to_see_nothing_stands_still() -> None:
    picture = natural(3)

    def bright(number: int) -> Pixels:
        """So bright that next to nothing is left."""
        return np.minimum(moves(picture, number) * 6.0 + 80, 255).astype(np.uint8)

    row = measured(bright)
    assert np.median(row["bright_share"]) > 0.97
    assert (stretches(row), row["slideshow"]) == ([], 0)
    white = measured(lambda number: np.full((SIZE[1], SIZE[0], 3), 255, np.uint8))
    assert stretches(white) == []


def test_slow_fades_lead_from_slide_to_slide() -> None:
    slides = [moves(natural(seed), 0).astype(float) for seed in range(4, 7)]

    def frame(number: int, length: int = 23, fade: int = 20) -> Pixels:
        slide, inside = divmod(number, length + fade)
        part = max(0.0, (inside - length + 1) / (fade + 1)) if slide < 2 else 0.0
        slide = min(slide, 2)
        return (slides[slide] * (1 - part) + slides[min(slide + 1, 2)] * part).astype(np.uint8)

    row = measured(frame, 109)
    assert row["slideshow"] > 0.9


def test_a_fade_through_black_leads_to_the_next_slide() -> None:
    slides = [moves(natural(seed), 0) for seed in (7, 8)]

    def frame(number: int) -> Pixels:
        light = np.clip((abs(number - 50) - 3) / 12, 0, 1)
        return (slides[number >= 50] * light).astype(np.uint8)

    row = measured(frame)
    assert row["slideshow"] > 0.9


def test_a_scene_that_stands_still_at_times_is_no_slideshow() -> None:
    picture = natural(9)

    def frame(number: int) -> Pixels:
        still, inside = divmod(number, 50)  # a second of standing, a second of moving
        return moves(picture, 25 * still + max(0, inside - 25))

    row = measured(frame, 125)
    assert len(stretches(row)) == 3
    assert row["slideshow"] == 0


def test_pictures_that_move_slowly_are_no_slides() -> None:
    scenes = [moving(seed, SIZE) for seed in range(3)]
    row = measured(lambda number: scenes[number // 34](number // 2))
    assert (stretches(row), row["slideshow"]) == ([], 0)


def test_a_page_that_stands_still_is_frozen() -> None:
    page = Image.new("RGB", SIZE, (245, 245, 240))
    for line in range(11):
        words = "A page of some text, as one reads it"
        ImageDraw.Draw(page).text((10, 6 + 20 * line), words, 20, font_size=16)
    row = measured(lambda number: np.asarray(page))
    assert stretches(row) == [(0.0, pytest.approx(4.0))]
