"""The jobs over videos, unchanged, on a JVM Spark: same tables as the embedded engine makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tests.library.videos.clips import write_clip

from modelmill.artifacts import TableRef
from modelmill.tables.reading import read_arrow
from modelmill.videos.requests import ExtractFramesRequest, ProbeVideosRequest
from modelmill_jobs import extract_frames, probe_videos

pytest.importorskip("av")
pytestmark = pytest.mark.jvm


def run_all(spark: Any, table: TableRef, folder: Path) -> dict[str, Any]:
    """Probe videos of a column and of files, and extract frames of what was read."""
    probed = probe_videos.main(
        ProbeVideosRequest(
            table=table,
            content="video",
            keep=("scene",),
            to=str(folder / "probed"),
            quarantine=str(folder / "refused"),
            processes=3,
            videos_per_commit=2,
        ),
        spark,
    )
    frames = extract_frames.main(
        ExtractFramesRequest(
            table=probed.table,
            content="content",
            digest="digest",
            to=str(folder / "frames"),
            quarantine=str(folder / "without"),
        ),
        spark,
    )
    return {
        "counts": (probed.videos, probed.worked_on, probed.rows, probed.refused, frames.rows, frames.refused),
        "probed": read_arrow(probed.table).sort_by("key"),
        "refused": read_arrow(probed.quarantine).sort_by("key"),
        "frames": read_arrow(frames.table).sort_by([("key", "ascending"), ("frame", "ascending")]),
    }


def test_both_engines_make_the_same_tables(sail: Any, jvm: Any, tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{number}.mp4", seconds=1, seed=number) for number in range(3)]
    rows = [
        {"key": "a", "path": str(clips[0]), "scene": 1},
        {"key": "b", "video": clips[1].read_bytes(), "scene": 2},
        {"key": "c", "path": str(tmp_path / "none.mp4"), "scene": None},
        {"key": "d", "video": b"no video", "scene": 4},
        {"key": "e", "path": str(clips[2]), "scene": 5},
    ]
    types = [("key", pa.string()), ("path", pa.string()), ("scene", pa.int64()), ("video", pa.binary())]
    write_deltalake(str(tmp_path / "clips"), pa.Table.from_pylist(rows, schema=pa.schema(types)))
    table = TableRef(uri=str(tmp_path / "clips"), version=0)
    embedded = run_all(sail, table, tmp_path / "embedded")
    assert embedded["counts"] == (5, 5, 3, {"missing": 1, "not_a_video": 1}, 3, {})
    on_jvm = run_all(jvm, table, tmp_path / "jvm")
    for name, value in embedded.items():
        assert value == on_jvm[name], name


def test_an_empty_table_on_a_jvm(jvm: Any, tmp_path: Path) -> None:
    schema = pa.schema([("key", pa.string()), ("path", pa.string())])
    write_deltalake(str(tmp_path / "clips"), schema.empty_table())
    request = ProbeVideosRequest(
        table=TableRef(uri=str(tmp_path / "clips"), version=0),
        to=str(tmp_path / "probed"),
        quarantine=str(tmp_path / "refused"),
    )
    assert probe_videos.main(request, jvm).rows == 0
