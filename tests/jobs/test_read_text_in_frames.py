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
from modelmill.tables.reading import read_arrow
from modelmill.videos.requests import ReadTextRequest
from modelmill_jobs import read_text_in_frames

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


def test_without_rapidocr_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ConfigError, match=r"pip install 'modelmill\[ocr\]'"):
        read_text_in_frames.main(requested(tmp_path, tmp_path / "a.mp4"), None)  # type: ignore[arg-type]
