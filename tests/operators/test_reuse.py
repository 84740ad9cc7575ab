"""Steps whose results are there already begin and end in the triggerer: which ones, and with what."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.observability import stats
from airflow.observability.metrics import stats_utils
from airflow.sdk import DAG
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from modelmill.pipeline import reuse as library
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.validation import parse_pipeline
from modelmill.settings import Settings
from modelmill_operators import loader, reuse
from modelmill_operators.loader import build_dag, load_pipelines
from modelmill_operators.reuse import ReuseTrigger

TWO = """
pipeline: two
params: {number: {default: 1}}
steps:
  first: {component: count, config: {journal: JOURNAL, number: "${number}"}}
  second:
    component: count
    inputs: {table: first.table}
    config: {journal: JOURNAL, behaviour: BEHAVIOUR, number: "${number}"}
  verdict: {component: judge, inputs: {table: first.table}}
  third: {component: gather, inputs: {tables: [first.table, second.table]}, when: {verdict: refused}}
"""


def dag_of(folder: Path, *, behaviour: str = "work", more: str = "") -> DAG:
    text = TWO.replace("JOURNAL", str(folder / "journal")).replace("BEHAVIOUR", behaviour)
    return build_dag(parse_pipeline(text + more))


class Run:
    """The steps of the pipeline, run in this process: what Airflow would have of them as XComs."""

    def __init__(self, dag: DAG, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dag, self.settings = dag, settings
        self.xcoms: dict[tuple[str, str], Any] = {}
        monkeypatch.setattr(reuse.XCom, "get_one", self.pulled)
        monkeypatch.setattr(reuse._pulls, "_kept", {})
        self.pulls = 0

    def pulled(self, **of: Any) -> Any:
        self.pulls += 1
        return self.xcoms[of["task_id"], of["key"]]

    def trigger(self, task: str) -> ReuseTrigger:
        arguments = self.dag.get_task(task).start_trigger_args.trigger_kwargs
        made = ReuseTrigger(**json.loads(json.dumps(arguments)))
        instance = SimpleNamespace(
            dag_id="two",
            run_id="r",
            task_id=task,
            task=None,
            get_template_context=lambda: {"params": {"number": 1}},
        )
        made._task_instance = instance  # Airflow's own setter wants a whole task
        return made

    def make(self, task: str) -> StepResult:
        """Run a step, and keep its outputs."""
        result = run_step(self.trigger(task)._request(), self.settings)
        outputs = {port: one.model_dump(mode="json") for port, one in result.outputs.items()}
        self.xcoms |= {(task, port): value for port, value in outputs.items()}
        return result

    def asked(self, *tasks: str) -> list[TriggerEvent]:
        async def only(events: AsyncIterator[TriggerEvent]) -> TriggerEvent:
            (event,) = [event async for event in events]
            return event

        async def together() -> list[TriggerEvent]:
            return await asyncio.gather(*(only(self.trigger(task).run()) for task in tasks))

        return asyncio.run(together())


@pytest.fixture(autouse=True)
def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MODELMILL__ASK_IN_TRIGGERER", "True")


@pytest.fixture
def run(
    tmp_path: Path, settings: Settings, toy_components: None, monkeypatch: pytest.MonkeyPatch
) -> Run:  # the components are installed first
    return Run(dag_of(tmp_path), settings, monkeypatch)


def test_a_step_with_a_result_ends_where_it_is_asked_about(run: Run) -> None:
    assert run.asked("first")[0].payload == {"result": None}
    first, second = run.make("first"), run.make("second")
    events = run.asked("first", "second")
    assert all(isinstance(event, TaskSuccessEvent) for event in events)
    for event, result in zip(events, (first, second), strict=True):
        assert isinstance(event, TaskSuccessEvent)
        outputs = {port: one.model_dump(mode="json") for port, one in result.outputs.items()}
        assert event.xcoms == {
            **outputs,
            "return_value": outputs,
            "modelmill_step": {**result.to_keep(), "reused": True},
            "_link_MlflowRunLink": result.run_url,
        }


def test_a_step_that_ends_where_it_is_asked_about_is_counted_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.make("first")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(10)
        for name, value in (("ON", "True"), ("HOST", "127.0.0.1"), ("PORT", str(statsd.getsockname()[1]))):
            monkeypatch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", value)
        logger = stats_utils.get_stats_factory()()
        stats.initialize(factory=lambda: logger, export_legacy_names=True)  # as the triggerer begins
        try:
            run.asked("first", "second")  # the second one has no result, and goes to a worker
            heard = {statsd.recv(1000).decode() for _ in range(2)}
            statsd.setblocking(False)
            with pytest.raises(BlockingIOError):
                statsd.recv(1000)
        finally:
            stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
            logger.statsd.close()
    name = "airflow.modelmill.step.reused"
    assert heard == {f"{name}:1|c", f"{name}.two.first:1|c"}


def test_all_that_ask_meanwhile_are_one_question(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.make("first"), run.make("second")
    asked: list[int] = []
    answers = reuse._answering.answers

    def counted(requests: list[StepRequest], *, seconds: float) -> list[library.ReuseAnswer]:
        asked.append(len(requests))
        return answers(requests, seconds=seconds)

    monkeypatch.setattr(reuse._answering, "answers", counted)
    run.pulls = 0
    monkeypatch.setattr(reuse._pulls, "_kept", {})
    assert len(run.asked(*["first", "second"] * 10)) == 20
    assert asked == [20]
    assert run.pulls == 1  # of what ten of them get


def test_who_asks_as_the_last_answer_ends_is_answered(run: Run) -> None:
    """Between a task's end and its callback the loop may run others."""
    run.make("first")
    request = run.trigger("first")._request()

    async def late() -> library.ReuseAnswer:
        ended = asyncio.create_task(asyncio.sleep(0))
        await ended
        reuse._tasks.add(ended)
        try:
            return await asyncio.wait_for(reuse._ask(request), 90)
        finally:
            reuse._tasks.discard(ended)

    assert asyncio.run(late()).result is not None


