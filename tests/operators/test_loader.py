"""Pipeline files to DAGs: what they become, that they stay the same, and what parsing them costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from airflow.sdk import DAG, Asset, AssetAll
from airflow.sdk.definitions.param import ParamsDict
from airflow.serialization.encoders import encode_trigger

from modelmill.errors import ConfigError
from modelmill.pipeline.validation import parse_pipeline
from modelmill_operators.documents import digest_in, pipeline_in
from modelmill_operators.loader import build_dag, load_pipelines

SHIPPED = Path(__file__).parents[2] / "dags"
HEAVY = (
    "torch",
    "transformers",
    "pyspark",
    "mlflow",
    "deltalake",
    "pandas",
    "sklearn",
    "onnxruntime",
    "fastapi",
)

Parse = Callable[[], dict[str, DAG]]

NIGHTLY = """
pipeline: nightly
description: |
  Topics, every night.
  See notes.md
schedule: "0 2 * * *"
tags: [text]
params:
  data: {description: Where the tables lie}
  base_model: {default: /models/minilm}
  epochs: {default: 2}
steps:
  raw: {component: ingest, config: {source: "${data}/landing/*.jsonl", to: "${data}/raw"}}
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config: {text: text, labels: [topic], to: relative/dataset}
  teacher:
    component: fine_tune
    retries: 5
    inputs: {dataset: dataset.dataset}
    config: {base_model: "${base_model}", epochs: "${epochs}"}
  report: {component: evaluate, inputs: {dataset: dataset.dataset, models: [teacher.model]}}
  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: teacher.model}
    config: {name: topics}
  champion: {component: promote, inputs: {verdict: verdict.verdict}}
"""
AFTER = """
pipeline: after
params: {data: {}}
schedule: {table: "${data}/raw"}
steps:
  raw: {component: delta_table, config: {uri: "${data}/raw"}}
  scored: {component: ingest, config: {source: /landing, to: "${data}/other"}}
"""
MINIMAL = "pipeline: {name}\nsteps:\n  raw: {{component: delta_table, config: {{uri: /data/raw}}}}\n"


def uris(assets: list[Asset]) -> list[str]:
    assert all(asset.name == asset.uri for asset in assets)
    return [asset.uri for asset in assets]


def test_every_shipped_pipeline_becomes_a_valid_dag() -> None:
    files = sorted((SHIPPED / "pipelines").rglob("*.yaml"))
    assert files
    dags = load_pipelines(SHIPPED / "pipelines")
    assert sorted(dags) == sorted(file.stem for file in files)
    assert not [name for name, dag in dags.items() if "invalid" in dag.tags]


def test_a_pipeline_becomes_a_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_PARAM_DATA", "/lake/über")
    dag = build_dag(parse_pipeline(NIGHTLY))
    assert dag.dag_id == "nightly"
    assert dag.description == "Topics, every night."
    assert dag.timetable.expression == "0 2 * * *"
    assert str(dag.timetable.timezone) == "UTC"
    assert (dag.catchup, dag.max_active_runs, dag.start_date) == (False, 1, None)
    assert dag.tags == {"modelmill", "text"}
    assert "See notes.md" in dag.doc_md
    assert dag.task_dict.keys() == {"raw", "dataset", "teacher", "report", "verdict", "champion"}
    assert dag.get_task("report").upstream_task_ids == {"dataset", "teacher"}
    assert (dag.get_task("raw").retries, dag.get_task("teacher").retries) == (2, 5)
    assert uris(dag.get_task("raw").outlets) == ["file:///lake/%C3%BCber/raw"]
    assert uris(dag.get_task("dataset").outlets) == []  # means another place in each process
    assert uris(dag.get_task("champion").outlets) == ["mlflow-model://topics/"]


FLOW = """
pipeline: flow
groups:
  rows: {description: What is read, steps: [raw, dataset]}
  each_topic: {steps: [picked, verdict, champion], for_each: {topic: [Grain, crude]}}
steps:
  raw: {component: delta_table, config: {uri: /data/raw}}
  dataset: {component: build_dataset, inputs: {table: raw.table}, config: {text: text, labels: [grain]}}
  trunk: {component: trunk, config: {base_model: /models/minilm}}
  heads: {component: train_heads, inputs: {dataset: dataset.dataset, trunk: trunk.trunk}}
  first:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: trunk.trunk}
    config: {name: first}
  picked:
    component: pick_signal
    inputs: {signals: heads.signals}
    config: {signal: "${topic}"}
    when: {first: accepted}
  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: picked.model}
    config: {name: "${topic}_champion"}
  champion:
    component: promote
    inputs: {verdict: verdict.verdict}
    when: {first: accepted, verdict: accepted}
  other: {component: guard, when: {first: refused}}
  report: {component: evaluate, inputs: {dataset: dataset.dataset, models: picked.model}}
