"""Models go into MLflow whole and come out verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.errors import ModelError, TransientError
from modelmill.models.bundle import bundle_digest
from modelmill.registry.bundles import fetch_bundle, log_model, logged_model


def test_a_logged_model_comes_back_the_same(
    make_bundle, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    folder = make_bundle("good")
    model = log_model(
        folder, role="exported", dataset=topic_dataset, context=step_context, metrics={"size": 1.5}
    )
    assert model.digest == bundle_digest(folder)
    shutil.rmtree(step_context.cache)
    fetched = fetch_bundle(model, step_context.cache)
    assert bundle_digest(fetched) == model.digest
    assert logged_model(step_context.run.client, model.uri) == model
    run = step_context.run.client.get_run(model.run_id)
    assert run.info.status == "RUNNING", "logging a model must not end the step's run"
    assert [output.model_id for output in run.outputs.model_outputs] == [model.uri.removeprefix("models:/")]
    tags = step_context.run.client.get_logged_model(model.uri.removeprefix("models:/")).tags
    assert tags["modelmill.dataset"] == f"{topic_dataset.uri}@0"


def test_plain_mlflow_loads_and_asks_it(
    make_bundle, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    model = log_model(make_bundle("good"), role="exported", dataset=topic_dataset, context=step_context)
    loaded = mlflow.pyfunc.load_model(model.uri)
    answers = loaded.predict(pd.DataFrame({"body": ["goal team", "the bank loan", None, " "]}))
    assert answers["prediction"].tolist() == ["sport", "trade", None, None]
    assert answers["score"].tolist()[0] == pytest.approx(0.88, abs=0.01)
    assert answers["score"].isna().tolist() == [False, False, True, True]


def test_a_model_that_was_logged_under_the_former_name_of_its_class_is_loaded(
    make_bundle, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    model = log_model(make_bundle("good"), role="exported", dataset=topic_dataset, context=step_context)
    (script,) = graph_of(model.uri).parents[2].glob("pyfunc_script.py")
    former = script.read_text().replace("modelmill.registry.pyfunc", "modelmill.serving.pyfunc")
    assert "from modelmill.serving.pyfunc import SignalModel" in former
    script.write_text(former)
    loaded = mlflow.pyfunc.load_model(model.uri)
    assert loaded.predict(pd.DataFrame({"body": ["goal team"]}))["prediction"].tolist() == ["sport"]


def graph_of(model_uri: str) -> Path:
    """The stored model.onnx of a logged model."""
    logged = mlflow.get_logged_model(model_uri.removeprefix("models:/"))
    (found,) = Path(logged.artifact_location.removeprefix("file://")).rglob("model.onnx")
    return found


def test_changed_files_are_refused_by_both_ways_in(
    make_bundle, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    model = log_model(make_bundle("good"), role="exported", dataset=topic_dataset, context=step_context)
    shutil.rmtree(step_context.cache)
    file = graph_of(model.uri)
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match="must have the digest"):
        fetch_bundle(model, step_context.cache)
    with pytest.raises(ModelError, match="must have the digest"):
        mlflow.pyfunc.load_model(model.uri)
    file.unlink()
    with pytest.raises((ModelError, TransientError)):
        fetch_bundle(model, step_context.cache)


def test_a_folder_that_is_no_bundle_is_not_logged(
    make_bundle, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    folder = make_bundle("good")
    (folder / "weights.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"has exactly model.onnx, modelmill.json, tokenizer.json"):
        log_model(folder, role="exported", dataset=topic_dataset, context=step_context)
    client = step_context.run.client
    assert client.search_logged_models([step_context.run.experiment_id]) == []
