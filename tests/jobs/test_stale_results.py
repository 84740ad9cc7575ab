"""A finished result is made again when what it was made of, or what it made, is not what it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow

Step = Any
CONFIG: dict[str, Any] = {"key": "id", "text": "body", "labels": ["topic"]}


def write_raw(place: Path, word: str) -> None:
    rows = [{"id": n, "body": f"{word} {n}", "topic": "gm"[n % 2]} for n in range(60)]
    rows.append({"id": 60, "body": "", "topic": "g"})  # for the quarantine
    write_deltalake(
        str(place), pa.Table.from_pylist(rows), configuration={"delta.enableChangeDataFeed": "true"}
    )


def flip(table: str) -> None:
    """Damage one data file of a table; its size stays."""
    file = Path(DeltaTable(table).file_uris()[0])
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("incremental", [True, False])
def test_a_source_that_was_written_anew_makes_another_dataset(
    step: Step, tmp_path: Path, incremental: bool
) -> None:
    raw, config = tmp_path / "raw", {**CONFIG, "incremental": incremental}
    write_raw(raw, "grain")
    first = step("delta_table", {"uri": str(raw)}).outputs["table"]
    dataset = step("build_dataset", config, table=first).outputs["dataset"]
    assert step("delta_table", {"uri": str(raw)}).reused
    shutil.rmtree(raw)
    write_raw(raw, "bank")
    again = step("delta_table", {"uri": str(raw)})
    assert (again.reused, again.outputs["table"]) == (False, first), "version 0 again"
    made = step("build_dataset", config, table=first)
    assert not made.reused
    assert made.outputs["dataset"].version == dataset.version + 1
    texts = read_arrow(made.outputs["dataset"], columns=["body"]).column(0).to_pylist()
    assert all(text.startswith("bank") for text in texts)


@pytest.mark.parametrize("table", ["dataset", "quarantine"])
def test_a_damaged_dataset_is_built_again(step: Step, tmp_path: Path, table: str) -> None:
    write_raw(tmp_path / "raw", "grain")
    raw = TableRef(uri=str(tmp_path / "raw"), version=0)
    first = step("build_dataset", CONFIG, table=raw)
    rows = read_arrow(first.outputs["dataset"])
    flip(first.outputs[table].uri)
    again = step("build_dataset", CONFIG, table=raw)
    assert not again.reused
    assert read_arrow(again.outputs["dataset"]) == rows
    assert read_arrow(again.outputs["quarantine"]).num_rows == 1
    assert step("build_dataset", CONFIG, table=raw).run_id == again.run_id


def test_a_result_that_another_table_has_replaced_is_made_again(step: Step, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", "grain")
    raw = TableRef(uri=str(tmp_path / "raw"), version=0)
    dataset = step("build_dataset", CONFIG, table=raw).outputs["dataset"]
    shutil.rmtree(dataset.uri)
    write_deltalake(dataset.uri, pa.table({"other": [1]}))  # version 0 again
    made = step("build_dataset", CONFIG, table=raw)
    assert not made.reused
    assert read_arrow(made.outputs["dataset"], columns=["body"]).num_rows == 60


def test_an_ingested_table_that_was_deleted_is_loaded_again(step: Step, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    config = {"source": str(tmp_path / "*.jsonl"), "to": str(tmp_path / "table")}
    first = step("ingest", config)
    shutil.rmtree(tmp_path / "table")
    again = step("ingest", config)
    assert not again.reused
    assert read_arrow(again.outputs["table"]).num_rows == 2
    assert again.run_id != first.run_id
    assert step("ingest", config).run_id == again.run_id


def test_an_ingested_table_that_is_damaged_is_refused_by_name(step: Step, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    config = {"source": str(tmp_path / "*.jsonl"), "to": str(tmp_path / "table")}
    step("ingest", config)
    file = next((tmp_path / "table").rglob("*.parquet"))
    file.unlink()
    with pytest.raises(TableError, match=file.name):
        step("ingest", config)


def test_an_ingest_that_dies_after_its_commit_goes_on_in_the_same_run(
    step: Step, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelmill.registry.tracking import TrackedRun

    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    config = {"source": str(tmp_path / "*.jsonl"), "to": str(tmp_path / "table")}
    with monkeypatch.context() as patch:
        patch.setattr(TrackedRun, "log_dataset", _die)
        patch.setattr(TrackedRun, "fail", lambda *_, **__: None)  # a killed process ends no run
        with pytest.raises(SystemExit):
            step("ingest", config)
    result = step("ingest", config)
    client = tracking_client(settings.tracking_uri)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [(run.info.run_id, run.info.status) for run in runs] == [(result.run_id, "FINISHED")]
    assert read_arrow(result.outputs["table"]).num_rows == 2


def _die(*_: object, **__: object) -> None:
    raise SystemExit
