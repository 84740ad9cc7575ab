"""A logged model as MLflow's ``spark_udf``: the same typed answers as ``score_table``'s, null included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.component import StepContext
from modelmill.models.bundle import BundleInfo
from modelmill.registry.bundles import log_model
from modelmill.serving.scoring import ScoreTableRequest, score_batches

WORDS = ["goal", "team", "match", "loan", "bank", "the", "tariff"]


@pytest.mark.parametrize("target", ["class", "classes", "number"])
def test_spark_udf_answers_as_score_table_does(
    target: Any,
    sail: Any,
    make_bundle: Callable[..., Path],
    topic_dataset: DatasetRef,
    step_context: StepContext,
) -> None:
    folder = make_bundle("good", target=target)
    model = log_model(folder, role="exported", dataset=topic_dataset, context=step_context)
    random = np.random.default_rng(7)
    texts: list[str | None] = [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(1000)]
    texts[3:900:50] = [None] * len(texts[3:900:50])
    texts[5:900:90] = ["  "] * len(texts[5:900:90])
    request = ScoreTableRequest(
        table=TableRef(uri="/none", version=0),
        model=model,
        bundle=str(folder),
        text="body",
        answer_type=BundleInfo.load(folder).task.answer_type,
        to="/other",
    )
    batches = [pa.record_batch({"text": pa.array(texts, pa.string())})]
    expected = pa.Table.from_batches(score_batches(batches, request=request)).to_pylist()
    rows = sail.createDataFrame([(number, text) for number, text in enumerate(texts)], "id long, body string")
    udf = mlflow.pyfunc.spark_udf(sail, model.uri, env_manager="local")
    found = rows.select("id", udf("body").alias("answer")).orderBy("id")
    kinds = {"class": "string", "classes": "array<string>", "number": "double"}
    assert (
        found.schema["answer"].dataType.simpleString() == f"struct<prediction:{kinds[target]},score:double>"
    )
    answers = [(row["answer"]["prediction"], row["answer"]["score"]) for row in found.collect()]
    assert answers == [(row["prediction"], row["score"]) for row in expected]
    assert sum(prediction is None for prediction, _ in answers) == 28
