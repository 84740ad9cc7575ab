"""Typed decisions, ``POST /systemone``: a probability for each option, and no text is generated.

The format is that of vLLM 0.32, transformers 5.24 (``cli/serving/systemone.py``) and others: a ``state``,
named questions of type ``choice`` with a description for each option, and answers with ``probabilities``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import ClassVar

from modelmill.language_models.dialects import (
    Dialect,
    Parameters,
    Reply,
    Request,
    Usage,
    canonical,
    read_usage,
)
from modelmill.language_models.questions import CANNOT_TELL, Question

_OVERHEAD_TOKENS = 256
"""What servers put around the state, the question and its options, beside the body's own bytes."""

_KEPT_CHARACTERS = 500
_ROUNDING = 0.02
"""How far the probabilities may be from 1 together."""


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

    def worst_case(self, request: Request, parameters: Parameters) -> Usage:
        """See :meth:`Dialect.worst_case`: a token of text is a byte or more."""
        return Usage(len(request.body) + _OVERHEAD_TOKENS, parameters.max_tokens)

    def reply(self, question: Question, body: bytes) -> Reply:
        """See :meth:`Dialect.reply`."""
        shown = body.decode(errors="replace")[:_KEPT_CHARACTERS]
        try:
            found = json.loads(body)
            answer = found["answers"][question.name]
            given = answer["probabilities"]
            model = str(found.get("model") or "")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Reply("invalid", None, text=shown)
        usage = read_usage(found.get("usage"), names=("input_tokens", "output_tokens"))
        probabilities = read_probabilities(given, question)
        if probabilities is None:
            return Reply("invalid", None, model=model, usage=usage, text=shown)
        best = max(question.options, key=lambda option: probabilities[option])
        return Reply(
            "answered",
            None if best == CANNOT_TELL else best,
            probabilities=probabilities,
            model=model,
            usage=usage,
            text=best,
        )


def read_probabilities(given: object, question: Question) -> Mapping[str, float] | None:
    """Read the probabilities of a question's options.

    :param given: what the endpoint said.
    :param question: what was asked.
    :return: by option, with a sum of 1; None if they are not those of exactly these options.
    """
    if not isinstance(given, dict) or set(given) != set(question.options):
        return None
    found: dict[str, float] = {}
    for option in question.options:
        value = given[option]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            return None
        found[option] = float(value)
    total = math.fsum(found.values())
    if abs(total - 1) > _ROUNDING:
        return None
    return {option: round(value / total, 9) for option, value in found.items()}
