"""Airflow's own OpenLineage provider and StatsD client hear of steps; without them nothing is missed."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import attr
import jsonschema
import pyarrow as pa
import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from deltalake import write_deltalake
from openlineage.client import generated
from openlineage.client.generated.base import RunEvent
from openlineage.client.naming import dataset as naming
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tests.library.training.photos import rows
from tests.library.training.test_import_onnx import edge_finder

import modelmill_operators
from modelmill.artifacts import ModelRef, TableRef, VerdictRef
from modelmill.pipeline.request import StepResult
from modelmill.pipeline.table_uses import Uses
from modelmill.settings import Settings
from modelmill_operators import ApproveOperator, lineage_facets, metrics
from modelmill_operators.lineage import dataset_name, model_name, task_lineage

PIPELINE = """
pipeline: kinds
steps:
  raw: {component: delta_table, config: {uri: TABLE}}
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config: {image: photo, key: id, labels: [kind], split: {column: split}, to: DATASET}
  imported:
    component: import_onnx
    inputs: {dataset: dataset.dataset}
    config: {path: MODEL, label: kind, divide_by: 1, classes: [noise, plain, stripes]}
  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: imported.model}
    config: {name: kinds, resamples: 200}
  champion: {component: promote, inputs: {verdict: verdict.verdict}}
  refused: {component: delta_table, config: {uri: /not/there}}
"""
RUN = """
import os, sys
from airflow.dag_processing.dagbag import BundleDagBag
folder = os.environ["AIRFLOW_HOME"] + "/dags"
bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
# As the process of a task begins: airflow.sdk.execution_time.task_runner.main.
from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
stats.initialize(
    factory=stats_utils.get_stats_factory(),
    export_legacy_names=conf.getboolean("metrics", "legacy_names_on"),
)
run = bag.dags["kinds"].test()
for one in run.get_task_instances():
    print("ended", one.task_id, one.state)
"""
FACETS = Path(modelmill_operators.__file__).parent / "facets"
SPEC = os.environ.get("OPENLINEAGE_SPEC")
"""Folder ``spec`` of OpenLineage's repository: its JSON schemas are in no package."""


