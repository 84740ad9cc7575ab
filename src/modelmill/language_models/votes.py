"""What several answers about one row come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelmill.language_models.answers import Answer


@dataclass(frozen=True, slots=True)
class Vote:
    """The answers about one row, taken together."""

    label: str | None
    """The label with the highest score; None: it abstains, two are level, or nothing was answered."""
    score: float
    """Mean over the orders: the option's probability where the endpoint gives one, else 1 for the answer. 0
    without a label."""
    failure: str | None = None
    """Why there is no answer: ``invalid``, ``refused``, ``lost`` or ``budget``; None if there is one."""


def vote(answers: Sequence[Answer | None], failures: Sequence[str], labels: Mapping[str, str]) -> Vote:
    """Take the answers about a row together.

    :param answers: one for each order; None: there is none.
    :param failures: why there is none, for those.
    :param labels: what may be answered.
    :return: the vote. An order without an answer counts for no label.
    """
    usable = [answer for answer in answers if answer is not None and answer.status == "answered"]
    if not usable:
        reasons = [answer.status for answer in answers if answer is not None]
        return Vote(None, 0.0, (reasons or [*failures] or ["lost"])[0])
    scores = dict.fromkeys(labels, 0.0)
    for answer in usable:
        given = answer.probabilities or ({} if answer.label is None else {answer.label: 1.0})
        for label, probability in given.items():
            if label in scores:
                scores[label] += probability / len(answers)
    abstained = sum(answer.label is None for answer in usable) / len(answers)
    first, second = sorted(scores.values(), reverse=True)[:2]
    if first <= 0 or first <= second or (first <= abstained and not any(a.probabilities for a in usable)):
        return Vote(None, 0.0)
    return Vote(max(scores, key=lambda label: scores[label]), round(first, 9))
