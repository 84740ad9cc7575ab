"""Typed decisions, ``POST /systemone``: a probability for each option, and no text is generated.

The format is that of vLLM 0.32, transformers 5.24 (``cli/serving/systemone.py``) and others: a ``state``,
named questions of type ``choice`` with a description for each option, and answers with ``probabilities``.
"""

from __future__ import annotations

from typing import ClassVar

from modelmill.language_models.dialects import (
    KEPT_CHARACTERS,
    Dialect,
    Parameters,
    Reply,
    Request,
    canonical,
    read_json,
    read_usage,
)
from modelmill.language_models.probabilities import decided
from modelmill.language_models.questions import Question


class SystemOneDialect(Dialect):
    """Typed decisions."""

    name: ClassVar[str] = "systemone"

    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request`."""
        asked = {
            "type": "choice",
            "instructions": question.instructions.strip() or f"Which {question.name} fits best?",
            "criteria": {option: about or None for option, about in question.described()},
        }
        body = {
            "model": parameters.model,
            "state": content,
            "questions": {question.name: asked},
            **parameters.body,
        }
        return Request(dialect=self.name, path="systemone", body=canonical(body))

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
