"""Clips with defects, made of a clean one: labels are what the measures find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pydantic import ValidationError
from tests.library.videos.clips import write_clip

from modelmill.artifacts import TableRef
from modelmill.tables.reading import read_arrow
from modelmill.videos.defect_kinds import Clip, Exposure
from modelmill.videos.defects import encoded
from modelmill.videos.requests import MakeDefectsRequest, MeasureVideosRequest
from modelmill_jobs import make_defects, measure_videos

pytest.importorskip("av")

KINDS = [
    "clean",
    "blur",
    "border",
    "overlay",
    "text",
    "freeze",
    "black",
    "slides",
    "exposure",
    "crop",
    "compression",
]


def test_labels_are_what_the_measures_find(sail: Any, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", seconds=4, size=(192, 144))
    write_deltalake(str(tmp_path / "clips"), pa.table({"key": ["a"], "path": [str(clip)], "scene": ["s1"]}))
    request = MakeDefectsRequest(
        table=TableRef(uri=str(tmp_path / "clips"), version=0),
        to=str(tmp_path / "defects"),
        quarantine=str(tmp_path / "refused"),
        defects=[{"kind": kind} for kind in KINDS],
        keep=("scene",),
        seconds=4,
    )
    made = make_defects.main(request, sail)
    assert (made.rows, made.refused) == (len(KINDS), {})
    labels = {row["defect"]: row for row in read_arrow(made.table).to_pylist()}
    assert list(labels) == KINDS
    assert {row["scene"] for row in labels.values()} == {"s1"}
    measured = measure_videos.main(
        MeasureVideosRequest(
            table=made.table,
            key="clip",
            path=None,
            content="video",
            keep=("defect",),
            to=str(tmp_path / "measured"),
            quarantine=str(tmp_path / "not_measured"),
        ),
        sail,
    )
    assert measured.refused == {}
    found = {row["defect"]: row for row in read_arrow(measured.table).to_pylist()}
    assert found["border"]["border_box"] == pytest.approx(labels["border"]["box"], abs=2)
    assert found["clean"]["border"] == "none"
    for kind, name in (("freeze", "frozen"), ("black", "black")):
        assert found[kind][f"{name}_starts"] == [pytest.approx(labels[kind]["start"], abs=0.1)]
        assert found[kind][f"{name}_ends"] == [pytest.approx(labels[kind]["end"], abs=0.1)]
    assert found["slides"]["slideshow"] > 0.8
    assert found["clean"]["slideshow"] == 0
    assert middle(found["blur"]["blur"]) > middle(found["clean"]["blur"]) + 0.1
    factor = json.loads(labels["exposure"]["parameters"])["factor"]
    expected = min(1.0, factor * middle(found["clean"]["brightness"]))
    assert middle(found["exposure"]["brightness"]) == pytest.approx(expected, abs=0.2)
    again = make_defects.main(request.model_copy(update={"to": str(tmp_path / "again")}), sail)
    columns = ["clip", "parameters", "box"]
    assert read_arrow(again.table, columns=columns) == read_arrow(made.table, columns=columns)


def middle(values: list[float | None]) -> float:
    found = sorted(value for value in values if value is not None)
    return found[len(found) // 2]


def test_wrong_defects_are_refused() -> None:
    table = TableRef(uri="/clips", version=0)
    for wrong, said in (
        ([], "at least 1"),
        ([{"kind": "blurr"}], "blurr"),
        ([{"kind": "blur", "sigma": [3, 1]}], "a range goes up"),
        ([{"kind": "border", "share": [0.6, 0.7]}], "less than or equal to 0.45"),
        ([{"kind": "overlay", "width": [1.5, 2]}], "less than or equal to 0.9"),
        ([{"kind": "freeze", "seconds": [-2, 1]}], "greater than 0"),
        ([{"kind": "compression", "crf": [200, 300]}], "less than or equal to 63"),
    ):
        with pytest.raises(ValidationError, match=said):
            MakeDefectsRequest(table=table, to="/a", quarantine="/b", defects=wrong)


def test_a_dark_clip_is_never_made_bright_nor_a_bright_one_dark() -> None:
    """The label would be wrong: twice the light makes a good picture of a dark one."""
    made = {
        light: {
            Exposure().make(Clip([np.full((16, 16, 3), light, np.uint8)], 25.0, random)).parameters["form"]
            for random in map(np.random.default_rng, range(20))
        }
        for light in (40, 110, 190)
    }
    assert made == {40: {"dark"}, 110: {"dark", "bright"}, 190: {"bright"}}


def test_the_same_frames_are_the_same_file_each_time() -> None:
    """What follows from a clip's digest, such as the next defects, is the same again only then."""
    noise = np.random.default_rng(0).integers(0, 255, (80, 110, 3), np.uint8)
    scene = noise.repeat(8, 0).repeat(8, 1)
    frames = [scene[3 * at : 3 * at + 270, 4 * at : 4 * at + 480] for at in range(30)]
    files = set()
    for seed in range(12):
        files.add(encoded(frames, 25.0, "libx264", {"crf": "27"}))
        np.random.default_rng(seed).integers(0, 255, (3, *frames[0].shape))  # memory with other values
    assert len(files) == 1
