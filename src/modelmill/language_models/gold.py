"""A language model held to gold labels: which of its labels to believe, and what the gold rows cannot say.

Every bound is exact for the gold rows at hand (Clopper and Pearson 1934), and the doubt is shared out over
all labels and thresholds that are tried (Bonferroni), so that all promises hold together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelmill.language_models.votes import Vote
from modelmill.options import Record
from modelmill.rules.confidence_bounds import lower_bound, upper_bound

MOST_THRESHOLDS = 5
"""Thresholds that are tried for a label: each takes a part of the doubt."""


class LabelOnGold(Record):
    """How right one label is: counted on the gold rows for which the language model answers it."""

    label: str
    given: bool
    """Whether rows get this label."""
    threshold: float | None
    """Score from which on; None if it is not given."""
    rows: int
    """Gold rows with this answer, from the threshold on; of a label that is not given: all of them."""
    right: int
    precision: float | None
    """Share that is right; None without rows."""
    precision_low: float
    """Exact lower bound: the share on new rows is not below it, but for the doubt."""
    rows_needed: int | None
    """Gold rows with this answer, all right, that would prove the precision; None if none is asked for."""

    @property
    def probability(self) -> float:
        """Chance that a row with this label is right (Laplace's rule of succession)."""
        return (self.right + 1) / (self.rows + 2)


class GoldReport(Record):
    """A language model on the gold rows."""

    rows: int
    """Different contents with a gold label that is one of the labels."""
    rows_of_other_labels: int
    """Rows whose gold label is none of the labels: nothing is learnt from them."""
    answered: int
    right: int
    accuracy: float | None
    """Of the rows that were answered; None without any."""
    accuracy_low: float
    accuracy_high: float
    """Exact bounds of the same, 95 %."""
    labels: tuple[LabelOnGold, ...]
    not_promised: tuple[str, ...]
    """Labels for which the gold rows do not prove the precision."""
    orders_compared: int
    """Rows that were answered in two orders of the labels or more."""
    orders_differ: int
    """Those whose answer depends on the order."""
    right_by_order: tuple[int, ...]
    """Rows that are right, for each order, of those compared."""


@dataclass(frozen=True)
class GoldRow:
    """One content with its gold label."""

    gold: str
    vote: Vote
    by_order: tuple[str | None, ...]
    """Answer in each order; None: it abstained. Orders without an answer are left out."""


def held_to_gold(
    rows: Sequence[GoldRow],
    labels: Sequence[str],
    *,
    precision: float | None,
    doubt: float,
    orders: int,
) -> GoldReport:
    """Compare answers with gold labels, and find a threshold for each label.

    :param rows: different contents.
    :param labels: all that may be answered.
    :param precision: share of each label's rows that has to be right; None: every label is given.
    :param doubt: chance that one of the promises does not hold on new rows.
    :param orders: orders in which gold rows were asked.
    :return: the report.
    """
    known = [row for row in rows if row.gold in labels]
    answered = [row for row in known if row.vote.label is not None]
    right = sum(row.vote.label == row.gold for row in answered)
    share = doubt / len(labels)
    found = tuple(_label(label, answered, precision=precision, doubt=share) for label in labels)
    compared = [row for row in known if len(row.by_order) == orders > 1]
    count = len(answered)
    return GoldReport(
        rows=len(known),
        rows_of_other_labels=len(rows) - len(known),
        answered=count,
        right=right,
        accuracy=right / count if count else None,
        accuracy_low=lower_bound(right, count, doubt=0.025),
        accuracy_high=upper_bound(right, count, doubt=0.025),
        labels=found,
        not_promised=tuple(one.label for one in found if precision is not None and not one.given),
        orders_compared=len(compared),
        orders_differ=sum(len(set(row.by_order)) > 1 for row in compared),
        right_by_order=tuple(
            sum(row.by_order[number] == row.gold for row in compared) for number in range(orders)
        ),
    )


def _label(label: str, answered: Sequence[GoldRow], *, precision: float | None, doubt: float) -> LabelOnGold:
    scored = [(row.vote.score, row.gold == label) for row in answered if row.vote.label == label]
    if precision is None:
        return _on_gold(label, scored, threshold=0.0, given=True, doubt=doubt, needed=None)
    thresholds = _thresholds([score for score, _ in scored])
    doubt /= max(1, len(thresholds))
    needed = math.ceil(math.log(doubt) / math.log(precision))
    for threshold in thresholds:  # the lowest one that holds gives the most rows
        kept = [pair for pair in scored if pair[0] >= threshold]
        if lower_bound(sum(good for _, good in kept), len(kept), doubt=doubt) >= precision:
            return _on_gold(label, kept, threshold=threshold, given=True, doubt=doubt, needed=needed)
    return _on_gold(label, scored, threshold=None, given=False, doubt=doubt, needed=needed)


def _thresholds(scores: Sequence[float]) -> list[float]:
    """Return scores at equal distances in rank, the lowest first; which are right plays no part."""
    different = sorted(set(scores))
    if len(different) <= MOST_THRESHOLDS:
        return different
    ordered = sorted(scores)
    return sorted({ordered[number * len(ordered) // MOST_THRESHOLDS] for number in range(MOST_THRESHOLDS)})


def _on_gold(
    label: str,
    scored: Sequence[tuple[float, bool]],
    *,
    threshold: float | None,
    given: bool,
    doubt: float,
    needed: int | None,
) -> LabelOnGold:
    rows, right = len(scored), sum(good for _, good in scored)
    return LabelOnGold(
        label=label,
        given=given,
        threshold=threshold,
        rows=rows,
        right=right,
        precision=right / rows if rows else None,
        precision_low=lower_bound(right, rows, doubt=doubt),
        rows_needed=needed,
    )


def by_label(report: GoldReport) -> Mapping[str, LabelOnGold]:
    """Return the labels of a report by name."""
    return {one.label: one for one in report.labels}
