"""The chat dialect: ``POST /chat/completions`` with a JSON schema (vLLM, Ollama, llama.cpp, clouds).

Several questions about a row are one request: the schema has a property for each, by its name. One question
alone is the property ``label``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from modelmill.language_models.answer_text import object_in
from modelmill.language_models.dialects import (
    KEPT_CHARACTERS,
    Dialect,
    Parameters,
    Reply,
    Request,
    canonical,
    read_json,
    read_usage,
    together,
)
from modelmill.language_models.questions import CANNOT_TELL, Question, system_text_of

_ONE = "label"
"""Property with the answer to a question that is asked alone."""


class ChatDialect(Dialect):
    """Chat completions; the schema allows each question's options and nothing else."""

    name: ClassVar[str] = "chat"
    takes_several: ClassVar[bool] = True

    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request`."""
        return self._request(question.system_text(), {_ONE: question}, content, parameters)

    def request_about(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request_about`."""
        if len(questions) == 1:
            return self.request(questions[0], content, parameters)
        asked = {question.name: question for question in questions}
        return self._request(system_text_of(questions), asked, content, parameters)

    def _request(
        self, system: str, asked: Mapping[str, Question], content: str, parameters: Parameters
    ) -> Request:
        schema = {
            "type": "object",
            "properties": {
                name: {"type": "string", "enum": list(question.options)} for name, question in asked.items()
            },
            "required": list(asked),
            "additionalProperties": False,
        }
        body = {
            "model": parameters.model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": content},
            ],
            "temperature": 0,
            "seed": parameters.seed,
            "max_tokens": parameters.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
            **parameters.body,
        }
        kept = {name: value for name, value in body.items() if value is not None}
        return Request(dialect=self.name, path="chat/completions", body=canonical(kept))

    def reply(self, question: Question, body: bytes) -> Reply:
        """See :meth:`Dialect.reply`."""
        base, said = _said(body)
        return base if said is None else _chosen(question, said.get(_ONE), base)

    def reply_about(self, questions: Sequence[Question], body: bytes) -> Reply:
        """See :meth:`Dialect.reply_about`."""
        if len(questions) == 1:
            return self.reply(questions[0], body)
        base, said = _said(body)
        if said is None:
            return base
        parts = {question.name: _part(question, said, base) for question in questions}
        return together(base, parts)


def _said(body: bytes) -> tuple[Reply, dict[Any, Any] | None]:
    """Return what an answer has beside the labels, and the JSON object with these; None: it has none."""
    try:
        found = read_json(body)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        return Reply("invalid", None, text=_shown(body.decode(errors="replace"))), None
    usage = read_usage(found.get("usage"), names=("prompt_tokens", "completion_tokens"), least=1)
    base = Reply("invalid", None, model=str(found.get("model") or ""), usage=usage, text=_shown(str(text)))
    if refusal or choice.get("finish_reason") == "content_filter":
        return replace(base, status="refused", text=_shown(str(refusal or text or ""))), None
    return base, object_in(text)


def _chosen(question: Question, label: object, base: Reply) -> Reply:
    """Return the reply with a label, if that is one of the question's options."""
    if not isinstance(label, str) or label not in question.options:
        return base
    return replace(base, status="answered", label=None if label == CANNOT_TELL else label)


def _part(question: Question, said: Mapping[Any, Any], base: Reply) -> Reply:
    found = _chosen(question, said.get(question.name), Reply("invalid", None, text=base.text))
    return replace(found, text=str(said[question.name])) if found.status == "answered" else found


def _shown(text: str) -> str:
    return text[:KEPT_CHARACTERS]
