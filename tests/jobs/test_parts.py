"""Rows cut into parts: each row is in one part, those of one key together, and failed tasks add nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake.fs import DeltaStorageHandler
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import PyFileSystem

from modelmill_jobs import parts
from modelmill_jobs.row_decisions import _key_edges
from modelmill_jobs.staging import Stage

KEY = "a.key"
SCHEMA = pa.schema([("text", pa.string()), (KEY, pa.int64()), ("classes", pa.list_(pa.string()))])


def rows(count: int) -> pa.Table:
    keys = [(number % 37 - 18) * (10**17 + 1) for number in range(count)]
    classes = [[f"c{number % 3}"] * (number % 4) or None for number in range(count)]
    return pa.table(
        {"text": [f"é{n}" if n % 5 else None for n in range(count)], KEY: keys, "classes": classes}
    )


def seen(part: pa.Table) -> pa.Table:
    """Give each row the number of rows that came with it."""
    return part.append_column("together", pa.array([part.num_rows] * part.num_rows, pa.int64()))


def told(staged: Any) -> Any:
    """The columns of what :func:`seen` returns."""
    from pyspark.sql.types import LongType, StructField, StructType

    return StructType([*staged.schema.fields, StructField("together", LongType())])


@pytest.mark.parametrize("tasks", [1, 3])
def test_rows_of_one_key_come_together_and_no_row_is_lost(
    sail: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int
) -> None:
    monkeypatch.setattr(parts, "_PIECE_BYTES", 500)
    stage, table = Stage(sail, str(tmp_path), "_index/one"), rows(1000)
    staged = sail.createDataFrame(table.cast(SCHEMA)).repartition(tasks)
    found = stage.by_parts(staged, KEY, "result", seen, told(staged), count=1000, each=250).toArrow()
    assert sorted(map(str, found.select(SCHEMA.names).to_pylist())) == sorted(map(str, table.to_pylist()))
    sizes = {part: len(list(same)) for part, same in itertools.groupby(sorted(found["together"].to_pylist()))}
    assert len(sizes) > 1
    assert all(count % size == 0 for size, count in sizes.items()), "every row knows how many it came with"
    together: dict[int, set[int]] = {}
    for row in found.to_pylist():
        together.setdefault(row[KEY], set()).add(row["together"])
    assert all(len(sizes) == 1 for sizes in together.values()), "rows of a key are in one part"
    assert stage.rows("result") == 1000
    assert not (tmp_path / "_index/one/result_parts").exists(), "what was cut is removed at once"


def test_no_rows_have_no_parts(sail: Any, tmp_path: Path) -> None:
    stage = Stage(sail, str(tmp_path), "_index/none")
    staged = sail.createDataFrame(rows(10).cast(SCHEMA)).limit(0)
    found = stage.by_parts(staged, KEY, "result", seen, told(staged), count=10, each=2)
    assert (found.count(), found.columns) == (0, [*SCHEMA.names, "together"])


def test_a_file_that_a_failed_task_has_left_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_PIECE_BYTES", 1)
    batch = rows(10).cast(SCHEMA).to_batches()[0]
    write = parts._cutting(str(tmp_path), "cut", SCHEMA.names, parts.by_key(KEY, 2))
    (path,) = (one["path"][0].as_py() for one in write(iter([batch])))

    def broken() -> Iterator[pa.RecordBatch]:
        yield batch
        raise OSError("the worker is gone")

    with pytest.raises(OSError, match="gone"):
        list(write(broken()))
    cut = parts.CutRows(str(tmp_path), "cut", (path,), 2)
    assert len(list((tmp_path / "cut").iterdir())) == 2
    found = [
        row for part in (0, 1) for one in cut.on_part(part, lambda t: t)(iter([])) for row in one.to_pylist()
    ]
    assert sorted(map(str, found)) == sorted(map(str, batch.to_pylist()))
    assert list(write(iter([]))) == []


def test_parts_lie_in_a_store_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # delta-rs's own files, which a store other than the disk is reached by.
    files = PyFileSystem(DeltaStorageHandler(str(tmp_path)))
    monkeypatch.setattr(parts, "table_files", lambda _place: files)
    numbers = np.random.default_rng(0).integers(0, 2**62, 300_000)
    table = pa.table({"key": numbers, "text": [str(number) for number in numbers]})
    write = parts._cutting("s3://bucket/table", "cut", table.schema.names, parts.by_key("key", 2))
    (written,) = write(iter(table.to_batches(max_chunksize=8192)))
    cut = parts.CutRows("s3://bucket/table", "cut", (written["path"][0].as_py(),), 2)
    read = [batch for part in (0, 1) for batch in cut.on_part(part, lambda table: table)(iter([]))]
    assert pa.Table.from_batches(read).sort_by("key").equals(table.sort_by("key"))


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 1), st.integers(-3, 3)), max_size=40))
def test_clusters_that_share_a_key_are_joined(keys: list[tuple[int, int, int]]) -> None:
    columns = list(zip(*keys, strict=True)) or [(), (), ()]
    names = ("_mm_key", "_mm_key_more", "_mm_cluster")
    table = pa.table(
        {name: pa.array(column, pa.int64()) for name, column in zip(names, columns, strict=True)}
    )
    clusters: dict[tuple[int, int], set[int]] = {}
    for key, more, cluster in keys:
        clusters.setdefault((key, more), set()).add(cluster)
    expected = [(min(found), other) for found in clusters.values() for other in found if other != min(found)]
    edges = _key_edges(table).to_pydict()
    assert sorted(zip(edges["one"], edges["other"], strict=True)) == sorted(expected)