def run_dag(home: Path, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-c", RUN]
    environment = {**environment, "AIRFLOW_HOME": str(home)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def table(tmp_path: Path) -> str:
    uri = str(tmp_path / "tables" / "photos")
    write_deltalake(uri, pa.table(rows(90)).slice(0, 45))
    write_deltalake(uri, pa.table(rows(90)).slice(45), mode="append")
    return uri


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    """What a StatsD server has: a port of UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        yield server


def received(server: socket.socket) -> dict[str, list[str]]:
    """Return the values that came since the last look, with their type, by name."""
    found: dict[str, list[str]] = {}
    while True:
        try:
            packet = server.recv(65536).decode()
        except BlockingIOError:
            return found
        for line in packet.splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name, []).append(value)


def test_a_night_is_told_to_openlineage_and_to_statsd(
    pipelines: Path,
    own_airflow_home: Path,
    settings: Settings,
    table: str,
    tmp_path: Path,
    statsd: socket.socket,
) -> None:
    dataset, events = str(tmp_path / "tables" / "kinds"), tmp_path / "events.jsonl"
    text = PIPELINE.replace("TABLE", table).replace("DATASET", dataset)
    model = edge_finder(tmp_path / "edges.onnx")
    (pipelines / "kinds.yaml").write_text(text.replace("MODEL", str(model)))
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    environment = {
        **os.environ,
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "lake",
        "AIRFLOW__MODELMILL__RETRIES": "0",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.getsockname()[1]),
    }
    printed = run_dag(own_airflow_home, environment)
    assert "ended champion success" in printed, printed
    check_first_metrics(received(statsd))
    first = tasks(events)
    ends = {name: states["COMPLETE"] for name, states in first.items() if "COMPLETE" in states}
    assert set(ends) == {f"kinds.{step}" for step in ("raw", "dataset", "imported", "verdict", "champion")}
    assert set(first["kinds.refused"]) == {"START", "FAIL"}
    for event in (event for states in first.values() for event in states.values()):
        check_event(event)

    # delta_table has read the table, and made none.
    raw = ends["kinds.raw"]
    assert raw["outputs"] == []
    assert names(raw, "inputs") == {("file", table): "1"}
    schema = raw["inputs"][0]["facets"]["schema"]["fields"]
    assert [(one["name"], one["type"]) for one in schema] == [
        ("id", "string"),
        ("photo", "binary"),
        ("kind", "string"),
        ("traits", "array"),
        ("light", "double"),
        ("split", "string"),
    ]
    assert [(one["name"], one["type"]) for one in schema[3]["fields"]] == [("_element", "string")]

    built = ends["kinds.dataset"]
    assert names(built, "inputs") == {("file", table): "1"}
    assert built["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 90
    made = next(one for one in built["outputs"] if one["name"] == dataset)
    assert made["facets"]["version"]["datasetVersion"] == "0"
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 90
    assert made["outputFacets"]["outputStatistics"]["size"] > 0

    # The same digest from the step that made the model to the version that is champion.
    imported = next(one for one in ends["kinds.imported"]["outputs"] if one["name"].startswith("m-"))
    about = imported["facets"]["modelmill_model"]
    assert imported["namespace"] == "mlflow"
    assert imported["facets"]["version"]["datasetVersion"] == about["digest"]
    assert (about["format"], about["role"], len(about["digest"])) == ("onnx", "imported", 64)
    judged = next(one for one in ends["kinds.verdict"]["inputs"] if one["name"] == imported["name"])
    assert judged["facets"]["modelmill_model"]["digest"] == about["digest"]
    assert ends["kinds.verdict"]["outputs"] == []
    verdict = ends["kinds.verdict"]["run"]["facets"]["modelmill_step"]["verdict"]
    assert (verdict["passed"], verdict["challengerDigest"]) == (True, about["digest"])
    (champion,) = ends["kinds.champion"]["outputs"]
    assert (champion["name"], champion["facets"]["version"]["datasetVersion"]) == ("kinds", "1")
    assert champion["facets"]["modelmill_model"]["digest"] == about["digest"]

    # The next night reuses what nothing has changed for. The gate finds a champion, and so it looks again.
    events.unlink()
    run_dag(own_airflow_home, environment)
    again = {name: states["COMPLETE"] for name, states in tasks(events).items() if "COMPLETE" in states}
    steps = {name: event["run"]["facets"]["modelmill_step"] for name, event in again.items()}
    reused = {name for name, step in steps.items() if step["reused"]}
    assert reused == {"kinds.raw", "kinds.dataset", "kinds.imported"}
    values = received(statsd)
    assert values["airflow.modelmill.step.reused"] == ["1|c"] * 3
    assert values["airflow.modelmill.step.run"] == ["1|c"] * 2
    assert "airflow.modelmill.step.duration.kinds.dataset" not in values
    assert "airflow.modelmill.gate.challenger.accuracy.kinds.verdict" not in values  # the champion itself
    assert values["airflow.modelmill.gate.passed.kinds.verdict"] == ["1.0|g"]
    for name in reused:
        assert steps[name]["mlflowRunId"] == ends[name]["run"]["facets"]["modelmill_step"]["mlflowRunId"]
        for side in ("inputs", "outputs"):
            assert names(again[name], side) == names(ends[name], side), (name, side)
            for one in again[name][side]:
                assert not one.get("inputFacets")
                assert not one.get("outputFacets")


def check_first_metrics(values: dict[str, list[str]]) -> None:
    assert values["airflow.modelmill.step.run"] == ["1|c"] * 5
    assert "airflow.modelmill.step.reused" not in values
    for step in ("raw", "dataset", "imported", "verdict", "champion"):
        (duration,) = values[f"airflow.modelmill.step.duration.kinds.{step}"]
        assert duration.endswith("|ms")
        assert 100 < float(duration.removesuffix("|ms")) < 120_000
    assert values["airflow.modelmill.step.rows_read.kinds.dataset"] == ["90|g"]
    # The dataset's rows, and those of the tables of refused rows and of duplicates: every row is somewhere.
    assert values["airflow.modelmill.step.rows_written.kinds.dataset"] == ["90|g"]
    assert values["airflow.modelmill.step.rows_read.kinds.verdict"] == ["30|g"]
    assert values["airflow.modelmill.gate.passed.kinds.verdict"] == ["1.0|g"]
    assert values["airflow.modelmill.gate.challenger.accuracy.kinds.verdict"] == ["1.0|g"]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("where", [metrics.WORKER, metrics.TRIGGERER])
def test_metrics_have_tags_and_legacy_names_as_airflow_is_set(
    where: str, legacy: bool, statsd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"statsd_on": True, "statsd_host": "127.0.0.1", "statsd_port": statsd.getsockname()[1]}
    for name, value in {**values, "statsd_influxdb_enabled": True, "legacy_names_on": legacy}.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name.upper()}", str(value))
    stats = importlib.import_module(where)
    utils = importlib.import_module(f"{where.removesuffix('.stats')}.metrics.stats_utils")
    logger = utils.get_stats_factory()()
    stats.initialize(factory=lambda: logger, export_legacy_names=legacy)
    try:
        result = StepResult(outputs={}, step_key="k", run_id="r", run_url="", reused=True)
        metrics.send_metrics(result, component="gate", dag_id="dag", task_id="group.task", where=where)
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
        logger.statsd.close()
    name = "airflow.modelmill.step.reused"
    tagged = f"{name},dag_id=dag,task_id=group.task,component=gate"
    assert set(received(statsd)) == {tagged, *({f"{name}.dag.group__task"} if legacy else ())}


def test_nothing_is_sent_while_airflow_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "import_module", lambda name: pytest.fail(name))
    result = StepResult(outputs={}, step_key="k", run_id="r", run_url="", reused=True)
    metrics.send_metrics(result, component="gate", dag_id="dag", task_id="task")


def test_nothing_is_imported_or_asked_for_where_no_events_go(
    pipelines: Path, own_airflow_home: Path, settings: Settings, toy_components: None, tmp_path: Path
) -> None:
    step = f"{{component: count, config: {{journal: {tmp_path / 'journal'}}}}}"
    (pipelines / "kinds.yaml").write_text(f"pipeline: kinds\nsteps:\n  only: {step}\n")
    # As where it is not installed: no distribution of it is found, and who imports any of it fails.
    blocked = f"""
import sys
import importlib_metadata
discover = importlib_metadata.Distribution.discover
def found(**kwargs):
    return (one for one in discover(**kwargs) if "openlineage" not in one.name)
importlib_metadata.Distribution.discover = staticmethod(found)
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "airflow.providers.openlineage" or name.partition(".")[0] == "openlineage":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
{RUN}
assert "modelmill_operators.lineage" in sys.modules
assert "modelmill_operators.lineage_facets" not in sys.modules
"""
    command, environment = (
        [sys.executable, "-c", blocked],
        {**os.environ, "AIRFLOW_HOME": str(own_airflow_home)},
    )
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ended only success" in ended.stdout


MODEL = ModelRef(uri="models:/topics/2", run_id="r", digest="d" * 64, format="onnx", role="exported")


def test_each_version_is_named_and_what_is_not_known_is_left_out(settings: Settings) -> None:
    older = MODEL.model_copy(update={"uri": "models:/topics/1", "digest": "c" * 64})
    table = TableRef(uri="s3://lake/tickets", version=0)
    # As the answer of the triggerer is: without descriptions.
    result = StepResult(outputs={"table": table}, step_key="k", run_id="r", run_url="", reused=True)
    told = task_lineage("score_table", Uses(read=(MODEL, older), made=(table,)), result)
    versions = [(one.name, one.facets["version"].datasetVersion) for one in told.inputs]
    assert versions == [("topics", "2"), ("topics", "1")]
    assert [one.facets["modelmill_model"].digest[0] for one in told.inputs] == ["d", "c"]
    (made,) = told.outputs
    assert (made.namespace, made.name) == ("s3://lake", "tickets")
    assert made.facets["version"].datasetVersion == "0"
    assert "schema" not in made.facets
    assert made.outputFacets == {}


def test_who_asks_a_person_names_the_challenger(settings: Settings) -> None:
    verdict = VerdictRef(
        passed=True,
        name="topics",
        challenger=MODEL,
        champion_version=None,
        reasons=(),
        uri="runs:/r/verdict.json",
        run_id="r",
    )
    task = ApproveOperator(task_id="ask", inputs={"verdict": verdict.model_dump(mode="json")})
    told = task.get_openlineage_facets_on_start()
    (challenger,) = told.inputs
    assert challenger.facets["modelmill_model"].digest == MODEL.digest
    assert told.outputs == []
    broken = ApproveOperator(task_id="broken", inputs={"verdict": {"kind": "table"}})
    assert broken.get_openlineage_facets_on_start().inputs == []  # the step itself says what is wrong


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("/lake/tickets", naming.LocalFileSystem("/lake/tickets")),
        ("s3://lake/night/tickets", naming.S3("lake", "night/tickets")),
        ("s3a://lake/tickets", naming.S3("lake", "tickets")),
        ("gs://lake/tickets", naming.GCS("lake", "tickets")),
        ("gcs://lake/tickets", naming.GCS("lake", "tickets")),
        ("abfss://lake@account.dfs.core.windows.net/a/b", naming.ABFSS("lake", "account", "a/b")),
        ("hdfs://name:8020/lake/a", naming.HDFS("name", "8020", "lake/a")),
    ],
)
def test_tables_are_named_as_openlineages_own_client_names_them(
    uri: str, named: naming.DatasetNaming
) -> None:
    assert dataset_name(uri) == (named.get_namespace(), named.get_name())


@pytest.mark.parametrize(
    ("uri", "tracking", "named"),
    [
        ("models:/topics/3", "https://bob:secret@ml.example", ("mlflow://ml.example", "topics", "3")),
        ("models:/m-1f", "http://127.0.0.1:5000", ("mlflow://127.0.0.1:5000", "m-1f", None)),
        ("runs:/r1/signals.json", "sqlite:////home/mlflow.db", ("mlflow", "r1/signals.json", None)),
    ],
)
def test_models_are_named_by_the_server_that_has_them(
    uri: str, tracking: str, named: tuple[str, str, str | None]
) -> None:
    assert model_name(uri, tracking) == named


def tasks(events: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the events of tasks by job and state; those of the DAG itself are Airflow's own."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for event in map(json.loads, events.read_text().splitlines()):
        if "parent" in event["run"]["facets"]:
            found.setdefault(event["job"]["name"], {})[event["eventType"]] = event
    return found


def names(event: dict[str, Any], side: str) -> dict[tuple[str, str], str]:
    return {
        (one["namespace"], one["name"]): one["facets"]["version"]["datasetVersion"] for one in event[side]
    }


def check_event(event: dict[str, Any]) -> None:
    """Check an event by OpenLineage's classes, modelmill's facets by their schemas; by all where they are."""
    check_object(event, RunEvent)
    facets = [*event["run"]["facets"].items()]
    for one in (*event["inputs"], *event["outputs"]):
        facets += [*one["facets"].items(), *one.get("inputFacets", {}).items()]
        facets += one.get("outputFacets", {}).items()
    for key, facet in facets:
        if key.startswith("modelmill_"):
            schemas().validate(key, facet)
        elif facet["_schemaURL"] in CLASSES:
            check_object(facet, CLASSES[facet["_schemaURL"]])
    if SPEC is not None:
        jsonschema.Draft202012Validator(
            {"$ref": "https://openlineage.io/spec/2-0-2/OpenLineage.json"}, registry=schemas().registry
        ).validate(event)
        for key, facet in facets:
            schemas().validate_standard(key, facet)


class Schemas:
    """JSON schemas: modelmill's own, and OpenLineage's from its repository, or what stands for the base."""

    def __init__(self) -> None:
        base = {
            "type": "object",
            "required": ["_producer", "_schemaURL"],
            "properties": {name: {"type": "string"} for name in ("_producer", "_schemaURL")},
        }
        bases = {"DatasetFacet": base, "RunFacet": base}
        url = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
        contents: list[Any] = [json.loads(file.read_text()) for file in sorted(FACETS.glob("*.json"))]
        assert len(contents) == 2
        if SPEC is None:
            contents.append({"$id": url, "$defs": bases})
        else:
            files = [Path(SPEC, "OpenLineage.json"), *sorted(Path(SPEC, "facets").glob("*.json"))]
            contents += [json.loads(file.read_text()) for file in files]
        self.ids = {content["$id"] for content in contents}
        made = [(content["$id"], Resource.from_contents(content, DRAFT202012)) for content in contents]
        self.registry = Registry().with_resources(made)

    def validate(self, key: str, facet: dict[str, Any]) -> None:
        """Validate a facet of modelmill's under its key: the schema names both."""
        place, _, pointer = facet["_schemaURL"].partition("#")
        assert place in self.ids, place
        for schema, value in ((place, {key: facet}), (f"{place}#{pointer}", facet)):
            jsonschema.Draft202012Validator({"$ref": schema}, registry=self.registry).validate(value)
        assert key in self.registry[place].contents["properties"]

    def validate_standard(self, key: str, facet: dict[str, Any]) -> None:
        place = facet["_schemaURL"].partition("#")[0]
        if place in self.ids and "/spec/facets/" in place:  # Airflow's own name a base as their schema
            jsonschema.Draft202012Validator({"$ref": place}, registry=self.registry).validate({key: facet})


def schemas() -> Schemas:
    if not _made:
        _made.append(Schemas())
    return _made[0]


_made: list[Schemas] = []


def _classes() -> Iterator[tuple[str, type]]:
    for module in pkgutil.iter_modules(generated.__path__):
        content = vars(importlib.import_module(f"{generated.__name__}.{module.name}"))
        for one in content.values():
            if attr.has(one) and hasattr(one, "_get_schema"):
                yield one._get_schema(), one


# Airflow's own facets name a base as their schema.
CLASSES = {url: one for url, one in _classes() if "/spec/facets/" in url}


def check_object(value: Any, wanted: Any) -> None:
    """Check that a JSON value is what one of the client's classes would be."""
    if attr.has(wanted):
        types = get_type_hints(wanted)
        fields = {field.name: field for field in attr.fields(wanted)}
        unknown = set(value) - set(fields)
        assert not unknown, (wanted, unknown)
        required = {name for name, field in fields.items() if field.default is attr.NOTHING}
        assert required <= set(value), (wanted, required - set(value))
        if "facets" in value and wanted is not RunEvent:
            value = {name: one for name, one in value.items() if not name.lower().endswith("facets")}
        for name, one in value.items():
            check_object(one, types[name])
    elif get_origin(wanted) is list:
        for one in value:
            check_object(one, get_args(wanted)[0])
    elif wanted in (str, int, bool, float):
        assert type(value) is wanted, (value, wanted)
    elif type(None) in get_args(wanted) and value is not None:
        check_object(value, get_args(wanted)[0])


def test_the_check_finds_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="eventTyp"):
        check_object({"eventTyp": "START"}, RunEvent)
    facet = {"_producer": "p", "_schemaURL": lineage_facets._schema("ModelmillModelDatasetFacet")}
    with pytest.raises(jsonschema.ValidationError, match="digest"):
        schemas().validate("modelmill_model", {**facet, "uri": "u", "format": "onnx", "mlflowRunId": "r"})