def test_a_step_whose_verdict_is_another_is_skipped(run: Run) -> None:
    run.make("first"), run.make("second"), run.make("verdict")
    assert isinstance(run.asked("third")[0], TaskSkippedEvent)


def test_what_goes_wrong_is_the_workers_to_say(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.make("first")
    del run.xcoms["first", "table"]
    monkeypatch.setattr(reuse._pulls, "_kept", {})
    assert run.asked("second")[0].payload == {"result": None}

    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/no/python")
        broken.setenv("MODELMILL_HOME", "/another")  # it is started again
        assert [event.payload for event in run.asked("first", "first")] == [{"result": None}] * 2

    async def never(_request: StepRequest) -> library.ReuseAnswer:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(reuse, "_ask", never)
    monkeypatch.setattr(reuse, "ANSWER_SECONDS", 0.1)
    assert run.asked("first")[0].payload == {"result": None}


def test_a_server_that_hangs_sends_every_step_to_its_worker(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of one question is not that of the next: whoever asks later is answered."""
    run.make("first")
    tracking = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setattr(reuse, "QUESTION_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        events = run.asked(*["first"] * 10)
        assert [event.payload for event in events] == [{"result": None}] * 10
        assert time.monotonic() - began < 10
    monkeypatch.setattr(reuse, "QUESTION_SECONDS", 60.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    assert isinstance(run.asked("first")[0], TaskSuccessEvent)


def test_a_worker_ends_a_step_that_updates_an_asset(
    tmp_path: Path, settings: Settings, toy_components: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(dag_of(tmp_path, behaviour="loud"), settings, monkeypatch)
    run.make("first")
    result = run.make("second")
    (event,) = run.asked("second")
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["result"] == {**result.model_dump(mode="json"), "reused": True}


def test_which_steps_are_asked_about(
    tmp_path: Path, toy_components: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_there(dag: DAG) -> set[str]:
        return {task.task_id for task in dag.tasks if task.start_from_trigger}

    assert begin_there(dag_of(tmp_path)) == {"first", "second", "verdict", "third"}
    # Only the step's own process gets the store's secrets.
    assert begin_there(dag_of(tmp_path, more="storage_connection: lake\n")) == set()
    monkeypatch.setenv("MODELMILL_PYTHON", "/another/python")
    assert begin_there(dag_of(tmp_path)) == set()
    monkeypatch.delenv("MODELMILL_PYTHON")
    monkeypatch.delenv("AIRFLOW__MODELMILL__ASK_IN_TRIGGERER")  # as long as nobody says otherwise
    assert begin_there(dag_of(tmp_path)) == set()


def test_airflow_keeps_the_question_with_the_dag(tmp_path: Path, toy_components: None) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = dag_of(tmp_path)
    task = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("third")
    assert task.start_from_trigger is True
    assert task.start_trigger_args.trigger_cls == "modelmill_operators.reuse.ReuseTrigger"
    assert task.start_trigger_args.next_method == "after_question"
    again = ReuseTrigger(**dag.get_task("third").start_trigger_args.trigger_kwargs).serialize()
    assert again == (
        "modelmill_operators.reuse.ReuseTrigger",
        dag.get_task("third").start_trigger_args.trigger_kwargs,
    )


def test_airflows_triggerer_makes_the_question_of_a_run(
    tmp_path: Path, settings: Settings, toy_components: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its runner does it: from the serialised DAG, with the run's own parameters."""
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.models.trigger import Trigger
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.serialized_objects import DagSerialization

    run = Run(dag_of(tmp_path), settings, monkeypatch)
    run.make("first")
    encoded = DagSerialization.to_dict(run.dag)
    now = datetime.now(UTC)
    instance = TaskInstanceDTO(
        id=uuid4(),
        dag_version_id=uuid4(),
        task_id="second",
        dag_id="two",
        run_id="r",
        try_number=1,
        map_index=-1,
        pool_slots=1,
        queue="default",
        priority_weight=1,
    )
    of_run = {
        **dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end"), None),
        "dag_id": "two",
        "run_id": "r",
        "run_after": now,
        "start_date": now,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "consumed_asset_events": [],
        "partition_key": None,
        "conf": {"number": 7},
    }
    arguments = DagSerialization.from_dict(encoded).get_task("second").start_trigger_args.trigger_kwargs
    kept = Trigger._decrypt_kwargs(Trigger.encrypt_kwargs(arguments))  # as they lie in the database
    made = ReuseTrigger(**{name: smart_decode_trigger_kwargs(value) for name, value in kept.items()})
    runtime = TriggerRunner.create_runtime_ti(instance, encoded, of_run)
    context = runtime.get_template_context()
    made.task_instance = runtime
    made.render_template_fields(context=context)
    assert made.template_fields == ()
    request = made._request()
    assert request.params == {"number": 7}
    assert request.step == "second"
    assert request.inputs == {"table": run.make("first").outputs["table"]}

    of_run["run_type"] = "backfill"
    live = StepRequest.model_validate_json(made.asked).model_copy(update={"component": "promote"})
    for asked, says in ((made.asked, None), (live.model_dump_json(), "of a backfill, and promote changes")):
        past = ReuseTrigger(**{**made.serialize()[1], "request": asked})
        past.task_instance = TriggerRunner.create_runtime_ti(instance, encoded, of_run)
        said = past._unmet()
        assert said == says if says is None else says in str(said)


def test_a_tasks_process_reads_the_file_of_its_own_dag(
    tmp_path: Path, toy_components: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "pipeline: {0}\nsteps: {{only: {{component: count, config: {{journal: /j}}}}}}\n"
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.yaml").write_text(text.format(name))
    (tmp_path / "other_file.yaml").write_text(text.format("four"))
    every = {"one", "two", "three", "four"}
    assert set(load_pipelines(tmp_path)) == every
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two")
    assert set(load_pipelines(tmp_path)) == {"two"}
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "four")  # its file has another name
    assert set(load_pipelines(tmp_path)) == every

    def mistake(*_arguments: object, **_options: object) -> DAG:
        raise RuntimeError("a mistake")

    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two")
    monkeypatch.setattr(loader, "build_dag", mistake)
    assert set(load_pipelines(tmp_path)["two"].tags) == {"invalid", "modelmill"}
