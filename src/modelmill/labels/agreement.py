"""How far people who label the same rows agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Agreement:
    """How two people, or all pairs of them, agree on rows that both have labelled."""

    people: tuple[str, ...]
    """Two names, sorted; empty for all pairs together."""
    rows: int
    """Rows that both have labelled; of all pairs, their sum."""
    share: float
    """Share of these rows with the same label."""
    kappa: float | None
    """Cohen's kappa (1960): 1 is full agreement, 0 what chance alone gives. None where it is not defined:
    everybody gave all rows one label."""


Answers = Counter[tuple[Hashable, Hashable]]
"""How often two people gave a row these two labels."""


def answer_pairs(
    given: Mapping[str, Hashable],
) -> list[tuple[tuple[str, str], tuple[Hashable, Hashable]]]:
    """Return each two people who have labelled a row, in the order of their names, with their labels."""
    return [((one, other), (given[one], given[other])) for one, other in combinations(sorted(given), 2)]


def counted_agreements(pairs: Mapping[tuple[str, str], Answers]) -> list[Agreement]:
    """Compare each two people who have labelled the same rows.

    :param pairs: by two people's names, sorted, how often they gave one row which labels.
    :return: one for each pair, most rows first; then, if there are several, all of them together.
    """
    found = [_compared(people, answers) for people, answers in pairs.items() if answers.total() > 0]
    found.sort(key=lambda each: (-each.rows, each.people))
    if len(found) > 1:
        every: Answers = Counter()
        for answers in pairs.values():
            every.update(answers)
        found.append(_compared((), every))
    return found


def _compared(people: Sequence[str], answers: Answers) -> Agreement:
    rows = answers.total()
    same = sum(count for (one, other), count in answers.items() if one == other) / rows
    return Agreement(tuple(people), rows, same, cohen_kappa(answers))


def cohen_kappa(answers: Answers) -> float | None:
    """Return Cohen's kappa of two people's labels.

    scikit-learn's ``cohen_kappa_score`` gives the same (the tests compare them), and takes a second to
    import where an answer takes a millisecond.

    :param answers: how often each pair of labels was given.
    :return: the share of equal labels, less what chance gives, of what chance leaves; None if chance leaves
        nothing, or there are no rows.
    """
    rows = answers.total()
    if rows == 0:
        return None
    first: Counter[Hashable] = Counter()
    second: Counter[Hashable] = Counter()
    same = 0
    for (one, other), count in answers.items():
        first[one] += count
        second[other] += count
        same += count if one == other else 0
    chance = sum(first[label] * second[label] for label in first) / rows**2
    return None if chance == 1 else (same / rows - chance) / (1 - chance)
