"""The steps around the jobs: configuration, MLflow, reuse, refusals that leave nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.datasets.report import DatasetReport, class_balance, text_lengths
from modelmill.errors import ConfigError, InputError, TableError, TransientError
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.spark import session
from modelmill.steps.ingest import IngestConfig
from modelmill.steps.score_table import ScoreTableConfig, ScoreTableInputs
from modelmill.steps.score_table import run as score
from modelmill.tables.ingest import source_fingerprint
from modelmill.tables.reading import read_arrow
from modelmill.tables.source_files import list_files

Step = Any


@pytest.fixture
def raw(tmp_path: Path) -> TableRef:
    rows = [
        {"id": n, "body": f"{'grain' if n % 2 else 'bank'} {n}", "topic": "gm"[n % 2], "blob": b"x"}
        for n in range(60)
    ]
    write_deltalake(str(tmp_path / "raw"), pa.Table.from_pylist([*rows, {**rows[0], "id": 99, "body": ""}]))
    return TableRef(uri=str(tmp_path / "raw"), version=0)


CONFIG: dict[str, Any] = {"key": "id", "text": "body", "labels": ["topic"]}


def runs(settings: Settings) -> list[Any]:
    client = tracking_client(settings.tracking_uri)
    return list(client.search_runs([item.experiment_id for item in client.search_experiments()]))


def test_a_dataset_step_makes_and_logs_a_dataset(
    step: Step, settings: Settings, raw: TableRef, capsys: pytest.CaptureFixture[str]
) -> None:
    result = step("build_dataset", CONFIG, table=raw)
    said = capsys.readouterr().out  # the job says what it does, in the log of its step
    assert "61 rows are read and checked; copies are looked for\ncopies are found; the rows are split" in said
    dataset, quarantine = result.outputs["dataset"], result.outputs["quarantine"]
    place = settings.home / "datasets/news/build_dataset"
    assert dataset == DatasetRef(
        uri=str(place), version=0, key="example_key", text="body", labels=("topic",), split="split"
    )
    assert quarantine == TableRef(uri=f"{place}_quarantine", version=0)
    assert read_arrow(quarantine).to_pylist()[0]["id"] == 99
    (run,) = runs(settings)
    assert {name: run.data.metrics[name] for name in ("rows_in", "rows_out", "rows_quarantined")} == {
        "rows_in": 61,
        "rows_out": 60,
        "rows_quarantined": 1,
    }
    (source,) = run.inputs.dataset_inputs
    assert json.loads(source.dataset.source) == {"path": raw.uri, "delta_table_version": 0}
    client = tracking_client(settings.tracking_uri)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
        "class_balance_topic.png",
        "text_lengths.png",
        "dataset.json",
    }
    assert step("build_dataset", CONFIG, table=raw).reused
    assert read_arrow(dataset, columns=["example_key"]).num_rows == 60


def test_a_dataset_that_somebody_deleted_is_made_again(step: Step, raw: TableRef) -> None:
    first = step("build_dataset", CONFIG, table=raw)
    assert step("build_dataset", CONFIG, table=raw).reused
    dataset = first.outputs["dataset"]
    assert isinstance(dataset, DatasetRef)
    content = read_arrow(dataset)
    shutil.rmtree(dataset.uri)
    again = step("build_dataset", CONFIG, table=raw)
    assert not again.reused
    assert read_arrow(dataset).equals(content)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"text": "bdy"}, TableError, "did you mean 'body'"),
        ({"labels": ["topics"]}, TableError, "did you mean 'topic'"),
        ({"split": {"column": "nothing"}}, TableError, "got 'nothing'"),
        ({"text": "blob"}, TableError, "columns of simple values"),
        ({"labels": ["topic", "topic"]}, ConfigError, "named once: 'topic', 'topic'"),
    ],
)
def test_a_wrong_configuration_is_refused_and_leaves_nothing(
    step: Step, settings: Settings, raw: TableRef, change: dict[str, Any], kind: type[InputError], said: str
) -> None:
    with pytest.raises(kind) as caught:
        step("build_dataset", {**CONFIG, **change}, table=raw)
    assert said in str(caught.value)
    assert runs(settings) == []
    assert not (settings.home / "datasets").exists()


def test_a_dataset_is_not_written_over_its_source(step: Step, raw: TableRef) -> None:
    with pytest.raises(ConfigError, match="not written over its source"):
        step("build_dataset", {**CONFIG, "to": raw.uri}, table=raw)


def test_a_dataset_that_cannot_be_written_is_refused(step: Step, raw: TableRef, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TableError, match="must be writable"):
        step("build_dataset", {**CONFIG, "to": str(tmp_path / "file" / "dataset")}, table=raw)


def test_ingest_runs_again_only_when_files_or_table_change(step: Step, tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    landing.mkdir()
    (landing / "a.jsonl").write_text('{"id": 1}\n')
    config = {"source": str(landing / "*.jsonl"), "to": str(tmp_path / "table")}
    assert step("ingest", config).outputs["table"].version == 0
    assert step("ingest", config).reused
    before = source_fingerprint(IngestConfig.model_validate(config))
    shutil.copy(landing / "a.jsonl", landing / "b.jsonl")
    after_file = source_fingerprint(IngestConfig.model_validate(config))
    assert after_file != before
    again = step("ingest", config)
    assert (again.reused, again.outputs["table"].version) == (False, 1)
    write_deltalake(str(tmp_path / "table"), pa.table({"id": [5]}), mode="append")
    assert step("ingest", config).outputs["table"].version == 2
    assert step("ingest", config).reused


def test_files_are_listed_by_path_or_glob_and_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1")
    (tmp_path / "b.jsonl").write_text("1")
    one, other = list_files(str(tmp_path / "*.jsonl"))
    assert (one.path, one.size) == (str(tmp_path / "a.jsonl"), 1)
    assert one.digest == other.digest
    assert one.transactions != other.transactions
    assert list_files(str(tmp_path / "a.jsonl")) == [one]
    assert list_files(str(tmp_path / "c*")) == []


def test_a_scoring_step_scores_with_a_logged_model(
    step_context: StepContext, raw: TableRef, bundle: tuple[Path, ModelRef], tmp_path: Path
) -> None:
    dataset = DatasetRef(uri="/d", version=0, key="k", text="body", labels=("topic",), split="s")
    model = log_model(bundle[0], role="exported", dataset=dataset, context=step_context)
    config = ScoreTableConfig(to=str(tmp_path / "scored"), text="body", keep=("id",))
    inputs = ScoreTableInputs(table=raw, model=model)
    scored = score(config, inputs, step_context).table
    rows = read_arrow(scored).sort_by("id").to_pylist()
    assert [row["prediction"] for row in rows[:3]] == ["money", "grain", "money"]
    assert rows[-1] == {"id": 99, "prediction": None, "score": None, "model": model.uri}
    assert DeltaTable(scored.uri).version() == scored.version == 0
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert (metrics["rows"], metrics["rows_unscored"]) == (61, 1)
    with pytest.raises(TableError, match="got 'text'"):
        score(ScoreTableConfig(to=str(tmp_path / "other")), inputs, step_context)
    inputs = ScoreTableInputs(table=scored, model=model)
    with pytest.raises(ConfigError, match="own columns are"):
        score(ScoreTableConfig(to=str(tmp_path / "x"), text="prediction"), inputs, step_context)
    assert not (tmp_path / "other").exists()


def test_the_plot_shows_each_split(tmp_path: Path) -> None:
    report = DatasetReport(
        source="t@0",
        mode="full",
        rows_in=3,
        rows_out=3,
        quarantined=0,
        duplicates=0,
        near_duplicates=0,
        leaks=0,
        reasons={},
        splits={"train": 2, "validation": 0, "test": 1},
        classes={
            "topic": {"x": {"train": 2}, "y": {"test": 1}},
            "team": {"a b": {}, "A  B": {}, "c": {}},
        },
        numbers={},
        lengths={"train": {8: 1, 16: 1}, "test": {16: 1}},
        content_hash="0" * 64,
    )
    assert str(report).endswith("; team has classes that differ in case or blanks alone: 'A  B', 'a b'")
    (axes,) = class_balance(report, "topic").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    assert [bar.get_width() for bar in axes.patches] == [2, 0, 0, 0, 0, 1]
    (axes,) = text_lengths(report).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()} == {
        "train": [0.5, 0.5],
        "test": [0, 1],
    }


@pytest.mark.parametrize(
    ("remote", "kind"), [("spark://host:1", ConfigError), ("sc://127.0.0.1:1", TransientError)]
)
def test_an_engine_that_cannot_be_reached_is_named(
    settings: Settings, remote: str, kind: type[Exception]
) -> None:
    wrong = Settings(
        home=settings.home,
        ledger="",
        deployments="",
        spark_remote=remote,
        python="",
        tracking_uri=settings.tracking_uri,
    )
    with pytest.raises(kind, match=remote), session(wrong):
        pass