"""


def test_groups_become_task_groups_and_each_value_tasks_of_its_own() -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    written = parse_pipeline(FLOW)
    dag = build_dag(written)
    groups = dag.task_group.get_task_group_dict()
    copies = {
        f"{step}__{topic}" for step in ("picked", "verdict", "champion") for topic in ("grain", "crude")
    }
    assert set(groups["each_topic"].children) == copies
    assert set(groups["rows"].children) == {"raw", "dataset"}
    assert groups["rows"].tooltip == "What is read"
    assert dag.get_task("picked__grain").config == {"signal": "Grain"}
    assert dag.get_task("report").upstream_task_ids == {"dataset", "picked__grain", "picked__crude"}
    assert dag.get_task("champion__crude").upstream_task_ids == {"first", "verdict__crude"}
    assert dag.get_task("other").upstream_task_ids == {"first"}
    assert uris(dag.get_task("champion__grain").outlets) == ["mlflow-model://Grain_champion/"]
    assert {task.pipeline_digest for task in dag.tasks} == {written.digest}
    # As Airflow's pages sort and show it.
    shown = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    order = [node.node_id for node in shown.task_group.topological_sort()]
    assert order.index("rows") < order.index("heads") < order.index("each_topic") < order.index("report")


@pytest.mark.parametrize(
    "text", [FLOW, NIGHTLY, FLOW.replace("What is read", '"\\n````yaml\\na: b\\n````\\n"')]
)
def test_the_documentation_keeps_the_pipeline_as_it_was_written(text: str) -> None:
    spec = parse_pipeline(text)
    documentation = build_dag(spec).doc_md
    assert digest_in(documentation) == spec.digest
    assert pipeline_in(documentation) == spec
    faked = f"````yaml\n{text}````\n\nDigest `{'0' * 64}`\n\n{documentation}"
    assert (digest_in(faked), pipeline_in(faked)) == (spec.digest, spec)
    assert pipeline_in(documentation.replace(spec.digest, "0" * 64)) is None
    assert (digest_in("A DAG of somebody else's"), pipeline_in("A DAG of somebody else's")) == (None, None)


def test_an_approval_between_gate_and_promotion_hides_no_asset() -> None:
    text = NIGHTLY.replace("inputs: {verdict: verdict.verdict}", "inputs: {verdict: asked.verdict}")
    text += "  asked: {component: approve, inputs: {verdict: verdict.verdict}}\n"
    assert uris(build_dag(parse_pipeline(text)).get_task("champion").outlets) == ["mlflow-model://topics/"]


def test_parameters_appear_in_the_trigger_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_PARAM_DATA", raising=False)
    params: ParamsDict = build_dag(parse_pipeline(NIGHTLY)).params
    assert params.dump() == {"data": None, "base_model": "/models/minilm", "epochs": 2}
    assert params.get_param("data").description == "Where the tables lie"
    assert params.get_param("epochs").schema == {"type": "integer"}
    assert "null" in params.get_param("data").schema["type"]


def test_an_asset_without_a_value_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_PARAM_DATA", raising=False)
    assert build_dag(parse_pipeline(NIGHTLY)).get_task("raw").outlets == []


def test_a_schedule_can_be_assets() -> None:
    text = MINIMAL.format(name="after") + "schedule: {assets: [/lake/raw, 's3://bucket/table/']}\n"
    dag = build_dag(parse_pipeline(text))
    assert sorted(asset.uri for asset in dag.timetable.asset_condition.objects) == [
        "file:///lake/raw",
        "s3://bucket/table",
    ]
    assert uris(dag.get_task("raw").inlets) == ["file:///data/raw"]


def test_a_table_that_starts_a_pipeline_is_watched_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow takes an asset's watchers from whichever DAG, inlet or outlet names the asset last."""
    monkeypatch.setenv("MODELMILL_PARAM_DATA", "/lake")
    (tmp_path / "after.yaml").write_text(AFTER)
    (tmp_path / "nightly.yaml").write_text(NIGHTLY)
    dags = load_pipelines(tmp_path)
    (waited_for,) = dags["after"].timetable.asset_condition.objects
    written = dags["nightly"].get_task("raw").outlets
    read = dags["after"].get_task("raw").inlets
    assert waited_for.uri == "file:///lake/raw"
    assert [*written, *read] == [waited_for] * 2
    for asset in (waited_for, *written, *read):
        (watcher,) = asset.watchers
        assert encode_trigger(watcher.trigger)["kwargs"] == {
            "uri": "/lake/raw",
            "asset": "file:///lake/raw",
            "poll_seconds": None,
        }
    assert dags["after"].get_task("scored").outlets[0].watchers == []


