"""Requests, swaps and failures of a service that runs in this process, against a real registry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import pandas as pd
import pytest

from modelmill.serving.deployments import Deployment, write_deployment
from modelmill.serving.service import Service
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table

Served = Callable[..., Any]


def test_answers_are_those_of_mlflow(registry: Any, served: Served) -> None:
    registry.move("topics", registry.add("topics", "good"))
    texts = ["goal team", "a loan", "the", None, "  ", "goal bank"]
    expected = mlflow.pyfunc.load_model("models:/topics@champion").predict(pd.DataFrame({"body": texts}))
    with served(models=("topics",)) as service:
        found = service.predict(*texts)
    assert [row["topics"]["prediction"] for row in found["rows"]] == expected["prediction"].tolist()
    scores = [row["topics"]["score"] for row in found["rows"]]
    assert scores == [None if pd.isna(score) else score for score in expected["score"]]
    assert found["models"]["topics"]["version"] == 1
    assert len(found["models"]["topics"]["digest"]) == 64


def test_signals_are_chosen_by_name(registry: Any, served: Served) -> None:
    for name, skill in (("right", 1.0), ("wrong", -1.0)):
        registry.move(name, registry.add(name, name, skill=skill))
    with served(models=("right", "wrong")) as service:
        assert set(service.predict("goal")["models"]) == {"right", "wrong"}
        found = service.predict("goal", "loan", signals=["wrong", "wrong"])
        assert [{name: answer["prediction"] for name, answer in row.items()} for row in found["rows"]] == [
            {"wrong": "trade"},
            {"wrong": "sport"},
        ]
        assert service.metric("rows_total", model="right", version="1") == 1
        assert service.metric("rows_total", model="wrong", version="1") == 3


BAD_REQUESTS = [
    (b"", 400, "body: Invalid JSON"),
    (b"{", 400, "Invalid JSON"),
    (b'{"rows": [{"text": "\\ud800"}]}', 400, "unexpected end of hex escape"),
    (b"[" * 5000, 400, "recursion limit"),
    (b"[]", 422, "rows: List should have at least 1 item"),
    (b"5", 422, "body: "),
    (b"{}", 422, "rows: Field required"),
    (b'{"rows": []}', 422, "rows: List should have at least 1 item"),
    (b'{"rows": [{}]}', 422, "rows.0: must have the field body or text"),
    (b'{"rows": [{"text": 1}]}', 422, "rows.0.text: a text is a string or null; got 1"),
    (b'{"rows": ["a", 1]}', 422, "rows.1: a text is a string or null; got 1"),
    (b'{"rows": [{"txet": "a"}]}', 422, "rows.0: must have the field body or text"),
    (b'{"rows": ["a"], "inputs": ["a"]}', 422, "inputs: Extra inputs are not permitted"),
    (b'{"dataframe_records": {}}', 422, "rows: Input should be a valid array"),
    (b'{"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}', 422, "a list of rows"),
    (b'{"inputs": {"text": ["a", "b"], "n": [1]}}', 422, "as many values as the others"),
    (b'{"rows": [{"text": "a"}], "signals": []}', 422, "signals: List should have at least 1 item"),
    (b'{"rows": [' + b",".join([b'{"text": 1}'] * 30) + b"]}", 422, "and 20 more"),
    (b'{"rows": [{"text": "a"}], "signals": ["topic"]}', 404, "did you mean 'topics'?"),
    (b'{"rows": [' + b",".join([b'{"text": "a"}'] * 257) + b"]}", 413, "at most 256 rows; got 257"),
    (b'{"rows": [{"text": "' + b"a" * 1_000_000 + b'"}]}', 413, "at most 1000000 bytes"),
]


def test_a_wrong_request_is_refused_and_disturbs_nothing(registry: Any, served: Served) -> None:
    registry.move("topics", registry.add("topics", "good"))
    with served(models=("topics",)) as service:
        for body, status, said in BAD_REQUESTS:
            response = service.client.post("/v1/predict", content=body)
            assert response.status_code == status, body[:80]
            assert said in response.json()["detail"], body[:80]
            assert service.predict("goal")["rows"][0]["topics"]["prediction"] == "sport"
        for status in (400, 404, 413, 422):
            expected = sum(bad[1] == status for bad in BAD_REQUESTS)
            assert service.metric("requests_total", status=str(status)) == expected


def test_a_full_queue_says_when_to_come_again(
    registry: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.move("topics", registry.add("topics", "good"))
    go, working = threading.Event(), threading.Event()
    answer = Service._answer

    def slow(self: Service, batch: Any) -> None:
        working.set()
        assert go.wait(20)
        answer(self, batch)

    monkeypatch.setattr(Service, "_answer", slow)
    with served(models=("topics",), queue_rows=4) as service, ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.predict, *["goal"] * 4)
        assert working.wait(20)
        response = service.client.post("/v1/predict", json={"rows": [{"text": "goal"}] * 4})
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        go.set()
        assert len(first.result()["rows"]) == 4
        assert len(service.predict(*["goal"] * 4)["rows"]) == 4


def test_a_swap_keeps_the_models_of_a_request_that_waits(
    registry: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.move("topics", registry.add("topics", "good"))
    go, working = threading.Event(), threading.Event()
    answer = Service._answer

    def slow(self: Service, batch: Any) -> None:
        working.set()
        assert go.wait(20)
        answer(self, batch)

    with served(models=("topics",)) as service, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(service.service._queue, "_work", lambda batch: slow(service.service, batch))
        first = pool.submit(service.predict, *["goal"] * 9)
        assert working.wait(20)
        registry.move("topics", registry.add("topics", "bad", skill=-1.0))
        service.service.follower.poll()
        go.set()
        before, after = first.result(), service.predict("goal")
    assert {row["topics"]["prediction"] for row in before["rows"]} == {"sport"}
    assert before["models"]["topics"]["version"] == 1
    assert after["rows"][0]["topics"]["prediction"] == "trade"
    assert after["models"]["topics"]["version"] == 2


def test_a_tampered_version_leaves_the_one_before_in_use(registry: Any, served: Served) -> None:
    registry.move("topics", registry.add("topics", "good"))
    with served(models=("topics",)) as service:
        second = registry.add("topics", "bad", skill=-1.0)
        digest = registry.context.run.client.get_model_version("topics", "2").tags["modelmill.digest"]
        (registry.context.cache / "models" / digest / "model.onnx").write_bytes(b"")
        (place,) = [
            path
            for path in (registry.context.cache.parent / "artifacts").rglob("model.onnx")
            if path.stat().st_size and digest_of(path.parent) == digest
        ]
        content = place.read_bytes()
        place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        registry.move("topics", second)
        service.service.follower.poll()
        found = service.predict("goal")
        assert (found["models"]["topics"]["version"], found["rows"][0]["topics"]["prediction"]) == (
            1,
            "sport",
        )
        ready = service.client.get("/readyz")
        assert ready.status_code == 200
        (model,) = ready.json()["models"]
        assert (model["state"], model["version"], model["champion"]) == ("stale", 1, 2)
        assert model["refused"]
        assert "must have the digest" in model["error"]
        assert service.metric("load_failures_total", model="topics") == 1
        assert service.metric("model_stale", model="topics") == 1
        service.service.follower.poll()  # not again at once
        assert service.metric("load_failures_total", model="topics") == 1
        place.write_bytes(content)
        registry.move("topics", 1)
        service.service.follower.poll()
        registry.move("topics", second)
        service.service.follower.poll()
        assert service.predict("goal")["models"]["topics"]["version"] == 2
        assert service.metric("model_stale", model="topics") == 0


def digest_of(folder: Any) -> str:
    from modelmill.models.bundle import bundle_digest

    return bundle_digest(folder)


def test_an_unreachable_registry_changes_nothing(
    registry: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.move("topics", registry.add("topics", "good"))
    with served(models=("topics",)) as service:
        monkeypatch.setattr(
            type(registry.context.run.client), "search_registered_models", lambda *_, **__: 1 / 0
        )
        service.service.follower.poll()
        assert service.predict("goal")["models"]["topics"]["version"] == 1
        state = service.client.get("/readyz").json()
        assert state["ready"]
        assert "ZeroDivisionError" in state["error"]
        assert service.metric("poll_failures_total") == 1
        monkeypatch.undo()
        registry.move("topics", registry.add("topics", "bad", skill=-1.0))
        monkeypatch.setattr(type(service.service.follower), "_updated", lambda *_, **__: 1 / 0)
        service.service.follower.poll()
        assert service.predict("goal")["models"]["topics"]["version"] == 1
        assert service.metric("poll_failures_total") == 2
        monkeypatch.undo()
        service.service.follower.poll()
        assert service.predict("goal")["models"]["topics"]["version"] == 2
        assert service.client.get("/readyz").json()["error"] is None


def test_a_service_follows_what_is_deployed(registry: Any, served: Served) -> None:
    settings = registry.context.settings
    registry.move("topics", registry.add("topics", "good"))
    with served(service="live") as service:
        assert service.client.get("/healthz").status_code == 200
        state = service.client.get("/readyz")
        assert state.status_code == 503
        assert state.json()["error"] == "nothing has been deployed to this service yet"
        response = service.client.post("/v1/predict", json={"rows": [{"text": "goal"}]})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        write_deployment(Deployment(model="topics"), "other", settings)
        service.service.follower.poll()
        assert service.client.get("/readyz").status_code == 503
        write_deployment(Deployment(model="topics"), "live", settings)
        service.service.follower.poll()
        assert service.client.get("/readyz").status_code == 200
        assert service.predict("goal")["models"]["topics"]["version"] == 1
        # A model that has no champion yet does not take the others out of use.
        write_deployment(Deployment(model="missing"), "live", settings)
        service.service.follower.poll()
        state = service.client.get("/readyz")
        assert state.status_code == 200
        assert [model["state"] for model in state.json()["models"]] == ["missing", "ready"]
        assert set(service.predict("goal")["models"]) == {"topics"}


def test_a_challenger_is_compared_and_never_answers(registry: Any, served: Served, tmp_path: Any) -> None:
    settings = registry.context.settings
    registry.move("topics", registry.add("topics", "good"))
    registry.move("topics", registry.add("topics", "bad", skill=-1.0), alias="challenger")
    write_deployment(Deployment(model="topics", shadow=True), "live", settings)
    with served(service="live", shadow_table=str(tmp_path / "compared")) as service:
        found = service.predict("goal", "the", None, "loan")
        assert [row["topics"]["prediction"] for row in found["rows"]] == ["sport", "sport", None, "trade"]
        (model,) = service.client.get("/v1/models").json()["models"]
        assert (model["version"], model["challenger"]) == (1, 2)
    rows = read_arrow(resolve_table(str(tmp_path / "compared"))).to_pylist()
    assert sorted(
        (row["champion_prediction"], row["challenger_prediction"], row["agree"]) for row in rows
    ) == [
        ("sport", "sport", True),
        ("sport", "trade", False),
        ("trade", "sport", False),
    ]
    assert {(row["service"], row["champion"], row["challenger"]) for row in rows} == {("live", 1, 2)}
    assert service.metric("shadow_rows_total", model="topics", agree="false") == 2


def test_a_share_of_the_rows_is_compared_always_the_same(
    registry: Any, served: Served, tmp_path: Any
) -> None:
    registry.move("topics", registry.add("topics", "good"))
    registry.move("topics", registry.add("topics", "bad", skill=-1.0), alias="challenger")
    deployment = Deployment(model="topics", shadow=True, shadow_share=0.3)
    write_deployment(deployment, "live", registry.context.settings)
    texts = [f"goal {number}" for number in range(200)]
    for _ in range(2):
        with served(service="live", shadow_table=str(tmp_path / "compared")) as service:
            service.predict(*texts)
    rows = read_arrow(resolve_table(str(tmp_path / "compared"))).to_pylist()
    texts_seen = [row["text_sha256"] for row in rows]
    assert len(texts_seen) == 2 * len(set(texts_seen))
    assert 30 < len(set(texts_seen)) < 90


def test_the_openapi_document_describes_the_requests(registry: Any, served: Served) -> None:
    with served(models=("topics",)) as service:
        document = service.client.get("/openapi.json").json()
    post = document["paths"]["/v1/predict"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["rows"]["items"]["anyOf"][2]["properties"]["text"]["description"]
    assert "$ref" not in str(schema)
    assert {"200", "400", "404", "413", "422", "503"} <= set(post["responses"])
    answers = {"/v1/predict", "/v1/systemone"}
    assert set(document["paths"]) == answers | {"/v1/models", "/healthz", "/readyz", "/metrics"}


def test_a_failing_row_is_an_error_and_not_a_hanging_request(
    registry: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.move("topics", registry.add("topics", "good"))
    with served(models=("topics",)) as service:
        champions = service.service.follower.active.champions
        monkeypatch.setattr(champions, "answer", lambda texts, names: 1 / 0)
        response = service.client.post("/v1/predict", json={"rows": [{"text": "goal"}] * 9})
        assert response.status_code == 500
        monkeypatch.undo()
        assert service.predict("goal")["rows"][0]["topics"]["prediction"] == "sport"
        text = service.client.get("/metrics").text
    assert 'modelmill_requests_total{status="500"} 1.0' in text
    assert 'modelmill_model_version{model="topics"} 1.0' in text
