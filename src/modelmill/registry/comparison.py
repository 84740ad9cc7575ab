"""One number of a challenger beside what it is compared with; :mod:`modelmill.registry.verdict` decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelmill.options import Record

Unit = Literal["share", "score", "ms", "MB", "count"]
"""``share``: from 0 to 1, shown in percent; ``score``: a number as it is, such as R²."""


@dataclass(frozen=True)
class Comparison:
    """One number of a challenger, and what it is compared with."""

    check: str
    """What kind of check it belongs to: ``metric``, ``class``, ``baseline``, ``latency``, …."""
    name: str
    """What it is compared with, and where: ``champion``, ``class earn, champion``, ``accepted size``, …."""
    metric: str
    """What is measured: ``accuracy``, ``recall``, ``p95 of one text``, …."""
    unit: Unit
    challenger: float
    other: float | None
    """The other's number; None if only a limit counts."""
    worse: float
    """How much worse the challenger is, in the unit, or its number itself if only a limit counts."""
    limit: float
    """Largest accepted ``worse``."""
    low: float | None = None
    """Lower end of the confidence interval of ``worse``; None without an interval."""
    high: float | None = None
    p_value: float | None = None
    """Chance of such a drop if the challenger were no worse; None: the limit alone decides."""
    rows: int | None = None
    """Rows that it was measured on."""
    alpha: float | None = None
    """Chance that decides: ``p_value`` is compared with it as it is. None: ``p_value`` is adjusted for the
    number of comparisons, and compared with what the gate's confidence leaves."""
    must_show: bool = False
    """Whether the challenger has to show that it is better than the limit: ``p_value`` is then the chance of
    such rows if it were not, and it is refused unless that is at most ``alpha``."""
    at_least: bool = False
    """Whether the number has to be at least the limit, where only a limit counts; else at most."""
    proof: bool = False
    """Whether the challenger is also refused if the interval reaches beyond the limit."""
    least_p: float = 0.0
    """Smallest p-value that a challenger could have on these rows: with every one of them wrong."""
    note: str = ""
    """More to say, in words."""


class NotJudged(Record):
    """What a check would have looked at, but cannot judge."""

    check: str
    name: str
    """As in a comparison: ``class grain, champion``."""
    rows: int
    """Rows that there are."""
    reason: str
    """Why: ``too small to judge: 3 rows, and 20 are needed``."""

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return f"{self.name}: {self.reason}"


def too_few(check: str, name: str, *, rows: int, needed: int) -> NotJudged:
    """Return that there are too few test rows for a comparison."""
    reason = f"too small to judge: {rows} test rows, and {needed} are needed"
    return NotJudged(check=check, name=name, rows=rows, reason=reason)


def right_share(
    check: str, name: str, metric: str, right: int, *, rows: int, least: float, alpha: float
) -> Comparison:
    """Return the share of right answers, which is to be at least a floor.

    :param check: see :class:`Comparison`.
    :param name: see :class:`Comparison`.
    :param metric: see :class:`Comparison`.
    :param right: answers that are right.
    :param rows: all answers, one or more.
    :param least: the floor.
    :param alpha: chance of so few right answers, if the model reached the floor, at which it is refused.
    :return: the comparison.
    """
    from scipy.stats import binom

    return Comparison(
        check=check,
        name=name,
        metric=metric,
        unit="share",
        challenger=right / rows,
        other=None,
        worse=right / rows,
        limit=least,
        at_least=True,
        p_value=float(binom.cdf(right, rows, least)),
        alpha=alpha,
        rows=rows,
        note=f"{right:,} of {rows:,} test rows",
    )


def against_limit(
    check: str,
    name: str,
    metric: str,
    value: float,
    *,
    limit: float,
    unit: Unit = "share",
    rows: int | None = None,
    note: str = "",
) -> Comparison:
    """Return a number of a challenger that a limit alone decides.

    :param check: see :class:`Comparison`.
    :param name: see :class:`Comparison`.
    :param metric: see :class:`Comparison`.
    :param value: the number.
    :param limit: largest accepted number.
    :param unit: of both.
    :param rows: that it was measured on.
    :param note: more to say.
    :return: the comparison.
    """
    return Comparison(
        check=check,
        name=name,
        metric=metric,
        unit=unit,
        challenger=value,
        other=None,
        worse=value,
        limit=limit,
        rows=rows,
        note=note,
    )


def must_be_zero(
    check: str, name: str, what: str, number: int, *, rows: int | None = None, note: str = ""
) -> Comparison:
    """Return a count that must be zero.

    :param check: see :class:`Comparison`.
    :param name: see :class:`Comparison`.
    :param what: what is counted.
    :param number: the count.
    :param rows: that were looked at.
    :param note: more to say.
    :return: the comparison.
    """
    return against_limit(
        check, name, f"number of {what}", number, limit=0, unit="count", rows=rows, note=note
    )