def test_a_pipeline_can_wait_for_several_tables() -> None:
    dag = build_dag(
        parse_pipeline(MINIMAL.format(name="all") + "schedule: {table: [/lake/a, 's3://b/c/']}\n")
    )
    condition = dag.timetable.asset_condition
    assert isinstance(condition, AssetAll)
    assert [asset.uri for asset in condition.objects] == ["file:///lake/a", "s3://b/c"]
    assert all(asset.watchers for asset in condition.objects)


def test_a_schedule_whose_parameter_has_no_value_is_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELMILL_PARAM_DATA", raising=False)
    (tmp_path / "after.yaml").write_text(AFTER)
    dag = load_pipelines(tmp_path)["after"]
    assert "invalid" in dag.tags
    assert "parameter 'data' needs a value" in dag.doc_md
    assert "MODELMILL_PARAM_DATA" in dag.doc_md


def test_the_serialised_dag_carries_the_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    monkeypatch.setenv("MODELMILL_PARAM_DATA", "/lake")
    serialised = DagSerialization.to_dict(build_dag(parse_pipeline(AFTER)))
    dag = DagSerialization.from_dict(serialised)
    (asset,) = dag.timetable.asset_condition.objects
    (watcher,) = asset.watchers
    assert watcher.trigger["classpath"] == "modelmill_operators.triggers.DeltaTableTrigger"
    assert watcher.trigger["kwargs"]["uri"] == "/lake/raw"


def test_retries_are_the_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODELMILL__RETRIES", "0")
    monkeypatch.setenv("AIRFLOW__MODELMILL__RETRY_DELAY", "1.5")
    task = build_dag(parse_pipeline(NIGHTLY)).get_task("raw")
    assert (task.retries, task.retry_delay.total_seconds()) == (0, 1.5)


def test_invalid_files_do_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "good.yaml").write_text(MINIMAL.format(name="good"))
    (tmp_path / "team" / "also.json").write_text(
        '{"pipeline": "also", "steps": {"raw": {"component": "delta_table", "config": {"uri": "/x"}}}}'
    )
    (tmp_path / "a copy.yml").write_text(MINIMAL.format(name="good"))
    (tmp_path / "broken.yaml").write_text("pipeline: nightly\nsteps:\n  raw: {component: delta_tabel}\n")
    (tmp_path / "no yaml.yaml").write_text("steps: [")
    (tmp_path / "cron.yaml").write_text('schedule: "99 99 * * *"\n' + MINIMAL.format(name="cron"))
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    dags = load_pipelines(tmp_path)
    invalid = {name: dag.doc_md for name, dag in dags.items() if "invalid" in dag.tags}
    assert sorted(dags.keys() - invalid.keys()) == ["also", "good"]
    assert sorted(invalid) == ["a_copy", "cron", "nightly", "no_yaml"]
    assert "unique; got 'good'; see good.yaml" in invalid["a_copy"]
    assert "line 3, column " in invalid["nightly"]
    assert "did you mean 'delta_table'?" in invalid["nightly"]
    assert "line 1, column " in invalid["no_yaml"]
    assert "99" in invalid["cron"]
    assert all(dags[name].timetable.can_be_scheduled is False for name in invalid)


@pytest.mark.parametrize(
    "value",
    ["1" + ":1" * 2_500, "0x" + "f" * 5_000, "9" * 5_000, "1" + ":1" * 3_000 + ".5", "1" * 500 + ".0"],
    ids=["base 60", "hexadecimal", "decimal", "base 60 with a point", "float"],
)
@pytest.mark.parametrize(
    "where", ["schedule: {}", "description: {}", "params: {{p: {{default: {}}}}}", "{}: 1"]
)
def test_a_number_beyond_all_bounds_is_that_files_own_error(tmp_path: Path, value: str, where: str) -> None:
    (tmp_path / "good.yaml").write_text(NIGHTLY)
    (tmp_path / "bad.yaml").write_text(f"{where.format(value)}\n{MINIMAL.format(name='bad')}")
    dags = load_pipelines(tmp_path)
    assert set(dags) == {"nightly", "bad"}
    assert "the text must be YAML; " in str(dags["bad"].doc_md)
    assert "invalid" in dags["bad"].tags


