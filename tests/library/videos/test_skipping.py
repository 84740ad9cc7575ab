"""What is not decoded where only some frames a second are looked at, and what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.library.videos.clips import Image as Pixels
from tests.library.videos.clips import moving, write_frames

from modelmill.videos import watching
from modelmill.videos.limits import VideoLimits
from modelmill.videos.measuring import measure
from modelmill.videos.requests import VideoMeasureOptions
from modelmill.videos.skipping import Due, Skipping
from modelmill.videos.sources import open_source

pytest.importorskip("av")

OPTIONS = VideoMeasureOptions().model_dump(mode="json")
FROM_EVERY_FRAME = {
    *("cuts", "still_share", "slideshow", "black", "frozen", "shots", "shot_seconds", "shortest_shot"),
    *(f"{name}_{what}" for name in ("black", "frozen") for what in ("seconds", "starts", "ends")),
}


def both(path: Path, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure with filters of every frame, and of the sampled ones alone."""
    found = []
    for every_frame in (True, False):
        with open_source({"path": str(path)}, VideoLimits()) as source:
            found += measure(source, VideoLimits(), OPTIONS | {"every_frame": every_frame} | more)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg2video"), ("a.webm", "libvpx")],
)
def test_the_same_frames_are_sampled_as_when_all_are_decoded(tmp_path: Path, name: str, codec: str) -> None:
    clip = write_frames(tmp_path / name, map(moving(1, (160, 120)), range(75)), codec=codec)
    whole, some = both(clip)
    assert len(whole["times"]) == 12
    assert {key: value for key, value in whole.items() if key not in FROM_EVERY_FRAME} == {
        key: value for key, value in some.items() if key not in FROM_EVERY_FRAME
    }


def test_what_no_frame_needs_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, decoded = write_frames(tmp_path / "a.mp4", map(moving(1, (160, 120)), range(100))), list[float]()
    every = watching._decoded

    def counted(*args: Any) -> Any:
        for frame in every(*args):
            decoded.append(frame.time)
            yield frame

    monkeypatch.setattr(watching, "_decoded", counted)
    whole, some = both(clip, sound=False)
    assert len(decoded) - 100 < 75
    assert decoded[100:] == sorted(decoded[100:])
    assert some["times"] == whole["times"]
    assert some["measured_seconds"] == whole["measured_seconds"] == 4


def test_stretches_are_found_to_a_sample(tmp_path: Path) -> None:
    scene = moving(2, (160, 120))

    def frame(number: int) -> Pixels:
        if number >= 88:
            return np.zeros((120, 160, 3), np.uint8)
        return scene(27 if 27 <= number < 60 else number)

    _, row = both(write_frames(tmp_path / "a.mp4", map(frame, range(125))), sound=False)
    (start,), (end,) = row["frozen_starts"][:1], row["frozen_ends"][:1]
    assert 1.08 <= start <= 1.36
    assert 2.36 <= end <= 2.68
    assert (row["black_starts"], row["black_ends"]) == ([pytest.approx(3.64, abs=0.13)], [pytest.approx(5)])
    assert max(row["black"]) == pytest.approx(1.36, abs=0.13)
    assert row["slideshow"] == 0


def test_of_stills_every_picture_is_looked_at(tmp_path: Path) -> None:
    scenes = [moving(seed, (160, 120)) for seed in range(3)]
    clip = write_frames(tmp_path / "a.mp4", (scenes[number // 25](number) for number in range(75)))
    whole, some = both(clip, stills=80)
    assert some["stills"]
    with open_source({"content": whole["stills"]}, VideoLimits()) as source:
        (again,) = measure(source, VideoLimits(), OPTIONS | {"every_frame": False})
    assert again["times"] == pytest.approx([0.5, 1.5, 2.5], abs=0.15)


def packets(times: Sequence[int | None]) -> list[Any]:
    """Return packets at 25 frames a second, in the order in which they are decoded."""
    return [SimpleNamespace(pts=time, time_base=Fraction(1, 25), duration=1) for time in times]


def test_what_is_due_is_told_before_it_is_decoded() -> None:
    order = [0, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11, None]
    skipping = Skipping(0.2)
    first, *others = packets(order)
    assert not skipping.may(first, 0.04)
    skipping.begin(0.0)
    asked = [skipping.may(packet, 0.04) for packet in others]
    left_out = [time for time, may in zip(order[1:], asked, strict=True) if may]
    assert left_out == [4, 2, 1, 3, 7, 9, 11]  # not 6, 8 and 12 either: they come before 5 and 10 do
    assert skipping.end == pytest.approx(13 / 25)


def test_nothing_is_left_out_before_the_first_frame_is_known() -> None:
    skipping = Skipping(1.0)
    assert not any(skipping.may(packet, 0.04) for packet in packets([0, 3, 1, 2]))
    skipping.begin(0.0)
    assert all(skipping.may(packet, 0.04) for packet in packets([6, 4, 5]))
    assert not any(skipping.may(packet, 0.04) for packet in packets([None, 25]))


def test_one_frame_of_each_step_is_due() -> None:
    due = Due(0.25)
    times = [0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0, 1.1]
    assert [time for time in times if due.take(time)] == [0.0, 0.3, 0.5, 0.9, 1.1]
    every = Due(0.0)
    assert all(every.take(time) for time in (0.0, 0.0, 0.04))
