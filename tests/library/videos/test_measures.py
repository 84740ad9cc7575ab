"""Measures of clips that are made to have known values."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.library.videos.clips import Image as Pixels
from tests.library.videos.clips import changing_size, moving, write_frames

from modelmill.videos import pictures, stretches
from modelmill.videos.borders import Borders
from modelmill.videos.frames import chosen, extract
from modelmill.videos.limits import VideoLimits
from modelmill.videos.measuring import GROUPS, measure
from modelmill.videos.perceptual_hash import distance, perceptual_hash
from modelmill.videos.probing import probe
from modelmill.videos.requests import VideoMeasureOptions
from modelmill.videos.scaling import Scaler
from modelmill.videos.sources import open_source
from modelmill.videos.stills import TAG, Stills, source_width

pytest.importorskip("av")

OPTIONS = VideoMeasureOptions(most=100, details=8).model_dump()


def measured(path: Path, **more: Any) -> dict[str, Any]:
    with open_source({"path": str(path)}, VideoLimits()) as source:
        (row,) = measure(source, VideoLimits(), OPTIONS | more)
    return row


def framed(picture: Pixels, top: int, left: int) -> Pixels:
    found = np.zeros_like(picture)
    height, width = picture.shape[:2]
    found[top : height - top, left : width - left] = picture[top : height - top, left : width - left]
    return found


@pytest.mark.parametrize(
    ("top", "left", "kind"), [(0, 0, "none"), (24, 0, "letterbox"), (0, 40, "pillarbox"), (16, 32, "both")]
)
def test_borders_have_their_box(tmp_path: Path, top: int, left: int, kind: str) -> None:
    scene = moving(1, (320, 240))
    row = measured(
        write_frames(tmp_path / "a.mp4", (framed(scene(number), top, left) for number in range(25)))
    )
    assert row["border"] == kind
    assert row["border_box"] == pytest.approx([left, top, 320 - left, 240 - top], abs=1)


def test_a_stretch_ends_where_the_picture_changes_its_size() -> None:
    scene = moving(1, (160, 120))
    black = [np.zeros((240, 320, 3), np.uint8)] * 50
    content = changing_size([black, map(scene, range(50))])
    with open_source({"content": content}, VideoLimits()) as source:
        (row,) = measure(source, VideoLimits(), OPTIONS)
    assert (row["black_starts"], row["black_ends"]) == ([0.0], [pytest.approx(2.0, abs=0.05)])
    assert (row["border"], row["border_box"], row["border_share"]) == ("none", [0.0, 0.0, 160.0, 120.0], 0.0)


def test_borders_are_those_of_one_size() -> None:
    large, small = moving(1, (320, 240)), moving(2, (160, 120))
    for parts in ([large, small], [small, large]):
        content = changing_size([map(scene, range(50)) for scene in parts])
        with open_source({"content": content}, VideoLimits()) as source:
            (row,) = measure(source, VideoLimits(), OPTIONS)
        assert (row["border"], row["border_share"]) == ("none", 0.0)


def test_what_settles_that_there_are_no_borders_is_the_last_edge() -> None:
    borders, dark = Borders(), np.zeros((60, 80), np.uint8)
    bright, beside, within = (np.copy(dark) for _ in range(3))
    bright[:, 2:], beside[20:, :], within[10:50, 8:72] = 200, 200, 200
    for picture, settled in ((dark, False), (within, False), (bright, False), (beside, True), (within, True)):
        borders.see(picture)
        assert borders.settled == settled
    assert borders.box() == [0, 0, 80, 60]


def test_one_scaler_gives_the_pixels_of_each_frame_by_itself() -> None:
    import av

    scaler, random = Scaler(), np.random.default_rng(0)
    for width, height in ((480, 270), (161, 99), (1280, 720), (480, 270)):
        for form in ("yuv420p", "rgb24", "yuvj444p", "gray"):
            noise = random.integers(0, 255, (height, width, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, "rgb24").reformat(format=form)
            small = min(320, width), max(2, round(height * min(320, width) / width))
            alone = frame.reformat(*small, "rgb24", interpolation="AREA")
            assert (scaler.picture(frame) == alone.to_ndarray()).all()
            assert (scaler.grey(frame) == frame.reformat(format="gray").to_ndarray()).all()


def test_long_tags_are_json_all_the_same(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata.update({f"tag{number}": "x" * 5000 for number in range(9)})
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        picture = np.zeros((64, 64, 3), np.uint8)
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    with open_source({"path": str(tmp_path / "a.mkv")}, VideoLimits()) as source:
        (row,) = probe(source, VideoLimits(), {})
    tags = json.loads(row["tags"])
    assert len(row["tags"]) <= 4000
    assert tags["ENCODER"].startswith("Lavf")
    assert (tags["TAG0"], "TAG8" in tags) == ("x" * 1000, False)


def test_frozen_and_black_stretches_have_their_times(tmp_path: Path) -> None:
    scene = moving(2, (160, 120))

    def frame(number: int) -> Pixels:
        if number >= 75:
            return np.zeros((120, 160, 3), np.uint8)
        return scene(25 if 25 <= number < 50 else number)

    row = measured(write_frames(tmp_path / "a.mp4", map(frame, range(100))))
    (start,), (end,) = row["frozen_starts"][:1], row["frozen_ends"][:1]
    assert (start, end) == pytest.approx((1.0, 2.0), abs=0.1)
    assert (row["black_starts"], row["black_ends"]) == ([pytest.approx(3.0)], [pytest.approx(4.0, abs=0.05)])
    times, black = np.array(row["times"]), np.array(row["black"])
    assert black[times >= 3] == pytest.approx(1.0, abs=0.05)
    assert not black[times < 3].any()
    assert row["slideshow"] == 0


@pytest.mark.parametrize("fade", [0, 12])
def test_a_slideshow_is_one(tmp_path: Path, fade: int) -> None:
    slides = [moving(seed, (160, 120))(0).astype(float) for seed in range(4)]

    def frame(number: int) -> Pixels:
        slide, inside = divmod(number, 40)
        part = max(0.0, (inside - (39 - fade)) / (fade + 1)) if slide < 3 else 0.0
        later = slides[min(slide + 1, 3)]
        return (slides[slide] * (1 - part) + later * part).astype(np.uint8)

    row = measured(write_frames(tmp_path / "a.mp4", map(frame, range(160))))
    assert row["slideshow"] > 0.85


def test_sound_and_silence(tmp_path: Path) -> None:
    scene = moving(3)
    loud = measured(write_frames(tmp_path / "a.mp4", map(scene, range(50)), sound=True))
    assert loud["loudness"] == pytest.approx(-13.5, abs=3)  # a tone with an amplitude of 0.3
    assert loud["silent_share"] == 0
    none = measured(write_frames(tmp_path / "b.mp4", map(scene, range(25))))
    assert none["loudness"] is None
    assert none["silent_share"] is None


def test_an_overlay_is_found_where_the_picture_moves(tmp_path: Path) -> None:
    scene = moving(4, (320, 240))

    def frame(number: int, speed: int) -> Pixels:
        picture = scene(number * speed).copy()
        picture[20:68, 240:300] = 20
        picture[26:62:3, 246:294] = 240
        picture[190:230, 30:80] = 20  # a smaller one: no part of the scene that stays
        picture[194:226:3, 34:76] = 240
        return picture

    moves = measured(write_frames(tmp_path / "a.mp4", (frame(number, 5) for number in range(100))))
    left, top, right, bottom = moves["overlay_box"]
    assert left <= 246
    assert top <= 26
    assert right >= 294
    assert bottom >= 62
    assert moves["overlay_share"] < 0.15
    still = measured(write_frames(tmp_path / "b.mp4", (frame(number, 0) for number in range(100))))
    assert (still["overlay_share"], still["overlay_box"]) == (None, None)
    clean = measured(write_frames(tmp_path / "c.mp4", (scene(number * 5) for number in range(100))))
    assert clean["overlay_share"] == 0


def test_what_stays_in_a_scene_that_stands_still_in_part_is_no_overlay(tmp_path: Path) -> None:
    scene = moving(4, (320, 240))
    sign = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 2, (6, 12)) * 220, 4, 0), 4, 1)

    def frame(number: int, left: int) -> Pixels:
        """A sign among what stands still: the left part of the picture; the right one moves."""
        picture = scene(number * 5).copy()
        picture[:, :120] = scene(0)[:, :120]
        picture[100:124, left : left + 48] = sign[:, :, None]
        return picture

    for left in (20, 220):  # beside what moves it is no overlay either: the camera stands still
        seen = measured(write_frames(tmp_path / "a.mp4", (frame(number, left) for number in range(100))))
        assert (seen["overlay_share"], seen["overlay_box"]) == (None, None)

    def lit(number: int) -> Pixels:
        """A scene that keeps its edges, but not its light."""
        return (scene(0) * (0.3 + 0.7 * (number % 25) / 25)).astype(np.uint8)

    light = measured(write_frames(tmp_path / "c.mp4", map(lit, range(100))))
    assert not light["overlay_share"]


def test_only_what_is_asked_for_is_measured(tmp_path: Path) -> None:
    clip = write_frames(tmp_path / "a.mp4", map(moving(1, (160, 120)), range(50)))
    whole, some = measured(clip), measured(clip, measures=["exposure", "borders"])
    same = {"times", "brightness", "contrast", "dark_share", "bright_share", "black", "frozen", "border_box"}
    assert {name: whole[name] for name in same} == {name: some[name] for name in same}
    asked = {name for group in ("exposure", "borders") for name in GROUPS[group]}
    left_out = {name for names in GROUPS.values() for name in names if whole[name] is not None} - asked
    assert {name for name, value in some.items() if value is None and whole[name] is not None} == left_out
    assert measured(clip, measures=["hashes"])["hashes"] == whole["hashes"]  # without the borders, as ever


def test_lines_of_text_take_a_share_of_the_picture() -> None:
    def page(lines: int) -> np.ndarray:
        image = Image.new("L", (320, 240), 60)
        for line in range(lines):
            words = "ORDER NOW FREE SALE TODAY"
            ImageDraw.Draw(image).text((6, 6 + 28 * line), words, fill=250, font_size=20)
        return np.asarray(image, np.float32)

    shares = [pictures.text_share(page(lines)) for lines in (0, 1, 4, 8)]
    assert shares[0] == 0
    assert 0.02 < shares[1] < 0.1
    assert shares[2] > 3 * shares[1]
    assert shares[3] > 0.25
    grid = np.tile(np.arange(320, dtype=np.float32) // 40 * 30, (240, 1))  # edges of one sign only
    assert pictures.text_share(grid) == 0
    assert pictures.text_share(np.zeros((4, 4), np.float32)) == 0


def test_stills_are_a_picture_of_each_shot(tmp_path: Path) -> None:
    scenes = [moving(seed, (160, 120)) for seed in range(3)]
    clip = write_frames(tmp_path / "a.mp4", (scenes[number // 25](number) for number in range(75)))
    content = measured(clip, stills=80)["stills"]
    options = {"frames_per_second": 2.0, "every_seconds": 10.0, "most": 64, "width": 320}
    with open_source({"content": content}, VideoLimits()) as source:
        rows = extract(source, VideoLimits(), options)
    assert [row["time"] for row in rows] == pytest.approx([0.5, 1.5, 2.5], abs=0.15)
    assert [(row["shot"], row["width"], row["height"]) for row in rows] == [(n, 80, 60) for n in range(3)]
    for row, scene in zip(rows, scenes, strict=True):
        picture = np.asarray(Image.open(io.BytesIO(row["jpeg"])).convert("RGB"), float)
        small = np.asarray(Image.fromarray(scene(round(row["time"] * 25))).resize((80, 60)), float)
        assert np.abs(picture - small).mean() < 20  # another scene: 50
        assert abs(picture.mean() - small.mean()) < 3
    with open_source({"content": content}, VideoLimits()) as source:
        (few,) = extract(source, VideoLimits(), options | {"most": 1})
    assert few["time"] == rows[0]["time"]
    long = measured(write_frames(tmp_path / "b.mp4", map(scenes[0], range(500))), stills=80)["stills"]
    with open_source({"content": long}, VideoLimits()) as source:
        parts = extract(source, VideoLimits(), options)
    assert [row["time"] for row in parts] == pytest.approx([5, 15], abs=1)


def test_stills_of_many_shots_are_spread_over_all_of_them() -> None:
    import av

    stills = Stills(32)
    for number in range(200):
        frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), number, np.uint8), "rgb24")
        stills.see(float(number), frame)
        stills.cut(number + 0.5)
    with av.open(io.BytesIO(stills.found(200.0) or b"")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == [4.0 * place for place in range(50)]


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("640", 640),
        ("0", None),
        ("-5", None),
        ("6e2", None),
        ("9" * 5000, None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_the_tag_of_stills_may_be_anybodys(text: str, width: int | None) -> None:
    assert source_width({TAG: text}) == width


def test_blur_noise_and_colour_are_ordered() -> None:
    random = np.random.default_rng(0)
    sharp = random.integers(0, 255, (30, 40)).repeat(8, 0).repeat(8, 1).astype(np.float32)
    kernel = np.ones(7) / 7
    soft = np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), 1, sharp)
    soft = np.apply_along_axis(lambda column: np.convolve(column, kernel, "same"), 0, soft).astype(np.float32)
    blurs = [pictures.blur(sharp), pictures.blur(soft)]
    assert blurs[0] is not None
    assert blurs[1] is not None
    assert blurs[0] + 0.2 < blurs[1]
    assert pictures.sharpness(sharp) > 10 * pictures.sharpness(soft)
    flat = np.full((200, 200), 128, np.float32) + random.normal(0, 5, (200, 200)).astype(np.float32)
    assert pictures.noise(flat) == pytest.approx(5, rel=0.05)
    assert pictures.blur(np.full((100, 100), 9, np.float32)) is None
    margin = np.zeros((40, 100), np.float32)
    margin[:, :3] = 200
    assert pictures.blur(margin) is None
    assert [pictures.blur_window(width) for width in (16, 176, 350, 480, 1920)] == [5, 5, 7, 9, 9]
    grey = np.full((8, 8, 3), 90, np.uint8)
    assert pictures.colourfulness(grey) == 0
    assert pictures.colourfulness(moving(0)(0)) > 20


def test_hashes_of_copies_are_near() -> None:
    picture = Image.fromarray(moving(5, (320, 240))(0))
    other = Image.fromarray(moving(6, (320, 240))(0))
    small = picture.resize((160, 120))
    assert distance(perceptual_hash(picture), perceptual_hash(small)) <= 4
    assert distance(perceptual_hash(picture), perceptual_hash(picture.point(lambda value: value * 0.8))) <= 4
    assert distance(perceptual_hash(picture), perceptual_hash(other)) > 10


def test_frames_are_chosen_in_the_middle_of_the_parts_of_shots() -> None:
    times = [number / 2 for number in range(60)]
    options = {"every_seconds": 10.0, "most": 10}
    found = chosen(times, [(0.0, 4.0), (4.0, 28.0), (28.0, 28.1)], options)
    assert [times[place] for place in found] == [2.0, 10.0, 22.0, 28.0]
    assert len(chosen(times, [(0.0, 30.0)], {"every_seconds": 0.5, "most": 7})) == 7


def test_shots_and_stretches() -> None:
    assert stretches.shots([], 3.0) == [(0.0, 3.0)]
    assert stretches.shots([1.0, 2.0], 3.0) == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert stretches.slideshow([], 4.0) == stretches.slideshow([], 0.0) == 0
    assert stretches.slideshow([(0.0, 1.0), (2.0, 4.0)], 4.0) == 0.75
    assert stretches.without([(0.0, 4.0), (5.0, 6.0)], [(1.0, 2.0), (3.0, 5.5)]) == [
        (0.0, 1.0),
        (2.0, 3.0),
        (5.5, 6.0),
    ]
    assert stretches.share_still([0.0, 0.0, 5.0]) == 0.5
