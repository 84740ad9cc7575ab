"""Typed decisions, ``POST /systemone``: a probability for each option, and no text is generated.

The format is that of vLLM 0.32, transformers 5.24 (``cli/serving/systemone.py``) and others: a ``state``,
named questions of type ``choice`` with a description for each option, and answers with ``probabilities``.
Some servers compute several questions one after the other and count the text for each, so the worst case
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from modelmill.language_models.decision_dialect import DecisionDialect
from modelmill.language_models.questions import Question


class SystemOneDialect(DecisionDialect):
    """Typed decisions."""

    name: ClassVar[str] = "systemone"
    path: ClassVar[str] = "systemone"

    def fields(self, questions: Sequence[Question], content: str) -> dict[str, Any]:
        """See :meth:`DecisionDialect.fields`."""
        return {"state": content, "questions": {question.name: _asked(question) for question in questions}}

    def answers(self, found: Any, questions: Sequence[Question]) -> Mapping[str, Any]:
        """See :meth:`DecisionDialect.answers`."""
        del questions
        return dict(found["answers"])

    def probabilities(self, answer: Any) -> Any:
        """See :meth:`DecisionDialect.probabilities`."""
        return answer["probabilities"]


def _asked(question: Question) -> dict[str, Any]:
    return {
        "type": "choice",
        "instructions": question.asked(),
        "criteria": {option: about or None for option, about in question.described()},
    }
