"""The triggerer for large pipelines: what a question gets of its DAG (ends: test_nights_in_airflow.py)."""

from __future__ import annotations

import copy
import json

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from modelmill.pipeline.validation import parse_pipeline
from modelmill_operators import question
from modelmill_operators.loader import build_dag
from modelmill_operators.triggerer import with_one_task

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
