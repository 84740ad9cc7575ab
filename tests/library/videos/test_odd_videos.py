"""Videos as cameras, recorders and sites make them: turned, at odd times, with longer sound, with subtitles
in many spellings.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.library.videos.clips import Image as Pixels
from tests.library.videos.clips import moving, write_clip, write_tone

from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.requests import DefectOptions, ExtractOptions, VideoMeasureOptions
from modelmill.videos.subtitles import decoded

pytest.importorskip("av")

_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""By degrees with the clock, by which a player turns the picture."""
_MEASURE = VideoMeasureOptions(stills=64).model_dump(mode="json", exclude={"only"})
_EXTRACT = ExtractOptions().model_dump(mode="json")
_DEFECTS = DefectOptions.model_validate({"defects": [{"kind": "clean"}]}).model_dump(mode="json")


@pytest.fixture(scope="module")
def process() -> Iterator[LimitedProcess]:
    with LimitedProcess(VideoLimits()) as found:
        yield found


def work(process: LimitedProcess, task: str, path: Path, options: Any = None) -> dict[str, Any]:
    rows = process.work(task, {"path": str(path), "sidecars": True}, options or {"sidecars": True})
    return rows[0]


def write(
    path: Path, frames: Sequence[Pixels], *, times: Sequence[int] | None = None, sound: float = 0.0
) -> Path:
    """Encode pictures, at times in hundredths of a second if they are given, and so many seconds of sound."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        unit = Fraction(1, 100) if times else Fraction(1, 25)
        stream.time_base = stream.codec_context.time_base = unit
        audio = container.add_stream("aac", rate=16000) if sound else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts, frame.time_base = times[number] if times else number, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            write_tone(container, audio, sound)
    return path


def turned(path: Path, degrees: int) -> Path:
    """Write into an MP4 file that players turn its picture with the clock."""
    content, one = bytearray(path.read_bytes()), 1 << 16
    place = content.index(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30), content.index(b"tkhd"))
    across, up, down, along = (one * part for part in _MATRICES[degrees])
    content[place : place + 36] = struct.pack(">9i", across, up, 0, down, along, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_measured_as_it_is_shown(
    process: LimitedProcess, tmp_path: Path, degrees: int
) -> None:
    scene = moving(1, (160, 120))
    shown = [scene(number) for number in range(30)]
    for picture in shown:
        picture[:20] = picture[-20:] = 0
    stored = [np.rot90(picture, degrees // 90) for picture in shown]
    upright = write(tmp_path / "upright.mp4", shown)
    lying = turned(write(tmp_path / "lying.mp4", stored), degrees)
    row = work(process, "probe", lying)
    assert (row["width"], row["height"], row["rotation"]) == (160, 120, 360 - degrees)
    of_both = [work(process, "measure", path, _MEASURE) for path in (upright, lying)]
    assert [one["border_box"] for one in of_both] == [[0, 20, 160, 100]] * 2
    bits = [np.unpackbits(np.frombuffer(one["hashes"], np.uint8)) for one in of_both]
    assert (bits[0] != bits[1]).mean() < 0.05
    frames = [work(process, "extract", path, _EXTRACT) for path in (upright, lying)]
    assert [(one["width"], one["height"]) for one in frames] == [(160, 120)] * 2
    made = work(process, "defects", lying, _DEFECTS)
    assert (made["clip_width"], made["clip_height"]) == (160, 120)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv"])
@pytest.mark.parametrize("frames", [50, 1])
def test_sound_that_goes_on_after_the_pictures_is_no_damage(
    process: LimitedProcess, tmp_path: Path, name: str, frames: int
) -> None:
    scene = moving(1)
    path = write(tmp_path / name, [scene(number) for number in range(frames)], sound=10)
    row = work(process, "probe", path)
    assert row["seconds"] == pytest.approx(frames / 25, abs=0.05)
    assert row["declared_seconds"] > 9.9
    content = path.read_bytes()
    if name == "clip.flv":
        path.write_bytes(content[: len(content) // 4])
        with pytest.raises(Exception, match="truncated"):
            work(process, "probe", path)


def test_a_tag_of_a_longer_video_is_no_damage(process: LimitedProcess, tmp_path: Path) -> None:
    scene = moving(1)
    path = write(tmp_path / "clip.mkv", [scene(number) for number in range(50)])
    content = path.read_bytes()
    assert content.count(b"00:00:02.0") == 1
    path.write_bytes(content.replace(b"00:00:02.0", b"00:01:02.0"))
    assert work(process, "probe", path)["seconds"] == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_frames_at_odd_times_last_as_long_as_the_stream(
    process: LimitedProcess, tmp_path: Path, name: str
) -> None:
    times = [0, 1, 2, 3, 50, 51, 52, *range(100, 109), 300, 301, 302, 303]
    scene = moving(1)
    path = write(tmp_path / name, [scene(number) for number in range(len(times))], times=times)
    assert work(process, "probe", path)["seconds"] == pytest.approx(3.07, abs=0.04)
    assert work(process, "measure", path, _MEASURE)["measured_seconds"] == pytest.approx(3.07, abs=0.04)


_SRT = "1\n00:00:00,000 --> 00:00:01,000\n{}\n\n2\n00:00:00,500 --> 00:00:02,000\n{}\n"
_CHINESE, _FRENCH = _SRT.format("你好 世界", "第二行"), _SRT.format("café déjà vu", "über")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("clip.srt", _CHINESE.encode("utf-8-sig"), "你好 世界\n第二行"),
        ("clip.srt", _CHINESE.encode("utf-16"), "你好 世界\n第二行"),
        ("clip.srt", b"\xfe\xff" + _CHINESE.encode("utf-16-be"), "你好 世界\n第二行"),
        ("clip.srt", _CHINESE.encode("utf-16-le"), "你好 世界\n第二行"),
        ("clip.srt", _CHINESE.encode("gb18030"), "你好 世界\n第二行"),
        ("clip.srt", _FRENCH.encode("cp1252"), "café déjà vu\nüber"),
        ("clip.SRT", _CHINESE.replace("\n", "\r\n").encode(), "你好 世界\n第二行"),
        ("clip.vtt", "WEBVTT\n\n00:00.500 --> 00:02.500\nHello\n".encode("utf-16"), "Hello"),
    ],
)
def test_subtitles_are_read_in_every_spelling(
    process: LimitedProcess, tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / name).write_bytes(content)
    row = work(process, "probe", clip)
    assert (row["subtitles"], row["subtitles_from"]) == (text, name)
    assert row["subtitles_seconds"] == pytest.approx(2.0)  # captions overlap


_ASS = """[Script Info]
Title: x
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}
Dialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,{\\b1}你好{\\b0}\\N中文, twice
"""
_VTT = """WEBVTT

