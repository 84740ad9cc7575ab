"""Several teachers into one student: a trunk and a head for each of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelError
from modelmill.models.signal_scorer import SignalScorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.signal_models import read_signals
from modelmill.steps import distill_signals, fine_tune
from modelmill.steps.distill_signals import DistillSignalsConfig, DistillSignalsInputs
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs

FAST = {"epochs": 8, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2}
LABELS = ("topic", "words", "named")


@pytest.fixture
def dataset(topic_dataset: DatasetRef) -> DatasetRef:
    """Texts with a class, a number, and a set of classes; every third row has no topic."""
    table = DeltaTable(topic_dataset.uri).to_pyarrow_table()
    words = [text.split() for text in table.column("body").to_pylist()]
    topics = [
        None if number % 3 == 0 else name for number, name in enumerate(table.column("topic").to_pylist())
    ]
    named = [[name for name in ("goal", "bank") if name in row] for row in words]
    table = table.drop_columns(["topic"])
    table = table.append_column("topic", pa.array(topics, pa.string()))
    table = table.append_column("words", [[100.0 + 10 * len(row) for row in words]])
    table = table.append_column("named", pa.array(named, pa.list_(pa.string())))
    uri = f"{topic_dataset.uri}_many"
    write_deltalake(uri, table)
    return topic_dataset.model_copy(update={"uri": uri, "labels": LABELS})


def in_folder(context: StepContext, name: str) -> StepContext:
    folder = context.workdir / name
    folder.mkdir()
    return dataclasses.replace(context, workdir=folder)


def taught(label: str, base: Path, dataset: DatasetRef, context: StepContext) -> ModelRef:
    config = {"base_model": str(base), "max_tokens": 16, "frozen_layers": 0, "label": label, **FAST}
    return fine_tune.run(
        FineTuneConfig.model_validate(config),
        FineTuneInputs(dataset=dataset),
        in_folder(context, f"teacher {label}"),
    ).model


def configured(**changes: Any) -> DistillSignalsConfig:
    return DistillSignalsConfig.model_validate(
        {"layers": 1, "method": "none", **FAST, "epochs": 15, "prefix": "many_", **changes}
    )


def test_one_student_answers_what_three_teachers_did(
    tiny_base_model: Path, dataset: DatasetRef, step_context: StepContext
) -> None:
    teachers = [taught(label, tiny_base_model, dataset, step_context) for label in LABELS]
    # The dataset has no column "named" here: that teacher alone says what its rows are.
    fewer = dataset.model_copy(update={"labels": LABELS[:2]})
    made = distill_signals.run(
        configured(), DistillSignalsInputs(dataset=fewer, teachers=teachers), in_folder(step_context, "one")
    )
    trunk, signals = made.trunk, made.signals
    assert (trunk.role, trunk.format, trunk.parent) == ("trunk", "trunk", teachers[0].uri)
    heads = read_signals(signals)
    assert tuple(heads) == LABELS
    assert {head.trunk for head in heads.values()} == {trunk.uri}
    assert [head.parent for head in heads.values()] == [teacher.uri for teacher in teachers]
    client = step_context.run.client
    assert {f"many_{label}" for label in LABELS} <= {
        model.name for model in client.search_registered_models()
    }
    scorer = SignalScorer({name: fetch_bundle(head, step_context.cache) for name, head in heads.items()})
    assert len(scorer.passes) == 1
    short, long = "goal match the", "bank loan a of and with the today new said the a"
    found = scorer.scores([short, long])
    assert found["topic"].argmax(axis=1).tolist() == [0, 1]
    assert 80 < found["words"][0, 0] < found["words"][1, 0] < 300
    figures = {
        metric.key: metric.value
        for head in heads.values()
        for metric in client.get_logged_model(head.uri.removeprefix("models:/")).metrics
    }
    assert figures["teacher_agreement/topic"] >= 0.8
    assert figures["teacher_agreement/named"] >= 0.5
    assert {"validation_accuracy/topic", "validation_r2/words", "teacher_agreement/named"} <= set(figures)

    # The same seed gives the same bits.
    again = distill_signals.run(
        configured(), DistillSignalsInputs(dataset=fewer, teachers=teachers), in_folder(step_context, "again")
    )
    assert again.trunk.digest == trunk.digest


def test_teachers_that_do_not_go_together_are_refused(
    tiny_base_model: Path, dataset: DatasetRef, step_context: StepContext
) -> None:
    teacher = taught("topic", tiny_base_model, dataset, step_context)
    context = in_folder(step_context, "one")
    with pytest.raises(ConfigError) as caught:
        distill_signals.run(
            configured(), DistillSignalsInputs(dataset=dataset, teachers=[teacher, teacher]), context
        )
    assert str(caught.value) == (
        "a student of many needs teachers, each of a label of its own; got 'several for topic'; "
        "add inputs: {teachers: [STEP.model, …]}, one for each label"
    )
    with pytest.raises(ConfigError, match="must name the label of a teacher; got 'topik'"):
        distill_signals.run(
            configured(start="topik"), DistillSignalsInputs(dataset=dataset, teachers=[teacher]), context
        )
    with pytest.raises(ModelError, match="a student cannot have more layers than its teacher, 2; got 3"):
        distill_signals.run(
            configured(layers=3), DistillSignalsInputs(dataset=dataset, teachers=[teacher]), context
        )
    assert not step_context.run.client.search_registered_models()
