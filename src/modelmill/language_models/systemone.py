"""Typed decisions, ``POST /systemone``: a probability for each option, and no text is generated.

The format is that of vLLM 0.32, transformers 5.24 (``cli/serving/systemone.py``) and others: a ``state``,
named questions of type ``choice`` with a description for each option, and answers with ``probabilities``.
Several questions about a row are one request. Some servers compute them one after the other and count the
text for each, so the worst case does.
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


class SystemOneDialect(Dialect):
    """Typed decisions."""

    name: ClassVar[str] = "systemone"
    takes_several: ClassVar[bool] = True

    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request`."""
        return self._request((question,), content, parameters)

    def request_about(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request_about`."""
        if len(questions) == 1:
            return self.request(questions[0], content, parameters)
        return self._request(questions, content, parameters)

    def _request(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        body = {
            "model": parameters.model,
            "state": content,
            "questions": {question.name: _asked(question) for question in questions},
            **parameters.body,
        }
        return Request(dialect=self.name, path="systemone", body=canonical(body), readings=len(questions))

    def reply(self, question: Question, body: bytes) -> Reply:
        """See :meth:`Dialect.reply`."""
        shown = body.decode(errors="replace")[:KEPT_CHARACTERS]
        try:
            found = read_json(body)
            answer = found["answers"][question.name]
            given = answer["probabilities"]
            model = str(found.get("model") or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Reply("invalid", None, text=shown)
        usage = read_usage(found.get("usage"), names=("input_tokens", "output_tokens"))
        return decided(question, given, model=model, usage=usage, shown=shown)

    def reply_about(self, questions: Sequence[Question], body: bytes) -> Reply:
        """See :meth:`Dialect.reply_about`."""
        if len(questions) == 1:
            return self.reply(questions[0], body)
        shown = body.decode(errors="replace")[:KEPT_CHARACTERS]
        try:
            found = read_json(body)
            answers = dict(found["answers"])
            model = str(found.get("model") or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Reply("invalid", None, text=shown)
        usage = read_usage(found.get("usage"), names=("input_tokens", "output_tokens"))
        parts = {question.name: _part(question, answers.get(question.name), shown) for question in questions}
        return together(Reply("invalid", None, model=model, usage=usage, text=shown), parts)


def _asked(question: Question) -> dict[str, Any]:
    return {
        "type": "choice",
        "instructions": question.asked(),
        "criteria": {option: about or None for option, about in question.described()},
    }


def _part(question: Question, answer: Any, shown: str) -> Reply:
    given = answer.get("probabilities") if isinstance(answer, dict) else None
    return decided(question, given, model="", usage=None, shown=shown)
