"""The main job, small: a table with other column names and other labels needs another YAML and nothing else.

Every step is a process of its own, as under Airflow; Spark, Delta, PyTorch, ONNX Runtime and MLflow are real.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.pipeline.local_run import run_pipeline
from modelmill.pipeline.request import StepResult
from modelmill.pipeline.spec import PipelineSpec
from modelmill.pipeline.validation import parse_pipeline
from modelmill.registry.ledger import entries
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

Rows = Callable[..., list[tuple[str, str]]]
TRAINING = ("teacher", "student", "exported")


def table_of(rows: list[tuple[str, str]], *, first: int = 0) -> pa.Table:
    numbers = range(first, first + len(rows))
    return pa.table(
        {
            "ticket": [f"T{number}" for number in numbers],
            "message": [f"{text} {number}" for number, (text, _) in zip(numbers, rows, strict=True)],
            "desk": [topic for _, topic in rows],
        }
    )


@pytest.fixture
def pipeline(tmp_path: Path, tiny_base_model: Path, topic_rows: Rows) -> PipelineSpec:
    write_deltalake(str(tmp_path / "tickets"), table_of(topic_rows(160)))
    fast = "epochs: 6, batch_size: 8, learning_rate: 3.0e-3, head_learning_rate: 1.0e-2"
    return parse_pipeline(f"""
pipeline: tickets
params:
  epochs: {{default: 6}}
steps:
  raw:      {{component: delta_table,   config: {{uri: {tmp_path}/tickets}}}}
  dataset:
    component: build_dataset
    inputs: {{table: raw.table}}
    config: {{key: ticket, text: message, labels: [desk], split: {{test: 0.3, validation: 0.1}}}}
  teacher:
    component: fine_tune
    inputs: {{dataset: dataset.dataset}}
    config:
      {{base_model: {tiny_base_model}, max_tokens: 16, frozen_layers: 0, checkpoint_seconds: 0.1, {fast}}}
  student:
    component: distill
    inputs: {{dataset: dataset.dataset, teacher: teacher.model}}
    config: {{layers: 1, {fast}}}
  exported: {{component: quantize,      inputs: {{dataset: dataset.dataset, model: student.model}}}}
  report:
    component: evaluate
    inputs: {{dataset: dataset.dataset, models: [teacher.model, exported.model]}}
    config: {{resamples: 200, throughput_rows: 32}}
  verdict:
    component: gate
    inputs: {{dataset: dataset.dataset, challenger: exported.model}}
    config: {{name: ticket_desk, max_drop: 0.1, max_below_baseline: 0.1, resamples: 200}}
  champion: {{component: promote,       inputs: {{verdict: verdict.verdict}}}}
  scored:
    component: score_table
    inputs: {{table: raw.table, model: champion.model}}
    config: {{to: {tmp_path}/scored}}
""")


def versions(settings: Settings) -> list[str]:
    client = tracking_client(settings.tracking_uri)
    return [str(version.version) for version in client.search_model_versions("name = 'ticket_desk'")]


def reused(results: dict[str, StepResult]) -> set[str]:
    return {name for name, result in results.items() if result.reused}


def test_nights_without_and_with_new_rows(
    pipeline: PipelineSpec, settings: Settings, tmp_path: Path, topic_rows: Rows
) -> None:
    first = run_pipeline(pipeline, settings=settings)
    champion = first["champion"].outputs["model"]
    assert isinstance(champion, ModelRef)
    assert champion.uri == "models:/ticket_desk/1"
    tracking_client(settings.tracking_uri)
    loaded = mlflow.pyfunc.load_model("models:/ticket_desk@champion")
    answers = loaded.predict(pd.DataFrame({"message": ["the goal of the team", "bank loan price"]}))
    assert answers["prediction"].tolist() == ["sport", "trade"]
    scored = first["scored"].outputs["table"]
    assert isinstance(scored, TableRef)
    frame = DeltaTable(scored.uri, version=scored.version).to_pandas()
    assert len(frame) == 160
    assert (frame["prediction"] == frame["desk"]).mean() > 0.9

    again = run_pipeline(pipeline, settings=settings)
    assert reused(again) >= {"raw", "dataset", *TRAINING, "report", "scored"}
    assert versions(settings) == ["1"]

    write_deltalake(str(tmp_path / "tickets"), table_of(topic_rows(50, seed=9), first=500), mode="append")
    later = run_pipeline(pipeline, settings=settings)
    assert reused(later) == set()
    dataset = later["dataset"].outputs["dataset"]
    assert isinstance(dataset, DatasetRef)
    assert dataset.version == 1
    assert set(versions(settings)) == {"1", "2"}
    tags = tracking_client(settings.tracking_uri).get_model_version("ticket_desk", "2").tags
    assert tags["modelmill.dataset"] == f"{dataset.uri}@1"
    assert [row.to_version for row in entries(settings)] == [1, 2]
    assert first["raw"].outputs["table"].version == 0
    assert later["raw"].outputs["table"].version == 1


def test_a_training_killed_on_the_way_ends_in_the_same_single_run(
    pipeline: PipelineSpec, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = threading.Event()

    def kill_once() -> None:
        """Wait for the first checkpoint, then kill -9 the process that trains."""
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not killed.is_set():
            for path in settings.home.glob("steps/*/checkpoints/*"):
                process = _trainer_of(settings)
                if process and not path.name.startswith("."):
                    os.kill(process, signal.SIGKILL)
                    killed.set()
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=kill_once)
    thread.start()
    with pytest.raises(Exception, match="SIGKILL"):
        run_pipeline(pipeline, settings=settings)
    thread.join()
    assert killed.is_set()
    results = run_pipeline(pipeline, settings=settings)
    client = tracking_client(settings.tracking_uri)
    (experiment,) = [item.experiment_id for item in client.search_experiments() if item.name == "tickets"]
    runs = client.search_runs([experiment], filter_string="tags.`modelmill.step` = 'teacher'")
    assert [(run.info.run_id, run.info.status) for run in runs] == [(results["teacher"].run_id, "FINISHED")]
    assert versions(settings) == ["1"]


def _trainer_of(settings: Settings) -> int | None:
    """The process of this test's fine_tune step: a fork, in the session of what has forked it."""
    for entry in Path("/proc").iterdir():
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            is_fork = b"modelmill.cli.step_forks" in command and os.getsid(int(entry.name)) != int(entry.name)
            if is_fork and str(settings.home).encode() in environment:
                return int(entry.name)
        except (OSError, ValueError):
            continue
    return None
