"""From an endpoint's probabilities to a reply: what both dialects of typed decisions have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping

from modelmill.language_models.dialects import Reply, Usage
from modelmill.language_models.questions import CANNOT_TELL, Question

_ROUNDING = 0.02
"""How far the probabilities may be from 1 together."""


def decided(question: Question, given: object, *, model: str, usage: Usage | None, shown: str) -> Reply:
    """Return the reply that probabilities make.

    :param question: what was asked.
    :param given: what the endpoint said.
    :param model: that answered.
    :param usage: what was billed; None if the endpoint did not say.
    :param shown: the answer as it came, for one that is invalid.
    :return: the most probable option; ``invalid`` if these are no probabilities of the question's options.
    """
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
