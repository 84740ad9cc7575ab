"""What several answers about one row come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelmill.language_models.answers import LabelAnswer
from modelmill.language_models.questions import CANNOT_TELL

_LEVEL = 1e-9
"""Two scores that are nearer to each other are level."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The answers about one row, taken together."""

    label: str | None
    """The label with the highest score; None: it abstains, two are level, or nothing was answered."""
    score: float
    """Mean over the orders: the option's probability where the endpoint gives one, else 1 for the answer. 0
    without a label."""
    failure: str | None = None
    """Why there is no answer: ``invalid``, ``refused``, ``lost``, ``budget`` or ``too long``; None if there
    is one."""


def vote(answers: Sequence[LabelAnswer | None], failures: Sequence[str], labels: Mapping[str, str]) -> Vote:
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
    scores = dict.fromkeys([*labels, CANNOT_TELL], 0.0)
    for answer in usable:
        given = answer.probabilities or {answer.label or CANNOT_TELL: 1.0}
        for option, probability in given.items():
            if option in scores:
                scores[option] += probability / len(answers)
    first, second = sorted(scores.values(), reverse=True)[:2]
    best = max(scores, key=lambda option: scores[option])
    if best == CANNOT_TELL or first - second < _LEVEL:
        return Vote(None, 0.0)
    return Vote(best, round(first, 9))
