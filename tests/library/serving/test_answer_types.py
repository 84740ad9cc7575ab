"""One request, asked in every way: the answers are the same, and have the same types."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from mlflow.pyfunc import scoring_server

from modelmill.artifacts import ModelRef, TableRef
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.models.predictions import answer_text
from modelmill.serving.scoring import ScoreTableRequest, score_batches

TEXTS: list[str | None] = [
    "goal team",
    "a loan",
    "the",
    None,
    "  ",
    "\u200b",
    "goal bank",
    "goal loan goal",
    "\0",
    "goal\0",
]
ROWS = len(TEXTS)
FORMS: dict[str, Any] = {
    "records": {"dataframe_records": [{"body": text, "id": 1} for text in TEXTS]},
    "records by the common name": {"dataframe_records": [{"text": text} for text in TEXTS]},
    "split": {"dataframe_split": {"columns": ["id", "body"], "data": [[1, text] for text in TEXTS]}},
    "split without columns": {"dataframe_split": {"data": [[text] for text in TEXTS]}},
    "inputs": {"inputs": TEXTS},
    "columns": {"inputs": {"text": TEXTS}},
    "inputs of rows": {"inputs": [{"body": text} for text in TEXTS]},
    "instances": {"instances": [{"body": text} for text in TEXTS]},
    "plain instances": {"instances": TEXTS},
}
TYPES = {"class": str, "classes": list, "number": float}


def in_table(folder: Path, texts: list[str | None]) -> pa.Table:
    """What score_table's workers make of texts."""
    info = BundleInfo.load(folder)
    model = ModelRef(
        uri="models:/x/1", run_id="0", digest=bundle_digest(folder), format="onnx", role="exported"
    )
    request = ScoreTableRequest(
        table=TableRef(uri="/none", version=0),
        model=model,
        bundle=str(folder),
        text="body",
        answer_type=info.task.answer_type,
        to="/other",
    )
    batches = [pa.record_batch({"text": pa.array(texts, pa.string())})]
    return pa.Table.from_batches(score_batches(batches, request=request))


@pytest.mark.parametrize("target", ["class", "classes", "number"])
def test_the_same_request_has_the_same_typed_answer(
    target: str, registry: Any, served: Callable[..., Any]
) -> None:
    registry.move("topics", registry.add("topics", "good", target=target))
    folder = registry.context.cache.parent / "bundles" / "good"
    scored = in_table(folder, TEXTS)
    answer_type = BundleInfo.load(folder).task.answer_type
    assert str(scored.schema.field("prediction").type) == {"array<string>": "list<item: string>"}.get(
        answer_type, answer_type
    )
    assert scored.schema.field("score").type == pa.float64()
    expected = scored.select(["prediction", "score"]).to_pylist()
    blank = {"prediction": None, "score": None}
    assert [row == blank for row in expected] == [text in (None, "  ", "\u200b", "\0") for text in TEXTS]
    assert all(isinstance(row["prediction"], TYPES[target]) for row in expected if row != blank)

    model = mlflow.pyfunc.load_model("models:/topics@champion")
    signature = model.metadata.signature.outputs.to_dict()
    kinds = {"class": "string", "classes": "array", "number": "double"}
    assert [column["type"] for column in signature] == [kinds[target], "double"]
    assert signature[0].get("items") == ({"type": "string"} if target == "classes" else None)

    own: list[Any] = [pd.DataFrame({"id": range(ROWS), "body": TEXTS}), pd.DataFrame({"text": TEXTS})]
    own += [TEXTS, {"body": TEXTS}, pd.Series(TEXTS), np.array(TEXTS, dtype=object)]
    for given in own:
        assert model.predict(given).to_dict("records") == expected
        assert model.predict(given)["prediction"].tolist() == [row["prediction"] for row in expected]
        scores = model.predict(given)["score"].tolist()
        assert scores == [row["score"] for row in expected]
        assert {type(score) for score in scores} == {float, type(None)}  # numpy's float is none in JSON

    server = TestClient(scoring_server.init(model))
    with served(models=("topics",)) as service:
        for name, form in FORMS.items():
            theirs = server.post("/invocations", json=form)
            assert theirs.status_code == 200, (name, theirs.text)
            assert "NaN" not in theirs.text
            assert json.loads(theirs.text)["predictions"] == expected, name
            ours = service.client.post("/v1/predict", json=form)
            assert ours.status_code == 200, (name, ours.text)
            assert [row["topics"] for row in ours.json()["rows"]] == expected, name
        for body in (TEXTS, {"rows": TEXTS}, {"rows": [{"body": text} for text in TEXTS]}):
            found = service.client.post("/v1/predict", json=body).json()["rows"]
            assert [row["topics"] for row in found] == expected


def test_a_list_in_a_column_is_as_many_rows(registry: Any) -> None:
    registry.move("topics", registry.add("topics", "good"))
    model = mlflow.pyfunc.load_model("models:/topics@champion")
    assert model.predict({"body": ["goal", "loan"]})["prediction"].tolist() == ["sport", "trade"]
    assert model.predict({"text": "goal"})["prediction"].tolist() == ["sport"]
    for wrong, said in [
        (pd.DataFrame({"body": [["goal", "team"], ["loan"]]}), "a text is a string or null"),
        (pd.DataFrame({"body": [5]}), "a text is a string or null; got '5 in row 0'"),
        (pd.DataFrame({"other": ["goal"]}), "must have a column 'body' or 'text'"),
    ]:
        with pytest.raises(ModelError, match=said):
            model.predict(wrong)


@pytest.mark.parametrize("target", ["classes", "number"])
def test_a_model_of_an_earlier_version_answers_as_its_signature_says(target: str, registry: Any) -> None:
    registry.move("topics", registry.add("topics", "good", target=target))
    model = mlflow.pyfunc.load_model("models:/topics@champion")
    typed = model.predict(TEXTS)["prediction"].tolist()
    model.unwrap_python_model().typed = False  # what is not among the settings that it was logged with
    texts = model.predict(TEXTS)["prediction"].tolist()
    assert [None if text is None else json.loads(text) for text in texts] == typed


def test_answers_as_text() -> None:
    answers: list[Any] = ["é", ["é", "b"], [], 0.5, None]
    assert [answer_text(answer) for answer in answers] == ["é", '["é", "b"]', "[]", "0.5", None]


def test_what_is_not_finite_is_null(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bundle("odd", target="number")
    info = BundleInfo.load(folder)
    answers, scores = info.answers(np.array([[math.nan], [math.inf], [1.5]], np.float32))
    from modelmill.models.predictions import or_null

    assert list(map(or_null, answers, scores)) == [(None, None), (None, None), (1.5, 1.5)]