STYLE
::cue { color: red }

NOTE no

00:00.000 --> 00:01.000 align:start
<v Bob>Hello <c.x>there</c> 1 &lt; 2
"""
_BACKWARDS = "1\n00:00:01,000 --> 00:00:01,000\nzero\n\n2\n00:00:02,000 --> 00:00:01,000\nback\n"
_TAGS = "1\n00:00:00,000 --> 00:00:01,000\n<i>1 < 2</i> and {\\an8}3 > 2\n"


@pytest.mark.parametrize(
    ("name", "content", "text", "seconds"),
    [
        ("clip.srt", _BACKWARDS, "zero\nback", 0),
        ("clip.srt", _TAGS, "1 < 2 and 3 > 2", 1),
        ("clip.vtt", _VTT, "Hello there 1 < 2", 1),
        ("clip.ass", _ASS, "你好 中文, twice", 1),
    ],
)
def test_captions_have_their_words_and_their_time(
    process: LimitedProcess, tmp_path: Path, name: str, content: str, text: str, seconds: float
) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / name).write_text(content)
    row = work(process, "probe", clip)
    assert (row["subtitles"], row["subtitles_seconds"]) == (text, pytest.approx(seconds))


def with_subtitles(path: Path, texts: Sequence[str]) -> Path:
    """Write a Matroska file with streams of subtitles: German, then English."""
    import av

    scene = moving(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        read = [av.open(io.BytesIO(text.encode()), format="srt") for text in texts]
        streams = [container.add_stream_from_template(one.streams[0]) for one in read]
        for subtitles, language in zip(streams, ("ger", "eng"), strict=False):
            subtitles.metadata["language"] = language
        packets = [
            packet
            for number in range(50)
            for packet in stream.encode(av.VideoFrame.from_ndarray(scene(number), "rgb24"))
        ] + list(stream.encode(None))
        for one, into in zip(read, streams, strict=True):
            for packet in one.demux():
                if packet.size:
                    packet.stream, packet.dts = into, packet.pts
                    packets.append(packet)
        container.start_encoding()
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([("hello", "world")], ("hello\nworld", "ger")),
        ([("eins", "zwei"), ("one", "two")], ("eins\nzwei", "ger")),
        ([("<i></i>", " "), ("one", "two")], ("one\ntwo", "eng")),
    ],
)
def test_embedded_subtitles_are_those_of_the_first_stream_that_says_something(
    process: LimitedProcess, tmp_path: Path, texts: list[tuple[str, str]], found: tuple[str, str]
) -> None:
    path = with_subtitles(tmp_path / "clip.mkv", [_SRT.format(*one) for one in texts])
    row = work(process, "probe", path)
    assert (row["subtitles"], row["subtitles_language"]) == found
    assert (row["subtitles_from"], row["subtitles_seconds"]) == ("embedded", pytest.approx(2.0))


def test_a_file_of_subtitles_that_is_cut_within_a_letter_keeps_its_spelling() -> None:
    assert decoded("你好".encode()[:-1]) == "你"
    assert decoded("你好".encode("gb18030")[:-1]) == "你"
    assert (
        decoded("caf\xe9".encode("cp1252") + b" \x81 ")
        == "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER} "
    )
    assert decoded(b"") == ""


def test_frames_of_a_turned_video_stand_upright(process: LimitedProcess, tmp_path: Path) -> None:
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:48] = 220  # bright above
    scene = moving(1, (128, 96))
    shown = [np.maximum(picture, scene(number) // 4) for number in range(25)]
    lying = turned(write(tmp_path / "lying.mp4", [np.rot90(one) for one in shown]), 90)
    frame = work(process, "extract", lying, _EXTRACT)
    found = np.asarray(Image.open(io.BytesIO(frame["jpeg"])).convert("L"))
    assert found[:40].mean() > 200 > 100 > found[-40:].mean()


def test_frames_with_borders_are_extracted_by_a_process_of_their_own(tmp_path: Path) -> None:
    """NumPy imports some of its parts when they are first needed: with a video open, it may not."""
    scene = moving(1, (320, 240))
    frames = [scene(number) for number in range(25)]
    for frame in frames:
        frame[:24] = frame[-24:] = 0
    path = write(tmp_path / "letterbox.mp4", frames)
    with LimitedProcess(VideoLimits(), tasks=("extract",)) as process:
        assert work(process, "extract", path, _EXTRACT)["jpeg"]