def test_a_mistake_of_ours_over_one_file_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelmill.pipeline import pipeline_files

    (tmp_path / "good.yaml").write_text(NIGHTLY)
    (tmp_path / "bad.yaml").write_text(NIGHTLY.replace("nightly", "bad"))
    parse = pipeline_files.parse_pipeline

    def fail(text: str) -> object:
        if "pipeline: bad" in text:
            raise OverflowError("what nobody thought of")
        return parse(text)

    pipeline_files._parsed.cache_clear()
    monkeypatch.setattr(pipeline_files, "parse_pipeline", fail)
    dags = load_pipelines(tmp_path)
    assert set(dags) == {"nightly", "bad"}
    assert "OverflowError: what nobody thought of" in str(dags["bad"].doc_md)


def test_a_folder_can_be_a_url() -> None:
    with fsspec.open("memory://pipelines/deep/far.yaml", "w") as file:
        file.write(MINIMAL.format(name="far"))
    assert list(load_pipelines("memory://pipelines")) == ["far"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must exist"):
        load_pipelines(tmp_path / "nowhere")


def test_parsing_again_never_makes_a_new_version(
    pipelines: Path, parsed: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    def parse_and_write() -> list[bool]:
        written = []
        for _, dag in sorted(parsed().items()):
            lazy = LazyDeserializedDAG.from_dag(dag)
            with create_session() as session:
                written.append(SerializedDagModel.write_dag(lazy, "dags-folder", session=session))
        return written

    def versions(name: str) -> int:
        with create_session() as session:
            query = select(func.count()).select_from(DagVersion).where(DagVersion.dag_id == name)
            return int(session.scalar(query) or 0)

    monkeypatch.setenv("MODELMILL_PARAM_DATA", "/lake")
    shutil.copytree(SHIPPED / "pipelines", pipelines, dirs_exist_ok=True)
    (pipelines / "after.yaml").write_text(AFTER)
    (pipelines / "nightly.yaml").write_text(NIGHTLY)
    (pipelines / "broken.yaml").write_text("pipeline: broken\nsteps: {}\n")
    names = sorted(parsed())
    assert {"after", "broken", "nightly", "reuters_nightly"} <= set(names)
    with create_session() as session:
        if session.get(DagBundleModel, "dags-folder") is None:
            session.add(DagBundleModel(name="dags-folder"))
    _store_dag_models(parsed())
    assert all(parse_and_write())
    for _ in range(5):
        assert not any(parse_and_write())
    assert [versions(name) for name in names] == [1] * len(names)

    # And a change does make one, even of what Airflow does not serialise: a step's configuration.
    _start_a_run_of(parsed()["nightly"])
    (pipelines / "nightly.yaml").write_text(NIGHTLY.replace("name: topics", "name: subjects"))
    assert sum(parse_and_write()) == 1
    assert versions("nightly") == 2


def _store_dag_models(dags: dict[str, DAG]) -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        for name in dags:
            session.merge(DagModel(dag_id=name, bundle_name="dags-folder", fileloc="pipelines.py"))


def _start_a_run_of(dag: DAG) -> None:
    """Until a run uses a version, Airflow changes that version instead of making another."""
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType

    serialized = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    with create_session() as session:
        version = DagVersion.get_latest_version(dag.dag_id, session=session)
        run = DagRun(dag_id=dag.dag_id, run_id="manual", run_type=DagRunType.MANUAL)
        session.add(run)
        session.flush()
        session.add(TaskInstance(serialized.get_task("raw"), run_id="manual", dag_version_id=version.id))


PARSE_SCRIPT = """
import sys, time
from airflow.dag_processing.dagbag import DagBag
folder, *heavy = sys.argv[1:]
before = set(sys.modules)
bag = DagBag(dag_folder=folder)
assert not bag.import_errors, bag.import_errors
assert "reuters_nightly" in bag.dags, bag.dags
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(time.process_time(), *sorted(loaded & set(heavy)))
"""


def test_parsing_imports_nothing_heavy(airflow_home: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MODELMILL_PIPELINES"}
    command = [sys.executable, "-c", PARSE_SCRIPT, str(SHIPPED), *HEAVY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, *heavy = done.stdout.splitlines()[-1].split()
    print(f"starting Python and parsing the shipped pipelines took {float(seconds):.2f} CPU seconds")
    assert heavy == []
    # A bound against what would stop a DAG processor; benchmarks say how fast it is.
    assert float(seconds) < 25


TASK_SCRIPT = """
import sys
from modelmill_operators.loader import load_pipelines
load_pipelines(sys.argv[1])
print(*(name for name in sys.modules if name.startswith("modelmill.steps.")))
"""


def test_a_tasks_process_imports_the_components_of_its_pipelines_alone(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(
        "pipeline: table\nsteps: {raw: {component: delta_table, config: {uri: /data/rows}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", TASK_SCRIPT, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert "modelmill.steps.delta_table" in done.stdout
    assert "modelmill.steps.build_dataset" not in done.stdout
