"""The dialect of a language model in this process, and the prompt that it is asked with.

A request has the form of typed decisions (``systemone``), with the digest of the weights and the way of
scoring, so that both are part of an answer's key. No server understands it.

The question stands before the row, so that its tokens are read once for all rows. An option's score is

* ``options``: the mean log probability of the option's own tokens (the multiple choice of T. Brown et al.,
  "Language Models are Few-Shot Learners", 2020, arXiv 2005.14165, section 2.4: by the token);
* ``letters``: the log probability of the option's letter, as transformers' ``DecisionPipeline`` reads it.

``calibrated`` subtracts the score that the option has where the row says nothing (T. Zhao et al., "Calibrate
Before Use", 2021, arXiv 2102.09690). Probabilities are the softmax of the scores.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from modelmill.errors import ConfigError
from modelmill.language_models.dialects import Parameters, Request, Usage
from modelmill.language_models.questions import Question
from modelmill.language_models.systemone import SystemOneDialect

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Rows that say nothing, as Zhao et al. take them; their scores are averaged."""

PROMPT = 1
"""Number of the prompt below, which is part of each answer's key: raised when it changes."""

_ROW = "\n\nText:\n"


@dataclass(frozen=True)
class LocalPrompt:
    """What a language model reads and what is scored behind it."""

    question: str
    """Before the row, the same for all rows."""
    ending: str
    """Behind the row."""
    answers: tuple[str, ...]
    """Of each option, in their order."""


class LocalDialect(SystemOneDialect):
    """Typed decisions by a model of a folder."""

    name: ClassVar[str] = "local"
    takes_several: ClassVar[bool] = False  # the question stands before the row, and is read once for all rows

    def request_about(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request_about`; it needs a letter for each option where letters are scored."""
        options = max(len(question.options) for question in questions)
        if parameters.body.get("scoring") == "letters" and options > len(string.ascii_uppercase):
            raise ConfigError(
                f"letters stand for at most {len(string.ascii_uppercase)} options",
                got=f"{options}, with the one to abstain",
                remedy="use scoring: options",
            )
        numbered = replace(parameters, body={"prompt": PROMPT, **parameters.body})
        asked = super().request_about(questions, content, numbered)
        return replace(asked, path="")

    def worst_case(self, request: Request, parameters: Parameters) -> Usage:
        """See :meth:`Dialect.worst_case`: the options are in the question, and scored behind it."""
        found = super().worst_case(request, parameters)
        return Usage(found.input_tokens + len(request.body), 0)


def local_prompt(asked: dict[str, Any], *, scoring: str) -> LocalPrompt:
    """Return the prompt of a request's question.

    :param asked: the question, as a request has it.
    :param scoring: ``options`` or ``letters``.
    :return: the prompt.
    """
    criteria: dict[str, str | None] = asked["criteria"]
    letters = scoring == "letters"
    marks = [f"{letter}. " for letter in string.ascii_uppercase] if letters else ["- "] * len(criteria)
    lines = [
        f"{mark}{option}: {about}" if about else f"{mark}{option}"
        for mark, (option, about) in zip(marks, criteria.items(), strict=not letters)
    ]
    last = string.ascii_uppercase[len(criteria) - 1] if letters else ""
    return LocalPrompt(
        question="\n".join([asked["instructions"], *lines]) + _ROW,
        ending=f"\n\nAnswer with the letter of the option that fits best (A to {last}) and nothing else."
        if letters
        else "\n\nAnswer with the option that fits best and nothing else.",
        answers=tuple(string.ascii_uppercase[: len(criteria)]) if letters else tuple(criteria),
    )
