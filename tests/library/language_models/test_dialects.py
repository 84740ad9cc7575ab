"""What each dialect sends about one signal and about several, and what it reads of an answer."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from modelmill.language_models.chat import ChatDialect
from modelmill.language_models.dialects import DIALECTS, Dialect, Parameters, Usage, prompt_digest
from modelmill.language_models.questions import Question
from modelmill.language_models.systemone import SystemOneDialect
from modelmill.steps.label_by_llm import LabelByLlmConfig

PARAMETERS = Parameters("stub-2026-11-01")
DESKS = Question("topic", (("sport", "games"), ("tråde", "")), instructions="Which desk?")
URGENT = Question("urgent", (("now", "answer it today"), ("later", "")), abstain=False)


@pytest.mark.parametrize("asked", [(DESKS,), (DESKS, URGENT)])
@pytest.mark.parametrize("name", ["chat", "decisions", "systemone"])
def test_a_request_is_as_the_golden_file_has_it(name: str, asked: tuple[Question, ...]) -> None:
    file = name if len(asked) == 1 else f"{name}_of_several"
    golden = Path(__file__).parent / f"golden/{file}.json"
    parameters = Parameters("m-2026", body={"top_p": 1} if name == "chat" else {})
    request = DIALECTS.load(name)().request_about(asked, 'He said "stop"\n{}', parameters)
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(json.loads(request.body), indent=2, ensure_ascii=False) + "\n")
    assert json.loads(golden.read_text()) == json.loads(request.body)
    assert list(json.loads(golden.read_text())) == list(json.loads(request.body))


@pytest.mark.parametrize(
    ("name", "key", "prompt"),
    [
        ("chat", "22a2b78c01718bf2", "4d7da375fe5a85a1"),
        ("decisions", "5680a97988111008", "6f65772392297d0c"),
        ("systemone", "a3d46e39149e7fed", "d59363796a374ec6"),
        ("local", "d898bbed97be0285", "5a548ac7dd15ea8a"),
    ],
)
def test_what_was_asked_about_one_signal_is_still_known(name: str, key: str, prompt: str) -> None:
    """Digests of before there were several signals: tables of answers stay the cache that they were."""
    dialect = DIALECTS.load(name)()
    parameters = Parameters("m-2026", body={"top_p": 1} if name == "chat" else {})
    for request in (dialect.request, lambda one, *rest: dialect.request_about((one,), *rest)):
        assert request(DESKS, 'He said "stop"\n{}', parameters).key.startswith(key)
    assert prompt_digest(dialect, (DESKS,), parameters).startswith(prompt)
    config = {"labels": {"a": "", "b": "x"}, "label": "topic", "gold": "gold", "columns": ["body"]}
    asked = {"asking": {"model": "m-2026"}, "budget": {"tokens": 5}}
    step = LabelByLlmConfig.model_validate(config | asked).model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()
    assert digest.startswith("dd1b53b3a5b1f66e")  # a part of the step key


CHOICES = {"sport": 0.2, "tråde": 0.7, "cannot tell": 0.1}, {"now": 0.9, "later": 0.1}


def body_of(name: str, said: list[object]) -> bytes:
    """Return an answer to DESKS and URGENT, as an endpoint writes it; None: it says nothing of one."""
    given = {one.name: what for one, what in zip((DESKS, URGENT), said, strict=True) if what is not None}
    usage = {"input_tokens": 9, "output_tokens": 0}
    if name == "chat":
        content = json.dumps(given)
        tokens = {"prompt_tokens": 9, "completion_tokens": 0}
        return json.dumps(
            {"model": "m", "choices": [{"message": {"content": content}}], "usage": tokens}
        ).encode()
    answers: object = {one: {"type": "choice", "probabilities": what} for one, what in given.items()}
    if name == "decisions":
        answers = [{"name": one, **_listed(what)} for one, what in given.items()]
    return json.dumps({"model": "m", "answers": answers, "usage": usage}).encode()


def _listed(said: object) -> dict[str, object]:
    if said == "refused":
        return {"type": "refusal"}
    if isinstance(said, dict):
        said = [{"value": value, "probability": chance} for value, chance in said.items()]
    return {"type": "choice", "probabilities": said}


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("chat", ["tråde", "now"], ["tråde", "now"]),
        ("chat", ["cannot tell", "later"], [None, "later"]),
        ("chat", ["HACKED", "now"], ["invalid", "now"]),
        ("chat", ["now", None], ["invalid", "invalid"]),
        ("chat", [["tråde"], {"a": 1}], ["invalid", "invalid"]),
        ("systemone", [*CHOICES], ["tråde", "now"]),
        ("systemone", [None, CHOICES[1]], ["invalid", "now"]),
        ("systemone", [CHOICES[0], CHOICES[0]], ["tråde", "invalid"]),
        ("systemone", ["x", CHOICES[1]], ["invalid", "now"]),
        ("decisions", [*CHOICES], ["tråde", "now"]),
        ("decisions", ["refused", CHOICES[1]], ["refused", "now"]),
        ("decisions", [CHOICES[0], 7], ["tråde", "invalid"]),
        ("decisions", [None, CHOICES[1]], ["invalid", "now"]),
    ],
)
def test_each_signal_has_its_own_answer(name: str, said: list[object], expected: list[str | None]) -> None:
    reply = DIALECTS.load(name)().reply_about((DESKS, URGENT), body_of(name, said))
    assert reply.parts is not None
    assert (reply.model, reply.usage, reply.label) == ("m", Usage(9, 0), None)
    statuses = [part.status for part in reply.parts.values()]
    assert [
        part.label if part.status == "answered" else part.status for part in reply.parts.values()
    ] == expected
    assert reply.status == ("answered" if "answered" in statuses else statuses[0])
    assert all(part.usage is None for part in reply.parts.values())  # it is the request's


@pytest.mark.parametrize("name", ["chat", "systemone", "decisions"])
@pytest.mark.parametrize("body", [b"{}", b"[" * 200_000, b'{"answers": 3, "choices": 3}', b"null"])
def test_a_page_is_an_answer_about_no_signal(name: str, body: bytes) -> None:
    reply = DIALECTS.load(name)().reply_about((DESKS, URGENT), body)
    assert (reply.status, reply.parts) == ("invalid", None)


def test_a_chat_that_refuses_refuses_all_signals() -> None:
    body = json.dumps({"choices": [{"message": {"refusal": "I cannot help with that"}}]}).encode()
    assert ChatDialect().reply_about((DESKS, URGENT), body).status == "refused"
    cut = json.dumps({"choices": [{"message": {"content": '{"topic": "sp'}, "finish_reason": "length"}]})
    reply = ChatDialect().reply_about((DESKS, URGENT), cut.encode())
    assert (reply.status, reply.parts, reply.text) == ("invalid", None, '{"topic": "sp')


def test_the_worst_case_of_several_questions_is_that_of_each_where_a_server_may_read_them_one_by_one() -> (
    None
):
    for name, times in (("chat", 1), ("systemone", 2), ("decisions", 2)):
        dialect = DIALECTS.load(name)()
        request = dialect.request_about((DESKS, URGENT), "goal", PARAMETERS)
        assert dialect.worst_case(request, PARAMETERS).input_tokens == times * (len(request.body) + 256)


def test_a_dialect_of_one_question_is_asked_as_before() -> None:
    class Acme(ChatDialect):
        """Another distribution's, which knows nothing of several questions."""

        takes_several = False
        request_about = Dialect.request_about
        reply_about = Dialect.reply_about

    assert Acme().request_about((DESKS,), "goal", PARAMETERS) == ChatDialect().request(
        DESKS, "goal", PARAMETERS
    )
    with pytest.raises(ValueError, match="unpack"):
        Acme().request_about((DESKS, URGENT), "goal", PARAMETERS)


def test_transformers_reads_several_questions() -> None:
    from transformers.decision import DecisionConfig, parse_questions

    body = json.loads(SystemOneDialect().request_about((DESKS, URGENT), "goal", PARAMETERS).body)
    asked = parse_questions(body["questions"], DecisionConfig())
    assert [one.options for one in asked] == [["sport", "tråde", "cannot tell"], ["now", "later"]]
    answers = {"topic": asked[0].answer([0.2, 0.7, 0.1]), "urgent": asked[1].answer([0.9, 0.1])}
    reply = SystemOneDialect().reply_about((DESKS, URGENT), json.dumps({"answers": answers}).encode())
    assert reply.parts is not None
    assert [part.label for part in reply.parts.values()] == ["tråde", "now"]
