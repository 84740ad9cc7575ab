"""Measuring videos and extracting frames on the embedded engine: once, and nothing doubled after a kill."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from PIL import Image
from tests.library.videos.clips import moving, write_clip, write_frames

from modelmill.artifacts import TableRef
from modelmill.tables.reading import read_arrow
from modelmill.videos.requests import ExtractFramesRequest, MeasureVideosRequest
from modelmill_jobs import extract_frames, measure_videos

pytest.importorskip("av")


def table_of(folder: Path, paths: list[Path]) -> TableRef:
    place = str(folder / "clips")
    keys = [path.name for path in paths]
    rows = pa.table({"key": keys, "path": [str(path) for path in paths]})
    write_deltalake(place, rows, mode="overwrite")
    return TableRef(uri=place, version=DeltaTable(place).version())


def requested(kind: Any, table: TableRef, folder: Path, **more: Any) -> Any:
    return kind(table=table, to=str(folder / "made"), quarantine=str(folder / "refused"), **more)


def test_measures_of_a_table(sail: Any, tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4", seconds=2, sound=True)
    (tmp_path / "bad.mp4").write_bytes(good.read_bytes()[:1000])
    table = table_of(tmp_path, [good, tmp_path / "bad.mp4"])
    request = requested(MeasureVideosRequest, table, tmp_path)
    found = measure_videos.main(request, sail)
    assert (found.rows, found.refused) == (1, {"broken": 1})
    (row,) = read_arrow(found.table).to_pylist()
    assert len(row["times"]) == len(row["brightness"]) == len(row["blur"]) == 8
    assert (row["border"], row["shots"], row["silent_share"]) == ("none", 1, 0.0)
    assert measure_videos.main(request, sail).worked_on == 0
    some = {"only": {"key": ("good.mp4", "other.mp4")}, "to": str(tmp_path / "some")}
    assert measure_videos.main(request.model_copy(update=some), sail).videos == 1


def test_frames_of_a_table(sail: Any, tmp_path: Path) -> None:
    scenes = [moving(seed, (160, 120)) for seed in range(3)]
    frames = (scenes[number // 25](number) for number in range(75))
    clip = write_frames(tmp_path / "three.mp4", frames)
    request = requested(ExtractFramesRequest, table_of(tmp_path, [clip]), tmp_path)
    found = extract_frames.main(request, sail)
    rows = read_arrow(found.table).sort_by("frame").to_pylist()
    assert [row["shot"] for row in rows] == [0, 1, 2]
    assert [row["time"] for row in rows] == pytest.approx([0.5, 1.5, 2.5], abs=0.3)
    picture = np.asarray(Image.open(io.BytesIO(rows[1]["jpeg"])).convert("RGB"), float)
    assert picture.shape == (120, 160, 3)
    near = [np.abs(picture - scene(round(rows[1]["time"] * 25)).astype(float)).mean() for scene in scenes]
    assert near[1] < 16
    assert min(near[0], near[2]) > 40
    again = extract_frames.main(request, sail)
    assert (again.worked_on, again.table) == (0, found.table)


WORK = """
import sys
from modelmill.jobs import run_job
from modelmill.settings import Settings
from modelmill.videos.requests import ExtractFramesRequest
run_job(ExtractFramesRequest.model_validate_json(sys.argv[1]), settings=Settings.from_environment())
"""


def test_a_killed_run_goes_on_and_doubles_nothing(sail: Any, tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{number}.mp4", seconds=1, seed=number) for number in range(5)]
    table = table_of(tmp_path, clips)
    request = requested(ExtractFramesRequest, table, tmp_path, videos_per_commit=1, processes=1)
    log, deadline = tmp_path / "made/_delta_log", time.monotonic() + 120
    script = tmp_path / "work.py"  # PySpark takes a process without a file for its own doctests
    script.write_text(WORK)
    with subprocess.Popen([sys.executable, str(script), request.model_dump_json()]) as child:
        while len(list(log.glob("*.json"))) < 3 and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
    before = DeltaTable(str(tmp_path / "made")).to_pyarrow_table(columns=["key"]).num_rows
    assert before >= 2
    found = extract_frames.main(request, sail)
    keys = read_arrow(found.table, columns=["key"]).column("key").to_pylist()
    assert sorted(keys) == [f"{number}.mp4" for number in range(5)]
    assert found.worked_on == 5 - before
