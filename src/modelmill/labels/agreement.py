"""How far people who label the same rows agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
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


def agreements(labels: Mapping[str, Mapping[str, Hashable]]) -> list[Agreement]:
    """Compare each two people who have labelled the same rows.

    :param labels: by row, the label of each person.
    :return: one for each pair, most rows first; then, if there are pairs, all of them together.
    """
    pairs: dict[tuple[str, str], list[tuple[Hashable, Hashable]]] = {}
    for given in labels.values():
        for one, other in combinations(sorted(given), 2):
            pairs.setdefault((one, other), []).append((given[one], given[other]))
    found = [_compared(people, answers) for people, answers in pairs.items()]
    found.sort(key=lambda each: (-each.rows, each.people))
    if len(found) > 1:
        found.append(_compared((), [answer for answers in pairs.values() for answer in answers]))
    return found


def _compared(people: Sequence[str], answers: Sequence[tuple[Hashable, Hashable]]) -> Agreement:
    same = sum(one == other for one, other in answers) / len(answers)
    return Agreement(tuple(people), len(answers), same, cohen_kappa(answers))


def cohen_kappa(answers: Iterable[tuple[Hashable, Hashable]]) -> float | None:
    """Return Cohen's kappa of two people's labels.

    scikit-learn's ``cohen_kappa_score`` gives the same (the tests compare them), and takes a second to
    import where an answer takes a millisecond.

    :param answers: both labels of each row.
    :return: the share of equal labels, less what chance gives, of what chance leaves; None if chance leaves
        nothing, or there are no rows.
    """
    rows = list(answers)
    if not rows:
        return None
    same = sum(one == other for one, other in rows) / len(rows)
    first, second = Counter(one for one, _ in rows), Counter(other for _, other in rows)
    chance = sum(first[label] * second[label] for label in first) / len(rows) ** 2
    return None if chance == 1 else (same - chance) / (1 - chance)
