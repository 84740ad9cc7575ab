"""Text in frames, read by RapidOCR in the limited process, and what rules make of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image, ImageDraw
from tests.library.videos.clips import write_frames

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError
from modelmill.signals.phrase_search import PhraseFinder, Phrases
from modelmill.tables.reading import read_arrow
from modelmill.videos.reading_text import says
from modelmill.videos.requests import MeasureVideosRequest, ReadTextRequest
from modelmill_jobs import measure_videos, read_text_in_frames

pytest.importorskip("av")


def shown(text: str, place: tuple[int, int]) -> np.ndarray:
    picture = Image.new("RGB", (480, 270), (40, 70, 50))
    ImageDraw.Draw(picture).text(place, text, fill="white", font_size=40)
    return np.asarray(picture, np.uint8)


def requested(folder: Path, path: Path) -> ReadTextRequest:
    write_deltalake(
        str(folder / "clips"), pa.table({"key": ["a"], "path": [str(path)], "decision": ["keep"]})
    )
    places = {"to": str(folder / "read"), "quarantine": str(folder / "refused")}
    return ReadTextRequest(table=TableRef(uri=str(folder / "clips"), version=0), **places)


def test_text_is_read_with_its_place_and_time(sail: Any, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    blank = np.full((270, 480, 3), 200, np.uint8)
    pictures = [shown("ORDER NOW", (60, 30))] * 25 + [blank] * 25
    request = requested(tmp_path, write_frames(tmp_path / "a.mp4", pictures))
    found = read_text_in_frames.main(request, sail)
    assert (found.rows, found.refused) == (1, {})
    (row,) = read_arrow(found.table).to_pylist()
    assert row["text"] == "ORDER NOW"
    assert row["texts"] == ["ORDER NOW"]
    assert row["texts_at"] == row["text_times"][:1]
    assert len(row["text_times"]) == 2
    left, top, right, bottom = row["text_boxes"]
    assert 40 < left < 75 < 230 < right < 320
    assert 20 < top < 50 < 60 < bottom < 85
    assert row["text_area"] == [pytest.approx((right - left) * (bottom - top) / (480 * 270), abs=0.01), 0.0]
    assert read_text_in_frames.main(request, sail).worked_on == 0
    undecided = request.model_copy(update={"only": {"decision": ("review",)}, "to": str(tmp_path / "some")})
    assert read_text_in_frames.main(undecided, sail).videos == 0
    decided = undecided.model_copy(update={"only": {"decision": ("review", "keep")}})
    assert read_text_in_frames.main(decided, sail).videos == 1


def test_reading_ends_with_the_phrase_that_settles_it(sail: Any, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    scenes = [shown("ORDER", (60, 30)), shown("FREE NOW", (60, 130)), shown("SALE", (200, 200))]
    clip = write_frames(tmp_path / "a.mp4", (scenes[number // 25] for number in range(75)))
    request = requested(tmp_path, clip).model_copy(update={"every_seconds": 1.0})

    def read(until: tuple[str, ...]) -> list[str]:
        place = {"to": str(tmp_path / "-".join(["read", *until]))}
        found = read_text_in_frames.main(request.model_copy(update={"until": until} | place), sail)
        return list(read_arrow(found.table).column("text")[0].as_py().splitlines())

    assert read(()) == ["ORDER", "FREE NOW", "SALE"]
    assert read(("free now",)) == ["ORDER", "FREE NOW"]
    assert read(("der",)) == ["ORDER", "FREE NOW", "SALE"]  # no word


def test_stills_of_measures_are_read_without_the_video(sail: Any, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    blank = np.full((540, 960, 3), 200, np.uint8)
    page = np.asarray(Image.fromarray(shown("ORDER NOW", (60, 30))).resize((960, 540)), np.uint8)
    clip = write_frames(tmp_path / "a.mp4", [blank] * 50 + [page] * 50)
    request = requested(tmp_path, clip)
    places = {"to": str(tmp_path / "measured"), "quarantine": str(tmp_path / "not_measured")}
    measures = MeasureVideosRequest(table=request.table, stills=640, measures=("text",), **places)
    found = measure_videos.main(measures, sail)
    clip.unlink()
    read = read_text_in_frames.main(
        request.model_copy(update={"table": found.table, "path": None, "content": "stills"}), sail
    )
    (row,) = read_arrow(read.table).to_pylist()
    assert row["text"] == "ORDER NOW"
    assert row["text_times"] == pytest.approx([1.0, 3.0], abs=0.2)
    left, top, right, bottom = row["text_boxes"]  # in pixels of the video, not of its pictures
    assert 80 < left < 150 < 460 < right < 640
    assert 40 < top < 100 < 120 < bottom < 170


@pytest.mark.parametrize(
    "text", ["Order\nnow", "REORDER NOW", "order now!", "O\u0308rder now", "order  now\u0301", ""]
)
def test_who_reads_until_a_phrase_never_ends_before_a_signal_finds_it(text: str) -> None:
    finder = PhraseFinder(Phrases(("order now",)))
    found = bool(list(finder.spans(text)))
    assert says(text, ["order now"]) <= found
    assert says(text, ["order now"]) == found or not text.isascii()


def test_without_rapidocr_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ConfigError, match=r"pip install 'modelmill\[ocr\]'"):
        read_text_in_frames.main(requested(tmp_path, tmp_path / "a.mp4"), None)  # type: ignore[arg-type]
