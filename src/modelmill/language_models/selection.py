"""Which rows to ask about: those that a model of the answers so far is least sure of, and some at random.

The model is TF-IDF with a linear SVM, fitted on the labels that are known; the margin is the difference
between its two highest scores (of two classes: the distance from the boundary). Of several signals each has
a model, and a row counts for the one that is least sure of it. Uncertainty sampling: D. D.
Lewis and W. A. Gale, *A sequential algorithm for training text classifiers* (1994).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from modelmill.language_models.options import RowSelection
from modelmill.language_models.plan import PlannedRow

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class SelectableContent:
    """One content."""

    content: str
    keys: tuple[str, ...]
    """Of its requests; the first one names it."""
    gold: tuple[str | None, ...]
    """Its label by hand, for each signal."""

    @property
    def has_gold(self) -> bool:
        """Whether a signal has a label by hand."""
        return any(label is not None for label in self.gold)


@dataclass
class Selected:
    """What was chosen."""

    inclusion: dict[str, float] = field(default_factory=dict)
    """By name of the unit: its chance of being chosen in its round; 1 for a margin and for gold."""


def units_of(
    signals: Collection[Sequence[PlannedRow]], contents: Iterable[str | None]
) -> list[SelectableContent]:
    """Return the different contents of a table, in an order that does not depend on the table's.

    :param signals: the rows of the table, for each signal.
    :param contents: of the same rows, as they are rendered.
    :return: the units; a content has a gold label if one of its rows has.
    """
    found: dict[str, SelectableContent] = {}
    for rows, content in zip(zip(*signals, strict=True), contents, strict=True):
        if not rows[0].keys or content is None:
            continue
        name = rows[0].keys[0]
        keys, gold = [key for row in rows for key in row.keys], tuple(row.gold for row in rows)
        if (known := found.get(name)) is not None:
            keys = [*known.keys, *keys]
            gold = tuple(old if old is not None else new for old, new in zip(known.gold, gold, strict=True))
        found[name] = SelectableContent(content, tuple(dict.fromkeys(keys)), gold)
    return [found[name] for name in sorted(found)]  # names are digests: a random order


def select_in_rounds(
    units: Sequence[SelectableContent],
    options: RowSelection,
    *,
    ask: Callable[[Sequence[str], Sequence[str]], None],
    labels_of: Callable[[SelectableContent], Sequence[str | None]],
) -> Selected:
    """Choose and ask, round by round. The same answers lead to the same choice, so a killed run goes on.

    :param units: see :func:`units_of`.
    :param options: how many, and how.
    :param ask: asks the requests with the first keys, unless they are answered. The others stand for what
        later rounds will ask: what would be chosen for them now.
    :param labels_of: the labels of a unit that was asked, one for each signal; None if it has none.
    :return: the units that were chosen, gold ones included.
    """
    gold = [number for number, unit in enumerate(units) if unit.has_gold]
    selected = Selected({units[number].keys[0]: 1.0 for number in gold})
    left = [number for number, unit in enumerate(units) if not unit.has_gold]
    known = _Known(units)
    for number in gold:
        known.learn(number, units[number].gold)

    def keys_of(numbers: Iterable[int]) -> list[str]:
        return [key for number in numbers for key in units[number].keys]

    to_come = min(options.rows, len(left))
    sizes = _sizes(to_come, options.rounds)
    margins = known.margins(left)
    ask(keys_of(gold), keys_of(_choose(left, margins, to_come, share=options.random_share)))
    if known.is_of_several:  # of a gold row, an answer has what no hand has said
        for number in gold:
            known.learn(number, labels_of(units[number]))
            known.learn(number, units[number].gold)
        margins = known.margins(left)
    for place, wanted in enumerate(sizes):
        if place:
            margins = known.margins(left)
        chosen = _choose(left, margins, wanted, share=options.random_share)
        to_come -= wanted
        # Nearly what _choose would take of those that are left: in the order of margins, the rest at random.
        later = _choose(left, margins, wanted + to_come, share=options.random_share)
        ask(keys_of(chosen), keys_of([number for number in later if number not in chosen][:to_come]))
        for number, inclusion in chosen.items():
            selected.inclusion[units[number].keys[0]] = inclusion
            known.learn(number, labels_of(units[number]))
        left = [number for number in left if number not in chosen]
    return selected


def _sizes(rows: int, rounds: int) -> list[int]:
    return [
        size for number in range(rounds) if (size := rows * (number + 1) // rounds - rows * number // rounds)
    ]


Margins = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _choose(left: Sequence[int], margins: Margins | None, wanted: int, *, share: float) -> dict[int, float]:
    """Return the units of a round, with the chance that each had."""
    at_random = wanted if margins is None else round(share * wanted)
    found: dict[int, float] = {}
    if margins is not None:
        order = np.argsort(margins, kind="stable")[: wanted - at_random]
        found = {left[place]: 1.0 for place in order.tolist()}
    rest = [number for number in left if number not in found]
    # Units are in the order of their digests, so the first ones are a random sample.
    return found | dict.fromkeys(rest[:at_random], at_random / max(1, len(rest)))


class _Known:
    """The labels that are known, for each signal, and what models of them are sure of.

    :param units: all of them.
    """

    def __init__(self, units: Sequence[SelectableContent]) -> None:
        self._features = _features([unit.content for unit in units])
        self._labels: list[dict[int, str]] = [{} for _ in (units[0].gold if units else ())]

    @property
    def is_of_several(self) -> bool:
        """Whether there are several signals."""
        return len(self._labels) > 1

    def learn(self, number: int, found: Sequence[str | None]) -> None:
        """Take the labels of a unit, one for each signal; None says nothing."""
        for labels, label in zip(self._labels, found, strict=True):
            if label is not None:
                labels[number] = label

    def margins(self, left: Sequence[int]) -> Margins | None:
        """Return how sure the signals are of each unit that is left, the least sure one counting.

        Margins of different signals do not compare, so of several signals their ranks are taken.
        """
        each = (_margins(self._features, labels, left) for labels in self._labels)
        found = [margins for margins in each if margins is not None]
        if not found:
            return None
        if not self.is_of_several:
            return found[0]
        ranks = [np.argsort(np.argsort(margins, kind="stable"), kind="stable") for margins in found]
        return np.asarray(np.min(ranks, axis=0), np.float64)


def _margins(features: csr_matrix, labels: Mapping[int, str], left: Sequence[int]) -> Margins | None:
    """Return the margin of each unit that is left; None if there is nothing to learn from."""
    from sklearn.svm import LinearSVC

    known = sorted(labels)
    if len({labels[number] for number in known}) < 2 or not left or features.shape[1] == 0:
        return None
    model = LinearSVC(C=1.0, random_state=0).fit(features[known], [labels[number] for number in known])
    scores = np.asarray(model.decision_function(features[list(left)]), np.float64)
    if scores.ndim == 1:
        return np.abs(scores)
    ordered = np.sort(scores, axis=1)  # (units, classes)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _features(contents: Sequence[str]) -> csr_matrix:
    """Return TF-IDF weights, ``(units, words)``."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer(sublinear_tf=True).fit_transform(contents)
    except ValueError:  # no content has a word
        return csr_matrix((len(contents), 0))
