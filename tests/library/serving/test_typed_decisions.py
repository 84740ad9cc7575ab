"""The protocol of typed decisions: a language model is replaced by a champion by changing a URL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from modelmill.language_models.dialects import Parameters, Usage
from modelmill.language_models.questions import Question
from modelmill.language_models.systemone import SystemOneDialect

Served = Callable[..., Any]

CRITERIA = {"sport": "games", "trade": None, "cannot tell": None}


def choice(**criteria: Any) -> dict[str, Any]:
    return {"type": "choice", "instructions": "Which?", "criteria": criteria or CRITERIA}


def test_what_the_dialect_asks_a_champion_answers(registry: Any, served: Served) -> None:
    registry.move("topics", registry.add("topics", "good"))
    question = Question("topic", (("sport", "games"), ("trade", "")))
    dialect = SystemOneDialect()
    with served(models=("topics",)) as service:
        for text in ("goal team", "a loan today"):
            request = dialect.request(question, text, Parameters("teacher-2026-11-01"))
            response = service.client.post(f"/v1/{request.path}", content=request.body)
            assert response.status_code == 200, response.text
            reply = dialect.reply(question, response.content)
            (expected,) = service.predict(text)["rows"]
            assert (reply.status, reply.label) == ("answered", expected["topics"]["prediction"])
            assert reply.probabilities is not None
            assert reply.probabilities[str(reply.label)] == pytest.approx(
                expected["topics"]["score"], abs=1e-6
            )
            assert reply.probabilities["cannot tell"] == 0
            assert (reply.model, reply.usage) == ("models:/topics/1", Usage(0, 0))
        assert service.metric("rows_total", model="topics", version="1") == 4


def test_transformers_answers_have_the_same_form(registry: Any, served: Served) -> None:
    from transformers.decision import DecisionConfig, parse_questions

    registry.move("topics", registry.add("topics", "good"))
    (asked,) = parse_questions({"topics": choice()}, DecisionConfig())
    theirs = asked.answer([0.7, 0.2, 0.1])
    with served(models=("topics",)) as service:
        body = {"model": "m", "state": {"body": "goal"}, "questions": {"topics": choice()}}
        ours = service.client.post("/v1/systemone", json=body).json()["answers"]["topics"]
    assert list(ours) == ["type", "choice", "confidence", "probabilities"]
    assert set(ours) == set(theirs)
    best, level = max(ours["probabilities"].values()), 1 / 3
    assert ours["confidence"] == pytest.approx((best - level) / (1 - level))


def test_questions_that_no_model_answers_are_refused(registry: Any, served: Served) -> None:
    for name in ("one", "two"):
        registry.move(name, registry.add(name, name))
    bad: list[tuple[dict[str, Any], int, str]] = [
        ({"state": "goal", "questions": {"on": choice()}}, 404, "did you mean 'one'?"),
        ({"state": "goal", "questions": {"topic": choice()}}, 404, "it is the label of one, two"),
        ({"state": " ", "questions": {"one": choice()}}, 422, "must be a text that is not blank"),
        ({"state": {"title": "goal"}, "questions": {"one": choice()}}, 422, "must be a text"),
        ({"state": "goal", "questions": {"one": choice(x=None)}}, 422, "classes, sport, trade"),
        ({"state": "goal", "questions": {"one": {"type": "noul"}}}, 422, "questions.one.type"),
        ({"state": "goal", "questions": {}}, 422, "at least 1 item"),
        ({"state": "goal", "questions": {"one": choice()}, "assets": {}}, 422, "assets: Extra inputs"),
    ]
    with served(models=("one", "two")) as service:
        for body, status, said in bad:
            response = service.client.post("/v1/systemone", content=json.dumps(body))
            assert (response.status_code, said in response.json()["detail"]) == (status, True), response.text
        both = {"state": "goal", "questions": {"one": choice(), "two": choice(trade=None)}}
        found = service.client.post("/v1/systemone", json=both).json()
        assert found["model"] == "models:/one/1, models:/two/1"
        assert found["answers"]["two"] == {
            "type": "choice",
            "choice": "trade",
            "confidence": 1.0,
            "probabilities": {"trade": 1.0},
        }
