"""Operators on real DAGs, run by Airflow itself in this process; the steps run in processes of their own."""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from airflow.sdk import DAG, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.utils.types import DagRunType

import modelmill_operators
from modelmill.artifacts import ModelRef, TableRef, VerdictRef
from modelmill.pipeline.catalogue import catalogue
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.steps.delta_table import DeltaTableConfig
from modelmill_operators import DeltaTableOperator, IngestOperator, StepOperator, operator_for, operators
from modelmill_operators.params import asked_params, run_params

pytestmark = pytest.mark.usefixtures("toy_components", "settings")

Parse = Callable[[], dict[str, DAG]]


def write(pipelines: Path, name: str, steps: dict[str, str]) -> Path:
    """Write a pipeline of ``count`` steps; each is given as the YAML of its remaining keys."""
    journal = pipelines.parent / f"{name}.journal"
    lines = [
        f"pipeline: {name}",
        "params:",
        "  number: {default: 0}",
        f"  journal: {{default: {journal}}}",
        "steps:",
    ]
    for step, rest in steps.items():
        lines.append(f"  {step}: {{component: count, {rest}}}")
    (pipelines / f"{name}.yaml").write_text("\n".join(lines))
    return journal


def outcome(run: object) -> dict[str, tuple[str, int]]:
    """Return state and number of tries by task."""
    return {ti.task_id: (str(ti.state), ti.try_number) for ti in run.get_task_instances()}


def xcom(run: object, task: str, key: str) -> object:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, task_ids=task, key=key)
        entry = session.scalars(query).first()
        return None if entry is None else XComModel.deserialize_value(entry)


def test_every_component_has_an_operator_that_can_be_imported() -> None:
    for name, component in catalogue().items():
        operator = operator_for(name)
        assert operator.component == name
        assert operator.__name__ == "".join(part.title() for part in name.split("_")) + "Operator"
        assert (operator.__doc__ or "").split()
        # As Airflow keeps a task's class, and as a DAG file writes it.
        module = importlib.import_module(operator.__module__)
        assert getattr(module, operator.__qualname__) is operator
        assert getattr(operators, operator.__name__) is operator
        assert getattr(modelmill_operators, operator.__name__) is operator
        assert {operator.__name__} <= {*dir(operators)} & {*dir(modelmill_operators)}
        assert issubclass(operator, StepOperator)
        assert operator.__module__ == operators.__name__ or name in operators.WRITTEN, component


def test_an_operator_says_what_goes_in_and_out() -> None:
    assert operator_for("prune").__doc__ == (
        "Take the units that matter least out of a model, and let what stays learn from a teacher again.\n\n"
        "    Configuration: :class:`modelmill.steps.prune.PruneConfig`.\n"
        "    Inputs: ``dataset`` (dataset), ``model`` (model), ``teacher`` (model, optional). "
        "Outputs: ``model`` (model).\n"
    )


def test_a_component_of_another_distribution_has_an_operator() -> None:
    from modelmill_operators import GatherOperator

    assert GatherOperator.component == "gather"
    with DAG("foreign"):
        task = GatherOperator(task_id="only", inputs={"tables": []})
    assert (task.component, task.task_type) == ("gather", "GatherOperator")


@pytest.mark.parametrize("name", ["FineTuningOperator", "fine_tune", "__path_of_nothing__"])
def test_other_names_are_none(name: str) -> None:
    for module in (operators, modelmill_operators):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_the_stub_declares_the_operators_as_they_are() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "operators_stub.py"))
    assert script["STUB"].read_text() == script["stub"](), "run scripts/operators_stub.py"


def test_outputs_flow_by_xcom(pipelines: Path, parsed: Parse, capfd: pytest.CaptureFixture[str]) -> None:
    config = 'config: {journal: "${journal}", number: "${number}"}'
    write(pipelines, "flow", {"first": config, "second": f"inputs: {{table: first.table}}, {config}"})
    run = parsed()["flow"].test(run_conf={"number": 20})
    assert outcome(run) == {"first": ("success", 1), "second": ("success", 1)}
    assert xcom(run, "first", "table") == {"kind": "table", "uri": "/toy", "version": 20}
    assert xcom(run, "second", "return_value") == {"table": {"kind": "table", "uri": "/toy", "version": 40}}
    step = xcom(run, "second", "modelmill_step")
    assert step["reused"] is False
    assert len(step["run_id"]) == 32
    assert "attempt 1 of first" in capfd.readouterr().out


