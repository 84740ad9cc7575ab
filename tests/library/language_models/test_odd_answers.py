"""What servers send beside clean answers: halves of characters, fences, thoughts, usage that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from demo.servers import language_model
from demo.servers.language_model import LanguageModelStub
from tests.library.language_models.test_batches import in_batches

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError
from modelmill.language_models.answer_text import object_in
from modelmill.language_models.chat import ChatDialect
from modelmill.language_models.client import error_detail
from modelmill.language_models.dialects import Usage
from modelmill.language_models.questions import Question
from modelmill.steps.label_by_llm import LabelByLlmOutputs
from modelmill.tables.reading import read_arrow

Label = Callable[..., LabelByLlmOutputs]
Stub = Callable[..., LanguageModelStub]

QUESTION = Question("topic", (("sport", ""), ("trade", "")))
__all__ = ["in_batches"]


def chat(content: object, **usage: object) -> bytes:
    counted = usage or {"prompt_tokens": 50, "completion_tokens": 5}
    return json.dumps(
        {"model": "m", "choices": [{"message": {"content": content}}], "usage": counted}
    ).encode()


@pytest.fixture
def answering(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LanguageModelStub]:
    """Return a function that starts a stub with an answer's text changed; what it bills stays."""

    def start(changed: Callable[[str], str]) -> LanguageModelStub:
        def answer(*asked: Any) -> language_model.Answer:
            found, usage, tokens = language_model._chat(*asked)
            message = found["choices"][0]["message"]
            return (
                {**found, "choices": [{"message": {"content": changed(message["content"])}}]},
                usage,
                tokens,
            )

        monkeypatch.setitem(language_model._PROTOCOLS, "/v1/chat/completions", answer)
        return stub()

    return start


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ('```json\n{"label": "sport"}\n```', "sport"),
        ('Here it is: {"label": "sport"}. Anything else?', "sport"),
        ('<think>trade? {"label": "trade"} no</think>\n\n{"label": "sport"}', "sport"),
        ([{"type": "thinking", "text": "hm"}, {"type": "text", "text": '{"label": "sport"}'}], "sport"),
        ('The row says {"label": "trade"}, so: {"label": "sport"}', None),
        ('{"label": "sport"', None),
        ("sport", None),
        ("", None),
        (None, None),
        ({"label": "sport"}, None),
        ('["sport"]', None),
        ("{" * 100_000, None),
        ('{"a":' * 100_000, None),
    ],
)
def test_the_one_object_of_a_text_is_the_answer(content: object, label: str | None) -> None:
    reply = ChatDialect().reply(QUESTION, chat(content))
    assert (reply.status, reply.label) == ("answered" if label else "invalid", label)


def test_an_object_is_looked_for_in_texts_alone() -> None:
    assert object_in(5) is None
    assert object_in([{"type": "text"}, "x", {"type": "image"}]) is None


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_tokens": 50, "completion_tokens": 0}, Usage(50, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": 1}, None),
    ],
)
def test_usage_that_was_not_counted_is_none(counts: dict[str, object], usage: Usage | None) -> None:
    assert ChatDialect().reply(QUESTION, chat('{"label": "sport"}', **counts)).usage == usage


def test_a_detail_can_be_logged() -> None:
    assert error_detail(400, b'{"error": "half \\ud83d"}') == "status 400 half ?"
    assert error_detail(200, b"<html>") == "status 200 and no JSON object with an answer"


def test_half_a_character_in_an_answer_ends_nothing(
    news: TableRef, answering: Callable[..., LanguageModelStub], label: Label
) -> None:
    server = answering(lambda text: text.replace("}", ', "why": "\\ud83d"}') if "sport" in text else "\ud83d")
    found = read_arrow(label(news).table).to_pylist()
    assert {row["topic"] for row in found} == {"sport", None}
    assert server.bill.billed == 60


def test_fences_around_answers_are_no_part_of_them(
    news: TableRef, answering: Callable[..., LanguageModelStub], label: Label
) -> None:
    answering(lambda text: f"```json\n{text}\n```")
    found = read_arrow(label(news).table).to_pylist()
    assert {row["topic"] for row in found} == {"sport", "trade"}


@pytest.mark.parametrize("text", ["", "It is about sport.", '{"lab'])
def test_a_pilot_without_the_form_asked_for_ends_before_the_rest_is_paid_for(
    news: TableRef, answering: Callable[..., LanguageModelStub], label: Label, text: str
) -> None:
    server = answering(lambda _answer: text)
    with pytest.raises(ConfigError, match="a pilot's answers must be labels; none of 10 is"):
        label(news)
    assert server.bill.billed == 10


def test_answers_in_the_form_asked_for_that_are_no_labels_are_counted(
    news: TableRef, answering: Callable[..., LanguageModelStub], label: Label
) -> None:
    answering(lambda _answer: '{"label": "HACKED"}')
    assert {row["topic"] for row in read_arrow(label(news).table).to_pylist()} == {None}


def test_a_long_refusal_in_a_batch_is_counted_whatever_its_letters(
    news: TableRef, stub: Stub, in_batches: Label, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, answered = (400, {"error": {"message": "x" + "\u6a21" * 400}}), LanguageModelStub.batch_answer

    def some(server: LanguageModelStub, path: str, body: bytes) -> Any:
        return answered(server, path, body) if b"goal" in body else refused

    monkeypatch.setattr(LanguageModelStub, "batch_answer", some)
    stub()
    found = read_arrow(in_batches(news, step_context).table).to_pylist()
    assert [row["topic"] is not None for row in found] == ["goal" in row["body"] for row in found]
