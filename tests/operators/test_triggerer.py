"""The triggerer for large pipelines: what a question gets of its DAG (ends: test_nights_in_airflow.py)."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from airflow.executors.workloads.trigger import RunTrigger
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
from airflow.serialization.serialized_objects import DagSerialization

from modelmill.pipeline.validation import parse_pipeline
from modelmill_operators import question, triggerer
from modelmill_operators.loader import build_dag, load_pipelines
from modelmill_operators.triggerer import PatientSocket, StepTriggerRunner, with_one_task

MANY = """
pipeline: many
params: {place: {default: /tables}}
groups: {each: {steps: [read, kept], for_each: {number: [NUMBERS]}}}
steps:
  read: {component: delta_table, config: {uri: "${place}/${number}"}}
  kept:
    component: build_dataset
    inputs: {table: read.table}
    config: {text: text, labels: [label], key: id}
"""


def serialized(copies: int) -> dict[str, object]:
    text = MANY.replace("NUMBERS", ", ".join(map(str, range(copies))))
    return DagSerialization.to_dict(build_dag(parse_pipeline(text)))


def test_a_question_gets_its_own_task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "_wanted", lambda: True)
    whole = serialized(20)
    before = copy.deepcopy(whole)
    dag = DagSerialization.from_dict(with_one_task(whole, "read__7"))
    assert whole == before
    assert list(dag.task_dict) == ["read__7"]
    task, same = dag.get_task("read__7"), DagSerialization.from_dict(whole).get_task("read__7")
    assert task.start_from_trigger is True
    assert task.start_trigger_args.trigger_kwargs == same.start_trigger_args.trigger_kwargs
    assert dag.params.dump() == {"place": "/tables"}
    assert dag.dag_id == "many"


def test_its_size_does_not_grow_with_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "_wanted", lambda: True)
    few, many = (len(json.dumps(with_one_task(serialized(copies), "kept__1"))) for copies in (2, 40))
    assert many == few


def test_a_task_that_is_not_there_leaves_none() -> None:
    assert DagSerialization.from_dict(with_one_task(serialized(2), "gone")).task_dict == {}


def test_a_task_s_process_makes_the_tasks_around_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question, "_wanted", lambda: True)
    (tmp_path / "many.yaml").write_text(MANY.replace("NUMBERS", "1, 2, 3"))
    whole = load_pipelines(tmp_path)["many"]
    for task in whole.task_ids:
        with _airflow_parsing_context_manager(dag_id="many", task_id=task):
            dag = load_pipelines(tmp_path)["many"]
        number = task[-1]
        assert set(dag.task_ids) == {f"read__{number}", f"kept__{number}"}
        told, same = (
            next(
                one
                for one in DagSerialization.to_dict(dag)["dag"]["tasks"]
                if one["__var"]["task_id"] == task
            )
            for dag in (dag, whole)
        )
        assert told == same
    with _airflow_parsing_context_manager(dag_id="many", task_id="gone"):
        assert set(load_pipelines(tmp_path)["many"].task_ids) == set(whole.task_ids)


def test_who_runs_triggers_looks_often_while_steps_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggerer, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(triggerer, "BUSY_SECONDS", 0.05)
    runner, looks = StepTriggerRunner(), list[list[int]]()

    async def look(finished: list[int]) -> None:
        looks.append(finished)

    monkeypatch.setattr(runner, "sync_state_to_supervisor", look)
    workload = SimpleNamespace(id=7, classpath="another.Trigger")
    monkeypatch.setitem(runner.triggers, 7, {"task": SimpleNamespace(done=lambda: False)})  # started already

    async def rounds() -> None:
        runner.to_create.append(cast("RunTrigger", workload))
        await runner.create_triggers()
        await runner.cancel_triggers()

    asyncio.run(rounds())
    assert not looks  # another one's triggers: Airflow's loop goes on as always
    workload.classpath = question.TRIGGER
    asyncio.run(rounds())
    assert len(looks) > 2
    looks.clear()
    runner.stop = True
    asyncio.run(rounds())
    assert not looks


def test_nobody_waits_until_the_other_process_reads() -> None:
    own, other = socket.socketpair()
    patient, sent = PatientSocket(own), [bytes([number]) * 2_000_000 for number in range(3)]
    for data in sent:
        patient.sendall(data)  # more than any socket holds
    with other:
        received = b""
        while len(received) < 6_000_000:
            received += other.recv(1_000_000)
        assert received == b"".join(sent)
        patient.close()
        assert other.recv(1) == b""
