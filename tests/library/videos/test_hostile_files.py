"""Broken and hostile files: each is read, or refused with its reason, in bounds; the process goes on."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.library.videos.clips import moving, write_clip, write_frames

from modelmill.videos.child import _no_further_files
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import VideoLimits
from modelmill.videos.refusals import REASONS, RefusedVideoError

av = pytest.importorskip("av")

LIMITS = VideoLimits(deadline_seconds=10, cpu_seconds=10, memory_mb=1024)


@pytest.fixture(scope="module")
def process() -> Iterator[LimitedProcess]:
    with LimitedProcess(LIMITS) as process:
        yield process


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=2, sound=True)


@pytest.fixture(scope="module")
def matroska(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [moving(seed) for seed in range(6)]  # so that half of the bytes are about half of the frames
    frames = (scenes[number // 25](number) for number in range(150))
    return write_frames(tmp_path_factory.mktemp("clip") / "clip.mkv", frames)


def fate(process: LimitedProcess, path: Path | str, task: str = "probe", **more: Any) -> str:
    """Return ``read``, or the reason of the refusal."""
    try:
        process.work(task, {"path": str(path), **more}, {})
    except RefusedVideoError as error:
        known = error.reason in REASONS and error.detail
        return error.reason if known else f"no reason: {error}"
    return "read"


Make = Callable[[Path, Path, Path], Path]
"""Makes a file in a folder, of a good MP4 and a good Matroska file."""


def written(content: bytes, name: str = "a.mp4") -> Make:
    def make(folder: Path, _clip: Path, _matroska: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def part(start: float, end: float, *, of_matroska: bool = False, name: str = "part.mp4") -> Make:
    def make(folder: Path, clip: Path, matroska: Path) -> Path:
        content = (matroska if of_matroska else clip).read_bytes()
        return written(content[int(start * len(content)) : int(end * len(content))], name)(
            folder, clip, matroska
        )

    return make


def renamed(name: str) -> Make:
    return part(0, 1, name=name)


def naming_the_clip(text: str, name: str) -> Make:
    def make(folder: Path, clip: Path, matroska: Path) -> Path:
        return written(text.format(clip=clip).encode(), name)(folder, clip, matroska)

    return make


def declaring(seconds: int) -> Make:
    """Write a Matroska file whose header declares another duration."""

    def make(folder: Path, clip: Path, matroska: Path) -> Path:
        content = bytearray(matroska.read_bytes())
        at = content.index(b"\x44\x89\x88") + 3  # Duration, a double of 8 bytes, in milliseconds
        content[at : at + 8] = struct.pack(">d", seconds * 1000)
        return written(bytes(content), "long.mkv")(folder, clip, matroska)

    return make


def huge_picture(folder: Path, clip: Path, matroska: Path) -> Path:
    """Write an AVI file whose header declares raw pictures of 20,000 x 20,000."""
    path = folder / "huge.avi"
    write_frames(path, [moving()(0)], codec="rawvideo")
    content = bytearray(path.read_bytes())
    at = content.find(b"strf") + 8
    content[at + 4 : at + 12] = struct.pack("<ii", 20_000, 20_000)
    path.write_bytes(content)
    return path


def many_streams(folder: Path, _clip: Path, _matroska: Path) -> Path:
    path = folder / "many.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000) for _ in range(100)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "stereo")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    return path


def sound_alone(folder: Path, _clip: Path, _matroska: Path) -> Path:
    path = folder / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "stereo")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    return path


def linked(folder: Path, clip: Path, _matroska: Path) -> Path:
    (folder / "link.mp4").symlink_to(clip)
    return folder / "link.mp4"


def pipe(folder: Path, _clip: Path, _matroska: Path) -> Path:
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def picture(form: str) -> Make:
    def make(folder: Path, _clip: Path, _matroska: Path) -> Path:
        path = folder / "picture.mp4"
        Image.fromarray(moving()(0)).save(path, format=form)
        return path

    return make


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{clip}'\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{clip}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"

FILES: dict[str, tuple[Make, str]] = {
    "no bytes": (written(b""), "empty"),
    "one byte": (written(b"\0"), "not_a_video"),
    "zeros": (written(bytes(100_000)), "not_a_video"),
    "noise": (written(np.random.default_rng(0).bytes(100_000)), "not_a_video"),
    "text": (written(b"no video at all\n" * 100), "not_a_video"),
    "header alone": (part(0, 0.01), "broken"),
    "first half of an MP4 file, whose index is at its end": (part(0, 0.5), "broken"),
    "second half of an MP4 file": (part(0.5, 1), "not_a_video"),
    "first half of a Matroska file": (part(0, 0.5, of_matroska=True), "truncated"),
    "Matroska without its head": (part(0.1, 1, of_matroska=True), "not_a_video"),
    "an MP4 file under the name of a text": (renamed("clip.txt"), "read"),
    "an MP4 file under the name of a playlist": (renamed("clip.m3u8"), "read"),
    "a playlist": (naming_the_clip(HLS, "list.m3u8"), "not_a_video"),
    "a playlist under the name of a video": (naming_the_clip(HLS, "list.mp4"), "not_a_video"),
    "a concatenation": (naming_the_clip(CONCAT, "list.ffconcat"), "not_a_video"),
    "a concatenation under the name of a video": (naming_the_clip(CONCAT, "list.mp4"), "not_a_video"),
    "DASH to another file": (naming_the_clip(DASH, "list.mpd"), "not_a_video"),
    "a session description": (written(SDP.encode(), "a.sdp"), "not_a_video"),
    "a link": (linked, "link"),
    "a folder": (lambda folder, *_: folder, "not_a_file"),
    "a pipe": (pipe, "not_a_file"),
    "a device": (lambda *_: Path("/dev/zero"), "not_a_file"),
    "nothing there": (lambda folder, *_: folder / "none.mp4", "missing"),
    "sound alone": (sound_alone, "no_video"),
    "a photo": (picture("JPEG"), "not_a_video"),
    "a drawing": (picture("PNG"), "not_a_video"),
    "20,000 x 20,000 declared": (huge_picture, "no_frames"),
    "ten hours declared": (declaring(36_000), "too_long"),
    "five hours declared": (declaring(18_000), "truncated"),
    "a hundred streams": (many_streams, "too_many_streams"),
    "a compressed bomb": (written(gzip.compress(bytes(50_000_000))), "not_a_video"),
}


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_read_or_refused_with_its_reason(
    process: LimitedProcess, tmp_path: Path, clip: Path, matroska: Path, name: str
) -> None:
    make, expected = FILES[name]
    began = time.monotonic()
    assert fate(process, make(tmp_path, clip, matroska)) == expected
    assert time.monotonic() - began < 10


def test_flipped_bytes_are_read_or_refused(process: LimitedProcess, tmp_path: Path, clip: Path) -> None:
    random = np.random.default_rng(1)
    fates = set()
    for number in range(30):
        content = bytearray(clip.read_bytes())
        for at in random.integers(0, len(content), 20):
            content[at] ^= int(random.integers(1, 256))
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(content)
        fates.add(fate(process, path))
    assert "read" in fates or "broken" in fates


def test_a_name_with_a_nul_is_refused(process: LimitedProcess) -> None:
    assert fate(process, "a\0b.mp4") == "missing"


def test_no_server_is_asked(process: LimitedProcess, tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = f"http://127.0.0.1:{server.server_port}/clip.mp4"
        for text, name in ((HLS, "a.m3u8"), (DASH, "a.mpd"), (CONCAT, "a.ffconcat")):
            (tmp_path / name).write_text(text.format(clip=place))
            assert fate(process, tmp_path / name) == "not_a_video"
        assert fate(process, place) == "missing"
        server.shutdown()
        thread.join()
    assert asked == []


def test_once_a_video_is_open_nothing_else_can_be(clip: Path) -> None:
    with _no_further_files():
        with pytest.raises(OSError, match="Too many open files"):
            os.open(clip, os.O_RDONLY)
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
    with clip.open("rb"):
        pass


def test_a_large_file_of_subtitles_is_cut(process: LimitedProcess, tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    caption = "1\n00:00:00,000 --> 00:00:01,500\n{text}\n\n"
    (tmp_path / "clip.srt").write_text(caption.format(text="<i>Good</i> morning"))
    (row,) = process.work("probe", {"path": str(path), "sidecars": True}, {"sidecars": True})
    assert (row["subtitles"], row["subtitles_from"]) == ("Good morning", "clip.srt")
    assert row["subtitles_seconds"] == pytest.approx(1.5)
    with (tmp_path / "clip.srt").open("w") as file:
        for number in range(1, 50_000):
            at = f"{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"
            file.write(f"{number}\n{at},000 --> {at},500\n{'words ' * 30}\n\n")
    (row,) = process.work("probe", {"path": str(path), "sidecars": True}, {"sidecars": True})
    assert 100_000 < len(row["subtitles"]) <= 200_000


def test_limits_hold_and_the_process_goes_on(tmp_path: Path, clip: Path) -> None:
    def refused(**limits: Any) -> str:
        with LimitedProcess(LIMITS.model_copy(update=limits)) as process:
            found = fate(process, clip)
            process._limits = LIMITS  # the same object starts a new process, if the old one died
            assert fate(process, clip) == "read"
        return found

    assert refused(max_pixels=1000) == "too_many_pixels"
    assert refused(max_bytes=1000) == "too_large"
    assert refused(max_seconds=1) == "too_long"
    assert refused(deadline_seconds=0.001) == "deadline"


def test_a_process_that_dies_is_replaced(clip: Path) -> None:
    with LimitedProcess(LIMITS) as process:
        assert fate(process, clip) == "read"
        first = process._process
        assert first is not None
        first.kill()
        first.wait()
        assert fate(process, clip) == "crashed"
        assert fate(process, clip) == "read"
        assert process._process is not first


def test_nothing_is_left_open(process: LimitedProcess, clip: Path) -> None:
    fate(process, clip)
    assert process._process is not None
    folder = Path(f"/proc/{process._process.pid}/fd")
    if not folder.exists():
        pytest.skip("no /proc on this machine")
    before = len(list(folder.iterdir()))
    for _ in range(20):
        with contextlib.suppress(RefusedVideoError):
            process.work("probe", {"path": str(clip)}, {})
    assert len(list(folder.iterdir())) == before
