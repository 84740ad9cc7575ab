"""Whether the answers are still right, judged on rows whose labels have had the time to arrive.

Labels that arrive early are not like the others (a complaint is quicker than a contented silence), so a row
is judged only when it is old enough, labelled early or not, and only if enough rows of that age have labels.
The drop of the accuracy is the difference of two independent shares; its bound is that of R. G. Newcombe
(*Interval estimation for the difference between independent proportions*, 1998, method 10), made of Wilson's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelmill.options import Record


class QualityReport(Record):
    """What became of the quality."""

    as_of: str
    """Time that ages are counted from: the newest commit of the tables."""
    rows: int
    """Rows with an answer."""
    too_young: int
    """Of these: rows whose labels may still be under way."""
    without_label: int
    """Of those old enough: rows that have none all the same."""
    judged_rows: int
    not_judged: str | None
    """Why the quality is not judged; None if it is."""
    accuracy: float | None
    """From 0 to 1; None if it is not judged."""
    reference_accuracy: float
    """On the held-out rows of the dataset."""
    reference_rows: int
    drop: float | None
    """Reference minus current; None if it is not judged."""
    drop_at_least: float | None
    """Lower confidence bound of the drop; None if it is not judged."""
    macro_f1: float | None
    """From 0 to 1; None if it is not judged."""
    reference_macro_f1: float


@dataclass(frozen=True)
class RightAnswers:
    """How many answers to some rows are right."""

    right: int
    rows: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.right / self.rows

    @classmethod
    def of(cls, truth: Sequence[str], answers: Sequence[str]) -> RightAnswers:
        """Count the right answers to the same rows."""
        return cls(sum(one == other for one, other in zip(truth, answers, strict=True)), len(truth))

    def wilson(self, z: float) -> tuple[float, float]:
        """Return Wilson's interval (1927).

        :param z: quantile of the normal distribution.
        :return: its ends.
        """
        centre = (self.share + z * z / (2 * self.rows)) / (1 + z * z / self.rows)
        spread = math.sqrt(self.share * (1 - self.share) / self.rows + (z / (2 * self.rows)) ** 2)
        half = z * spread / (1 + z * z / self.rows)
        return centre - half, centre + half


def drop_at_least(before: RightAnswers, now: RightAnswers, *, confidence: float) -> float:
    """Return the lower confidence bound of the first share minus the second.

    :param before: at least one row.
    :param now: at least one row.
    :param confidence: one-sided.
    :return: from -1 to 1.
    """
    from scipy.stats import norm

    z = float(norm.ppf(confidence))
    low, high = before.wilson(z)[0], now.wilson(z)[1]
    return before.share - now.share - math.hypot(before.share - low, high - now.share)
