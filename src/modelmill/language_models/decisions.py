"""Typed decisions in the form of OpenAI's ``POST /decisions`` (beta, October 2026), which vLLM 0.33 has too.

An ``input``, a list of named questions with ``choices``, and answers with a probability for each value; a
refusal is an answer of its own type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from modelmill.language_models.decision_dialect import DecisionDialect
from modelmill.language_models.questions import Question


class DecisionsDialect(DecisionDialect):
    """Typed decisions of OpenAI's form."""

    name: ClassVar[str] = "decisions"
    path: ClassVar[str] = "decisions"

    def fields(self, questions: Sequence[Question], content: str) -> dict[str, Any]:
        """See :meth:`DecisionDialect.fields`."""
        return {"input": content, "questions": [_asked(question) for question in questions]}

    def answers(self, found: Any, questions: Sequence[Question]) -> Mapping[str, Any]:
        """See :meth:`DecisionDialect.answers`; the answer to a single question needs no name."""
        if len(questions) == 1:
            (answer,) = found["answers"]
            return {questions[0].name: answer}
        return {answer["name"]: answer for answer in found["answers"]}

    def probabilities(self, answer: Any) -> dict[Any, Any]:
        """See :meth:`DecisionDialect.probabilities`; a value that is there twice is an error."""
        given = answer["probabilities"]
        found = {one["value"]: one["probability"] for one in given}
        if len(found) < len(given):
            raise ValueError("each value has one probability")
        return found

    def is_refusal(self, answer: Any) -> bool:
        """See :meth:`DecisionDialect.is_refusal`."""
        return bool(answer["type"] == "refusal")


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
