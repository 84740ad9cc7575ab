"""Typed decisions in the form of OpenAI's ``POST /decisions`` (beta, October 2026), which vLLM 0.33 has too.

An ``input``, a list of named questions with ``choices``, and answers with a probability for each value; a
refusal is an answer of its own type. Several questions about a row are one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

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
from modelmill.language_models.probabilities import decided
from modelmill.language_models.questions import Question


class DecisionsDialect(Dialect):
    """Typed decisions of OpenAI's form."""

    name: ClassVar[str] = "decisions"
    takes_several: ClassVar[bool] = True

    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request`."""
        return self.request_about((question,), content, parameters)

    def request_about(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request_about`."""
        body = {
            "model": parameters.model,
            "input": content,
            "questions": [_asked(question) for question in questions],
            **parameters.body,
        }
        return Request(dialect=self.name, path="decisions", body=canonical(body), readings=len(questions))

    def reply(self, question: Question, body: bytes) -> Reply:
        """See :meth:`Dialect.reply`."""
        shown = body.decode(errors="replace")[:KEPT_CHARACTERS]
        try:
            found = read_json(body)
            (answer,) = found["answers"]
            refused = answer["type"] == "refusal"
            given = None if refused else _by_value(answer["probabilities"])
            model = str(found.get("model") or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Reply("invalid", None, text=shown)
        usage = read_usage(found.get("usage"), names=("input_tokens", "output_tokens"))
        if refused:
            return Reply("refused", None, model=model, usage=usage, text=shown)
        return decided(question, given, model=model, usage=usage, shown=shown)

    def reply_about(self, questions: Sequence[Question], body: bytes) -> Reply:
        """See :meth:`Dialect.reply_about`; one question's refusal is that of its part alone."""
        if len(questions) == 1:
            return self.reply(questions[0], body)
        shown = body.decode(errors="replace")[:KEPT_CHARACTERS]
        try:
            found = read_json(body)
            answers = {answer["name"]: answer for answer in found["answers"]}
            model = str(found.get("model") or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Reply("invalid", None, text=shown)
        usage = read_usage(found.get("usage"), names=("input_tokens", "output_tokens"))
        parts = {question.name: _part(question, answers.get(question.name), shown) for question in questions}
        return together(Reply("invalid", None, model=model, usage=usage, text=shown), parts)


def _asked(question: Question) -> dict[str, Any]:
    choices = [
        {"value": option, "description": about} if about else {"value": option}
        for option, about in question.described()
    ]
    return {
        "type": "choice",
        "name": question.name,
        "instructions": question.asked(),
        "choices": choices,
    }


def _part(question: Question, answer: Any, shown: str) -> Reply:
    try:
        if answer["type"] == "refusal":
            return Reply("refused", None, text=shown)
        given = _by_value(answer["probabilities"])
    except (ValueError, LookupError, TypeError):
        return Reply("invalid", None, text=shown)
    return decided(question, given, model="", usage=None, shown=shown)


def _by_value(given: Any) -> dict[Any, Any]:
    """Return probabilities by value; one that is there twice is an error."""
    found = {one["value"]: one["probability"] for one in given}
    if len(found) < len(given):
        raise ValueError("each value has one probability")
    return found
