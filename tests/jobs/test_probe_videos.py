"""Probing a table of videos on the embedded engine: rows once, refusals with reasons, nothing lost."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.library.videos.clips import write_clip

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.tables.reading import read_arrow
from modelmill.videos.requests import MeasureVideosRequest, ProbeVideosRequest, VideoJobResult
from modelmill.workspace import Workspace, reporting_to
from modelmill_jobs import measure_videos, probe_videos

pytest.importorskip("av")


class Clips:
    """A table of clips, and the tables that are made of it."""

    def __init__(self, folder: Path, spark: Any) -> None:
        self.folder, self.spark = folder, spark

    def write(self, rows: list[dict[str, Any]]) -> TableRef:
        columns = ["key", "path", "scene", "video"]
        types = [pa.string(), pa.string(), pa.int64(), pa.binary()]
        schema = pa.schema(list(zip(columns, types, strict=True)))
        place = str(self.folder / "clips")
        write_deltalake(place, pa.Table.from_pylist(rows, schema=schema), mode="overwrite")
        return TableRef(uri=place, version=DeltaTable(place).version())

    def probe(self, table: TableRef, **more: Any) -> VideoJobResult:
        request = ProbeVideosRequest(
            table=table, to=str(self.folder / "probed"), quarantine=str(self.folder / "refused"), **more
        )
        return probe_videos.main(request, self.spark)


@pytest.fixture
def clips(tmp_path: Path, sail: Any) -> Clips:
    return Clips(tmp_path, sail)


def rows_of(table: TableRef) -> list[dict[str, Any]]:
    return read_arrow(table).sort_by("key").to_pylist()


def test_each_video_is_read_or_refused_and_only_new_ones_are_worked_on(clips: Clips, tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4", seconds=1)
    other = write_clip(tmp_path / "other.mkv", seconds=1, size=(96, 64))
    (tmp_path / "empty.mp4").touch()
    rows = [
        {"key": "a", "path": str(good), "scene": 1},
        {"key": "b", "path": str(tmp_path / "empty.mp4"), "scene": 2},
        {"key": "c", "path": str(tmp_path / "none.mp4"), "scene": 3},
        {"key": "d", "path": str(other), "scene": 4},
    ]
    said, told = list[str](), list[tuple[float, float, str]]()
    watching = Workspace(
        tmp_path,
        tmp_path,
        progress=lambda done, total, *, what: told.append((done, total, what)),
        log=said.append,
    )
    with reporting_to(watching):
        first = clips.probe(clips.write(rows), keep=["scene"], videos_per_commit=1)
    assert said == ["4 of 4 videos are new or have changed"]
    assert [total for _, total, _ in told] == [4] * len(told)
    assert told[-1] == (4, 4, "videos")
    assert len(told) >= 2
    assert (first.videos, first.worked_on, first.rows) == (4, 4, 2)
    assert first.refused == {"empty": 1, "missing": 1}
    read = rows_of(first.table)
    assert [(row["key"], row["width"], row["height"], row["scene"]) for row in read] == [
        ("a", 128, 96, 1),
        ("d", 96, 64, 4),
    ]
    assert read[0]["seconds"] == pytest.approx(1.0, abs=0.05)
    again = clips.probe(clips.write(rows), keep=["scene"])
    assert again.worked_on == 0
    assert (again.table, again.quarantine) == (first.table, first.quarantine)


def test_what_has_changed_or_is_gone_leaves_the_table(clips: Clips, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=1)
    rows = [{"key": "a", "path": str(path)}, {"key": "b", "path": str(tmp_path / "late.mp4")}]
    first = clips.probe(clips.write(rows))
    assert first.refused == {"missing": 1}
    write_clip(path, seconds=2)
    write_clip(tmp_path / "late.mp4", seconds=1)
    second = clips.probe(clips.write(rows))
    assert (second.worked_on, second.refused) == (2, {})
    assert [round(row["seconds"]) for row in rows_of(second.table)] == [2, 1]
    third = clips.probe(clips.write(rows[1:]))
    assert (third.worked_on, [row["key"] for row in rows_of(third.table)]) == (0, ["b"])


def test_other_columns_may_be_carried_along_the_next_night(clips: Clips, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=1)
    rows = [{"key": "a", "path": str(path), "scene": 1}, {"key": "b", "path": "/none.mp4", "scene": 2}]
    table = clips.write(rows)
    for keep in ([], ["scene"], [], ["scene"]):
        found = clips.probe(table, keep=keep, transaction=f"night-{len(keep)}")
        assert (found.rows, found.refused) == (1, {"missing": 1})
        assert [row.get("scene") for row in rows_of(found.table)] == [1] * len(keep) or [None]
        assert clips.probe(table, keep=keep, transaction=f"night-{len(keep)}").worked_on == 0
    place = str(tmp_path / "texts")
    write_deltalake(place, pa.table({"key": ["a"], "path": [str(path)], "scene": ["one"]}))
    (row,) = rows_of(clips.probe(TableRef(uri=place, version=0), keep=["scene"]).table)
    assert row["scene"] == "one"


def test_a_table_of_another_job_is_left_alone(clips: Clips, tmp_path: Path) -> None:
    table = clips.write([{"key": "a", "path": str(write_clip(tmp_path / "a.mp4", seconds=1))}])
    found = clips.probe(table)
    request = MeasureVideosRequest(table=table, to=found.table.uri, quarantine=str(tmp_path / "unmeasured"))
    with pytest.raises(TableError, match="must have the columns"):
        measure_videos.main(request, clips.spark)
    assert len(rows_of(clips.probe(table).table)) == 1


def test_videos_may_be_in_a_column(clips: Clips, tmp_path: Path) -> None:
    content = write_clip(tmp_path / "a.mp4", seconds=1).read_bytes()
    rows = [{"key": "a", "video": content}, {"key": "b", "video": b"no video"}, {"key": "c"}]
    found = clips.probe(clips.write(rows), path=None, content="video")
    assert found.refused == {"missing": 1, "not_a_video": 1}
    (row,) = rows_of(found.table)
    assert (row["key"], row["content"], row["path"]) == ("a", content, None)


def test_a_digest_that_is_given_is_checked(clips: Clips, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=1)
    place = str(tmp_path / "table")
    write_deltalake(place, pa.table({"key": ["a"], "path": [str(path)], "sha": ["0" * 64]}))
    found = clips.probe(TableRef(uri=place, version=0), digest="sha")
    assert found.refused == {"changed": 1}


def test_a_digest_that_is_blank_is_computed(clips: Clips, tmp_path: Path) -> None:
    path, place = write_clip(tmp_path / "a.mp4", seconds=1), str(tmp_path / "table")
    write_deltalake(place, pa.table({"key": ["a", "b"], "path": [str(path), "/"], "sha": ["", "0" * 64]}))
    table = TableRef(uri=place, version=0)
    assert clips.probe(table, digest="sha").refused == {"not_a_file": 1}
    write_clip(path, seconds=2)
    (row,) = rows_of(clips.probe(table, digest="sha").table)
    assert (round(row["seconds"]), row["digest"]) == (2, hashlib.sha256(path.read_bytes()).hexdigest())


def test_paths_may_be_uris_as_spark_lists_files(clips: Clips, tmp_path: Path, step: Any) -> None:
    path = write_clip(tmp_path / "a b.mp4", seconds=1)
    uris = [f"file:{path}", path.as_uri(), f"file://{path}", "file:/none.mp4", "s3://bucket/a.mp4"]
    table = clips.write([{"key": str(number), "path": uri} for number, uri in enumerate(uris)])
    found = clips.probe(table)
    assert (found.rows, found.refused) == (3, {"missing": 1, "outside": 1})
    assert [row["path"] for row in rows_of(found.table)] == uris[:3]
    config = {"to": str(tmp_path / "probed"), "quarantine": str(tmp_path / "refused")}
    step("probe_videos", config, table=table)
    write_clip(path, seconds=2)
    assert not step("probe_videos", config, table=table).reused


@pytest.mark.parametrize(
    "keys",
    [[1.0], [1.5], [datetime(2026, 1, 1, tzinfo=UTC)], [{"a": 1}], [["a"]], [b"\xff"], [Decimal("1.5")]],
)
def test_keys_that_engines_spell_differently_are_refused(
    clips: Clips, tmp_path: Path, keys: list[Any]
) -> None:
    place = str(tmp_path / "table")
    write_deltalake(place, pa.table({"key": keys, "path": ["/none.mp4"]}))
    with pytest.raises(TableError, match="a video's key is a text, a whole number or a date"):
        clips.probe(TableRef(uri=place, version=0))


@pytest.mark.parametrize("key", [7, True, date(2026, 1, 31), Decimal(12)])
def test_keys_need_not_be_texts_and_columns_may_have_any_name(clips: Clips, tmp_path: Path, key: Any) -> None:
    path, place = write_clip(tmp_path / "a.mp4", seconds=1), str(tmp_path / "table")
    write_deltalake(place, pa.table({"k.e y": [key], "\u8def\u5f84": [str(path)], "kept. 1": [key]}))
    table = TableRef(uri=place, version=0)
    (row,) = rows_of(clips.probe(table, key="k.e y", path="\u8def\u5f84", keep=["kept. 1"]).table)
    assert (row["key"], row["kept. 1"]) == (str(key).lower(), key)


def test_what_was_refused_is_tried_again_when_it_may_go_well(clips: Clips, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=2)
    table = clips.write([{"key": "a", "path": str(path)}])
    short = clips.probe(table, limits={"max_seconds": 1})
    assert short.refused == {"too_long": 1}
    assert clips.probe(table, limits={"max_seconds": 1}).worked_on == 0
    longer = clips.probe(table)
    assert (longer.rows, longer.refused) == (1, {})


def test_a_file_that_comes_late_or_is_put_right_is_read_although_its_digest_is_given(
    clips: Clips, tmp_path: Path
) -> None:
    right, path = write_clip(tmp_path / "right.mp4").read_bytes(), tmp_path / "a.mp4"
    place = str(tmp_path / "table")
    digest = hashlib.sha256(right).hexdigest()
    write_deltalake(place, pa.table({"key": ["a"], "path": [str(path)], "sha": [digest]}))
    table = TableRef(uri=place, version=0)
    assert clips.probe(table, digest="sha").refused == {"missing": 1}
    path.write_bytes(b"another one")
    assert clips.probe(table, digest="sha").refused == {"changed": 1}
    path.write_bytes(right)
    found = clips.probe(table, digest="sha")
    assert (found.rows, found.refused) == (1, {})


def test_rows_have_the_path_and_the_subtitles_of_today(clips: Clips, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    moved, beside = tmp_path / "b.mp4", tmp_path / "b.srt"
    clips.probe(clips.write([{"key": "a", "path": str(path)}]))
    path.rename(moved)
    table = clips.write([{"key": "a", "path": str(moved)}])
    (row,) = rows_of(clips.probe(table).table)
    assert (row["path"], row["subtitles"]) == (str(moved), None)
    for text in ("first", "second"):
        beside.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n{text}\n")
        (row,) = rows_of(clips.probe(table).table)
        assert (row["subtitles"], row["subtitles_from"]) == (text, "b.srt")


def test_a_step_is_not_reused_when_a_file_has_come(step: Any, clips: Clips, tmp_path: Path) -> None:
    table = clips.write([{"key": "a", "path": str(tmp_path / "a.mp4")}])
    config = {"to": str(tmp_path / "probed"), "quarantine": str(tmp_path / "refused")}
    assert rows_of(step("probe_videos", config, table=table).outputs["table"]) == []
    assert step("probe_videos", config, table=table).reused
    write_clip(tmp_path / "a.mp4")
    again = step("probe_videos", config, table=table)
    assert (again.reused, len(rows_of(again.outputs["table"]))) == (False, 1)


@pytest.mark.parametrize(
    ("rows", "more", "kind", "said"),
    [
        ([{"key": "a"}, {"key": "a"}], {}, TableError, "a key of its own"),
        ([{"key": None}], {}, TableError, "a key of its own"),
        ([{"key": "a"}], {"keep": ["path"]}, ConfigError, "a name of its own"),
        ([{"key": "a"}], {"path": None}, ConfigError, "set path or content"),
        ([{"key": "a"}], {"path": "pth"}, TableError, "did you mean 'path'"),
    ],
)
def test_wrong_tables_are_refused(
    clips: Clips, rows: list[dict[str, Any]], more: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        clips.probe(clips.write(rows), **more)


def test_an_empty_table_gives_empty_tables(clips: Clips) -> None:
    found = clips.probe(clips.write([]))
    assert (found.videos, found.rows, found.refused) == (0, 0, {})
    assert read_arrow(found.table).num_rows == 0
