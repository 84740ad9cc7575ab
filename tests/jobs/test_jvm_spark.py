"""The same jobs, unchanged, on a JVM Spark: same tables as the embedded engine makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import ModelRef, TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.errors import ConfigError, DatasetError, TableError
from modelmill.serving.scoring import ScoreTableRequest
from modelmill.tables.ingest import IngestRequest
from modelmill.tables.reading import read_arrow
from modelmill_jobs import build_dataset, ingest, score_table
from modelmill_jobs.reading import read_table

pytestmark = pytest.mark.jvm

OPTIONS = BuildOptions.model_validate(
    {
        "key": "id",
        "text": "text",
        "labels": ["topic"],
        "keep": ["n"],
        "split": {"validation": 0.2, "test": 0.3},
    }
)


def articles(count: int = 400) -> list[dict[str, Any]]:
    words = ["grain", "bank"]
    rows: list[dict[str, Any]] = [
        {"id": f"r{n}", "text": f"{words[n % 2]} {n % 350} é", "topic": words[n % 2], "n": n / 4}
        for n in range(count)
    ]
    rows += [
        {"id": "e1", "text": "\u2003 \t", "topic": "grain", "n": 1},
        {"id": "e2", "topic": "bank", "n": 2},
    ]
    rows += [{"id": "c1", "text": "both", "topic": "grain"}, {"id": "c2", "text": "both", "topic": "bank"}]
    return rows


def run_all(spark: Any, source: Path, folder: Path, bundle: tuple[Path, ModelRef]) -> dict[str, Any]:
    """Run the three jobs one after the other, and return what they made and said."""
    files = str(source / "*.jsonl")
    loaded = ingest.main(IngestRequest(source=files, to=str(folder / "raw")), spark)
    raw = loaded.table
    request = BuildDatasetRequest(table=raw, options=OPTIONS, to=str(folder / "dataset"), transaction="k")
    built = build_dataset.main(request, spark)
    again = build_dataset.main(request, spark)
    scoring = ScoreTableRequest(
        table=raw,
        model=bundle[1],
        bundle=str(bundle[0]),
        text="text",
        answer_type="string",
        keep=("id",),
        to=str(folder / "scored"),
        transaction="k",
    )
    scored = score_table.main(scoring, spark)
    return {
        "loaded": [loaded.files, loaded.files_found, loaded.rows],
        "raw": read_arrow(raw).sort_by("id"),
        "fates": built.build.fates,
        "summary": built.build.summary,
        "recipe": built.build.recipe,
        "versions": [built.dataset.version, again.dataset.version, scored.table.version],
        "dataset": read_arrow(built.dataset),
        "refused": read_arrow(built.quarantine).sort_by("id"),
        "scored": read_arrow(scored.table).sort_by("id"),
        "predictions": scored.predictions,
        "unscored": scored.unscored,
    }


def test_both_engines_make_the_same_tables(
    sail: Any, jvm: Any, tmp_path: Path, bundle: tuple[Path, ModelRef]
) -> None:
    source = tmp_path / "landing"
    source.mkdir()
    rows = [json.dumps(row) + "\n" for row in articles()]
    (source / "a.jsonl").write_text("".join(rows[:300]))
    (source / "b.jsonl").write_text("".join(rows[300:]))
    embedded = run_all(sail, source, tmp_path / "embedded", bundle)
    on_jvm = run_all(jvm, source, tmp_path / "jvm", bundle)
    assert sum(embedded["fates"].reasons.values()) == 4
    assert embedded["fates"].states == {"duplicate": 50}
    assert embedded["unscored"] == 2
    for name, value in embedded.items():
        assert value == on_jvm[name], name


def test_a_table_that_one_engine_wrote_grows_on_the_other(sail: Any, jvm: Any, tmp_path: Path) -> None:
    request = IngestRequest(source=str(tmp_path / "*.jsonl"), to=str(tmp_path / "table"))
    (tmp_path / "a.jsonl").write_text('{"id": 1, "when": null, "x": 1.5}\n')
    assert ingest.main(request, sail).table.version == 0
    (tmp_path / "b.jsonl").write_text('{"id": 2, "when": "now", "x": 2}\n')
    assert ingest.main(request, jvm).table.version == 1
    assert ingest.main(request, sail).files == 0
    rows = read_arrow(TableRef(uri=str(tmp_path / "table"), version=1)).sort_by("id").to_pylist()
    assert rows == [{"id": 1, "when": None, "x": 1.5}, {"id": 2, "when": "now", "x": 2.0}]


@pytest.mark.parametrize(("name", "value"), [("plain", "b c/d"), ("odd é place", "b")])
def test_partitions_and_old_schemas_are_read_alike(
    sail: Any, jvm: Any, tmp_path: Path, name: str, value: str
) -> None:
    place = str(tmp_path / name)
    part = ["a", None, value, "a"]
    write_deltalake(place, pa.table({"n": [1, 2, 3, 4], "part": part}), partition_by=["part"])
    more = pa.table({"n": [5], "part": ["a"], "new": ["x"]})
    write_deltalake(place, more, partition_by=["part"], mode="append", schema_mode="merge")
    DeltaTable(place).delete("n = 4")
    for version in (0, 1, 2):
        ref = TableRef(uri=place, version=version)
        expected = sorted(map(str, read_arrow(ref).to_pylist()))
        for spark in (sail, jvm):
            assert sorted(str(row.asDict()) for row in read_table(spark, ref).collect()) == expected


def test_refusals_are_the_same(jvm: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1,\n')
    request = IngestRequest(source=str(tmp_path / "*.jsonl"), to=str(tmp_path / "table"))
    with pytest.raises(TableError, match="must be readable") as caught:
        ingest.main(request, jvm)
    assert "\n" not in str(caught.value)
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(ConfigError, match="SQL over the files' columns"):
        ingest.main(request.model_copy(update={"where": "nonsense(id)"}), jvm)
    assert not (tmp_path / "table").exists()
    write_deltalake(
        str(tmp_path / "raw"), pa.table({"id": ["1", "2"], "text": ["", " "], "topic": ["x", "y"]})
    )
    building = BuildDatasetRequest(
        table=TableRef(uri=str(tmp_path / "raw"), version=0),
        options=OPTIONS.model_copy(update={"keep": ()}),
        to=str(tmp_path / "d"),
    )
    with pytest.raises(DatasetError, match="must have texts"):
        build_dataset.main(building, jvm)
    assert not (tmp_path / "d").exists()