def test_a_refused_input_is_not_retried(
    pipelines: Path, parsed: Parse, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = write(pipelines, "refusing", {"only": 'config: {journal: "${journal}", behaviour: refuse}'})
    dag = parsed()["refusing"]
    assert dag.get_task("only").retries == 2
    run = dag.test()
    assert outcome(run) == {"only": ("failed", 1)}
    assert journal.read_text() == "only\n"
    assert "a number must be even; got 0; add one" in capfd.readouterr().out


def test_a_retryable_error_is_retried(pipelines: Path, parsed: Parse) -> None:
    config = 'config: {journal: "${journal}", behaviour: BEHAVIOUR}'
    journal = write(
        pipelines,
        "retrying",
        {"flaky": config.replace("BEHAVIOUR", "flaky"), "dying": config.replace("BEHAVIOUR", "die")},
    )
    run = parsed()["retrying"].test()
    assert outcome(run) == {"flaky": ("success", 2), "dying": ("success", 2)}
    assert sorted(journal.read_text().split()) == ["dying", "dying", "flaky", "flaky"]


def test_a_step_can_have_retries_of_its_own(pipelines: Path, parsed: Parse) -> None:
    write(pipelines, "once", {"only": 'retries: 0, config: {journal: "${journal}", behaviour: flaky}'})
    assert outcome(parsed()["once"].test()) == {"only": ("failed", 1)}


def test_a_refused_gate_runs_one_branch_and_skips_the_other(
    pipelines: Path, parsed: Parse, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = pipelines.parent / "branching.journal"
    (pipelines / "branching.yaml").write_text(f"""
pipeline: branching
params: {{journal: {{default: {journal}}}}}
groups:
  each: {{steps: [counted, verdict, kept, redone], for_each: {{number: [1, 20]}}}}
steps:
  counted: {{component: count, config: {{journal: "${{journal}}", number: "${{number}}"}}}}
  verdict: {{component: judge, inputs: {{table: counted.table}}, config: {{name: "of_${{number}}"}}}}
  kept:
    component: count
    inputs: {{table: counted.table}}
    when: {{verdict: accepted}}
    config: {{journal: "${{journal}}"}}
  redone: {{component: count, when: {{verdict: refused}}, config: {{journal: "${{journal}}", number: 5}}}}
  every: {{component: gather, inputs: {{tables: counted.table}}}}
  all_kept: {{component: gather, inputs: {{tables: kept.table}}}}
  last: {{component: count, inputs: {{table: all_kept.table}}, config: {{journal: "${{journal}}"}}}}
""")
    run = parsed()["branching"].test()
    states = {task: state for task, (state, _) in outcome(run).items()}
    assert {task for task, state in states.items() if state == "skipped"} == {
        "kept__20",
        "redone__1",
        "all_kept",
        "last",
    }
    assert set(states.values()) == {"success", "skipped"}
    assert xcom(run, "every", "table") == {"kind": "table", "uri": "/toy", "version": 21}
    assert sorted(journal.read_text().split()) == ["counted__1", "counted__20", "kept__1", "redone__20"]
    assert "skipped: of_20 was refused, and this step runs if it is accepted" in capfd.readouterr().out


def test_a_condition_takes_one_verdict_or_several() -> None:
    verdict = VerdictRef(
        passed=True,
        name="topics",
        challenger=ModelRef(uri="models:/m-1", run_id="r", digest="d", format="onnx", role="exported"),
        champion_version=None,
        reasons=(),
        uri="runs:/r/verdict.json",
        run_id="r",
    )
    told = verdict.model_dump(mode="json")
    for given in (verdict, told, [verdict], [told]):
        task = StepOperator(task_id="a", component="count", when={"refused": given})
        with pytest.raises(AirflowSkipException, match="topics was accepted, and this step runs if it is r"):
            task.execute({})


def test_conditions_that_are_none_are_said() -> None:
    task = StepOperator(task_id="a", component="count", when={"passed": []})
    with pytest.raises(AirflowFailException, match="'accepted' and 'refused'"):
        task.execute({})


def test_an_asset_is_updated_only_when_the_step_has_a_reason(pipelines: Path, parsed: Parse) -> None:
    config = 'config: {journal: "${journal}", number: "${number}", behaviour: BEHAVIOUR}'
    write(pipelines, "quiet", {"only": config.replace("BEHAVIOUR", "work")})
    write(pipelines, "loud", {"only": config.replace("BEHAVIOUR", "loud")})
    (pipelines / "after.yaml").write_text(
        "pipeline: after\nschedule: {assets: ['toy://loud/count']}\n"
        "steps:\n  only: {component: count, config: {journal: x}}"
    )
    dags = parsed()
    for name, number, updates in (("quiet", 1, 0), ("loud", 1, 1), ("loud", 1, 2), ("quiet", 1, 2)):
        run = dags[name].test(run_conf={"number": number})
        assert outcome(run) == {"only": ("success", 1)}
        assert asset_updates("toy://loud/count") == updates
    # The second time nothing was run, and the update is there all the same: the first may have been lost.
    assert (pipelines.parent / "loud.journal").read_text() == "only\n"


def asset_updates(uri: str) -> int:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        events = session.query(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return int(events.filter(AssetModel.uri == uri).count())


def test_an_invalid_pipeline_fails_with_its_problems(
    pipelines: Path, parsed: Parse, capfd: pytest.CaptureFixture[str]
) -> None:
    (pipelines / "misspelt.yaml").write_text("pipeline: misspelt\nsteps:\n  only: {component: cuont}\n")
    run = parsed()["misspelt"].test()
    assert outcome(run) == {"problems": ("failed", 1)}
    assert "did you mean 'count'?" in capfd.readouterr().out


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_reaches_the_whole_group(
    pipelines: Path, airflow_home: Path, parsed: Parse, blow: signal.Signals
) -> None:
    name = f"sleeping_{blow.name.lower()}"
    journal = write(
        pipelines, name, {"only": 'retries: 0, config: {journal: "${journal}", behaviour: sleep}'}
    )
    script = (
        "import sys; from airflow.dag_processing.dagbag import BundleDagBag as Bag; "
        "folder, name = sys.argv[1:]; "
        "run = Bag(dag_folder=folder, bundle_path=folder, bundle_name='dags-folder').dags[name].test(); "
        "print('ended', [ti.state for ti in run.get_task_instances()])"
    )
    command = [sys.executable, "-c", script, str(airflow_home / "dags"), name]
    with (pipelines.parent / "output").open("w+") as output:
        task = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            pid_file = journal.with_suffix(".pid")
            wait_until(lambda: pid_file.exists() and pid_file.read_text() != "", what="the step's own child")
            grandchild = psutil.Process(int(pid_file.read_text()))
            step = grandchild.parent()
            assert step is not None
            assert os.getpgid(step.pid) == step.pid
            task.send_signal(blow)
            wait_until(lambda: gone(step) and gone(grandchild), what="the end of the group")
            task.wait(60)
        finally:
            task.kill()
        output.seek(0)
        text = output.read()
    if blow == signal.SIGTERM:
        assert "ended" in text
        assert "failed" in text.split("ended")[-1]


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(true: Callable[[], bool], *, what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def test_the_ledger_names_who_triggered_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelmill.registry.ledger import current_user

    step = StepOperator(task_id="count", component="count")
    environment = step._environment(cast("Context", {"dag_run": SimpleNamespace(triggering_user_name="ann")}))
    assert environment == {"MODELMILL_USER": "ann"}
    assert step._environment(cast("Context", {"dag_run": SimpleNamespace(triggering_user_name=None)})) == {}
    monkeypatch.setenv("MODELMILL_USER", "ann")
    assert current_user() == "ann"


def test_texts_are_never_rendered() -> None:
    with DAG("literal"):
        task = StepOperator(
            task_id="only",
            component="count",
            inputs={"table": {"kind": "table", "uri": "{{ 1 + 1 }}", "version": 0}},
            config={"journal": "{{ 1 + 1 }}"},
        )
    task.render_template_fields(Context())
    assert task.inputs == {"table": {"kind": "table", "uri": "{{ 1 + 1 }}", "version": 0}}
    assert task.config == {"journal": "{{ 1 + 1 }}"}


def test_references_and_config_objects_are_taken() -> None:
    reference = TableRef(uri="/toy", version=3)
    with DAG("typed"):
        raw = DeltaTableOperator(task_id="raw", config=DeltaTableConfig(uri="/data/raw"))
        task = StepOperator(
            task_id="only", component="count", inputs={"table": reference}, config={"journal": "/journal"}
        )
        next_task = StepOperator(task_id="next", component="count", inputs={"table": raw.output["table"]})
    assert raw.component == "delta_table"
    assert task.inputs == {"table": reference}
    assert next_task.upstream_task_ids == {"raw"}


def test_an_input_that_is_no_reference_fails_without_retries(airflow_home: Path) -> None:
    with DAG("wrong") as dag:
        task = IngestOperator(task_id="only", inputs={"table": "a text"}, config={})
    instance = type("Instance", (), {"dag_id": "wrong", "task_id": "only", "run_id": "r", "try_number": 1})()
    with pytest.raises(AirflowFailException, match="an input is a reference") as caught:
        StepOperator.execute.__wrapped__(task, {"ti": instance, "params": {}, "dag": dag})
    assert "got 'a text'" in str(caught.value)


def test_parameters_without_a_value_come_from_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_PARAM_NUMBER", "7")
    given = {"number": None, "journal": "/journal", "unused": [1, 2]}
    config = {"journal": "${journal}/x", "number": "${number}"}
    assert asked_params(config, given) == {"journal": "/journal", "number": "7"}


@pytest.mark.parametrize("given", [None, "2026-01-01T00:00:00Z"], ids=["of the run", "given"])
@pytest.mark.parametrize("dated", [True, False], ids=["scheduled", "started by a table"])
def test_the_date_of_a_run_is_a_parameter(given: str | None, *, dated: bool) -> None:
    date, due = datetime(2026, 11, 3, 2, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)
    run = SimpleNamespace(logical_date=date if dated else None, run_after=due)
    found = run_params({"params": {"logical_date": given, "other": None}, "dag_run": run})
    of_run = "2026-11-03T02:00:00+00:00" if dated else "2026-11-29T00:00:00+00:00"
    assert found == {"logical_date": given or of_run, "other": None}
    assert run_params({"params": {"other": 1}, "dag_run": run}) == {"other": 1}


def test_the_registered_version_has_a_page(settings: Settings) -> None:
    from modelmill_operators.links import version_url

    assert (
        version_url("http://mlflow:5000/", "models:/reuters_topic/3")
        == "http://mlflow:5000/#/models/reuters_topic/versions/3?workflowType=machine_learning"
    )
    assert version_url("http://mlflow:5000", "models:/m-0123") == ""
    assert version_url(settings.tracking_uri, "models:/reuters_topic/3") == ""


def test_a_run_says_for_which_date_it_is() -> None:
    from modelmill_operators.step import _origin

    instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", try_number=2)
    who = {"dag_id": "d", "task_id": "t", "run_id": "r", "try_number": "2"}
    by_an_asset = {"ti": instance, "dag_run": SimpleNamespace(logical_date=None)}
    assert _origin(cast("Context", by_an_asset)) == who
    date = datetime(2026, 1, 30, 2, tzinfo=UTC)
    nightly = {"ti": instance, "dag_run": SimpleNamespace(logical_date=date)}
    assert _origin(cast("Context", nightly)) == {**who, "logical_date": "2026-01-30T02:00:00+00:00"}


@pytest.mark.parametrize("name", ["promote", "approve", "deploy", "replace_trunk"])
def test_a_backfill_changes_nothing_that_is_in_use(name: str) -> None:
    config = {"alias": "x"} if name == "deploy" else {}
    step = operator_for(name)(task_id="live", config=config)
    past = cast("Context", {"dag_run": SimpleNamespace(run_type=DagRunType.BACKFILL_JOB)})
    with pytest.raises(AirflowSkipException, match=f"of a backfill, and {name} changes"):
        step.execute(past)
    with pytest.raises(AirflowSkipException, match=f"of a backfill, and {name} changes"):
        step.after_question(past, {"result": {"run_id": "of an earlier run"}})


def test_a_backfill_makes_datasets_and_judges(pipelines: Path, parsed: Parse) -> None:
    live = {name for name, component in catalogue().items() if component.live}
    assert live == {"promote", "approve", "deploy", "replace_trunk"}
    write(pipelines, "past", {"first": 'config: {journal: "${journal}"}'})
    dag = parsed()["past"]
    step = dag.get_task("first")
    step._check_date(cast("Context", {"dag_run": SimpleNamespace(run_type=DagRunType.BACKFILL_JOB)}))
    assert outcome(dag.test()) == {"first": ("success", 1)}


MAPPED_DAG_FILE = """
from airflow.sdk import DAG
from modelmill_operators import StepOperator

with DAG("mapped", schedule=None):
    StepOperator.partial(task_id="each", component="count", retries=0).expand(
        config=[{"number": number, "journal": JOURNAL} for number in (1, 2)]
    )
"""


def test_the_run_of_a_mapped_tasks_copy_says_which_one_it_is(
    parsed: Parse, airflow_home: Path, tmp_path: Path, settings: Settings
) -> None:
    file = airflow_home / "dags" / "mapped.py"
    file.write_text(f"JOURNAL = {str(tmp_path / 'journal')!r}\n{MAPPED_DAG_FILE}")
    try:
        run = parsed()["mapped"].test()
    finally:
        file.unlink()
    assert {(ti.map_index, str(ti.state)) for ti in run.get_task_instances()} == {
        (0, "success"),
        (1, "success"),
    }
    client = tracking_client(settings.tracking_uri)
    found = client.search_runs([client.get_experiment_by_name("mapped").experiment_id])
    assert {(one.data.tags["airflow.map_index"], one.data.params["number"]) for one in found} == {
        ("0", "1"),
        ("1", "2"),
    }
