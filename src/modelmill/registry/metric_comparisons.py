"""Metrics of a challenger and of another model on the same rows, with the chance of a drop like that.

The chance (p-value) of a drop like the one found, if the challenger were no worse, comes from the paired
bootstrap (see :mod:`modelmill.tasks.metrics`). For a share of right answers it also comes from McNemar's test
as mid-p (M. W. Fagerland et al., *BMC Medical Research Methodology* 13:91, 2013: of the rows that only one of
the two got right, each is as likely to be the other's). The larger of the two counts: the bootstrap is too
sure of itself where few rows differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modelmill.registry.comparison import Comparison, NotJudged, Unit, too_few
from modelmill.tasks.base import Answers
from modelmill.tasks.class_metrics import ACCURACY
from modelmill.tasks.metrics import Difference, Metric

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Statistics:
    """How comparisons are made."""

    confidence: float = 0.95
    resamples: int = 2000


@dataclass(frozen=True)
class Answered:
    """Labelled rows with the answers of a challenger, and of the model that it is compared with."""

    truth: Answers
    other: Answers
    challenger: Answers

    @classmethod
    def of(cls, truth: Sequence[str], other: Sequence[str], challenger: Sequence[str]) -> Answered:
        """Return rows of one class each."""
        return cls(*(np.array(names, dtype=object) for names in (truth, other, challenger)))

    def take(self, places: Sequence[int]) -> Answered:
        """Return some of the rows."""
        rows = np.asarray(places, dtype=np.int64)
        return Answered(self.truth[rows], self.other[rows], self.challenger[rows])


def compare_metric(
    name: str,
    rows: Answered,
    *,
    check: str,
    metric: Metric,
    limit: float,
    how: Statistics,
    shown: str | None = None,
    proof: bool = False,
) -> Comparison:
    """Compare a metric of two models on the same rows.

    :param name: what the challenger is compared with.
    :param rows: at least one.
    :param check: what kind of check it belongs to.
    :param metric: which.
    :param limit: largest accepted drop.
    :param how: confidence and resamples.
    :param shown: what the metric is called here; None: by its name.
    :param proof: see :attr:`Comparison.proof`.
    :return: the comparison.
    """
    found = _difference(rows, metric, how)
    not_worse = round((1 - found.beyond) * how.resamples)  # resamples
    if metric.right is None:
        p_value = (not_worse + 1) / (how.resamples + 1)  # never zero: no test is that sure
        least_p = 0.0
    else:
        other, challenger = (metric.right(rows.truth, one) for one in (rows.other, rows.challenger))
        # McNemar's is never zero, so the bootstrap needs no floor, which after the adjustment for a hundred
        # slices would let every one of them pass.
        p_value = max(not_worse / how.resamples, mcnemar(other, challenger))
        least_p = _half_of_no_wins(int(other.sum())) if other.any() else 1.0
    compared = _compared(name, found, rows, check=check, metric=metric, limit=limit)
    return replace(compared, metric=shown or metric.title, p_value=p_value, proof=proof, least_p=least_p)


def _compared(
    name: str, found: Difference, rows: Answered, *, check: str, metric: Metric, limit: float
) -> Comparison:
    return Comparison(
        check=check,
        name=name,
        metric=metric.title,
        unit=unit_of(metric),
        challenger=found.second,
        other=found.first,
        worse=found.value,
        limit=limit,
        low=found.low,
        high=found.high,
        rows=len(rows.truth),
    )


def unit_of(metric: Metric) -> Unit:
    """Return the unit that a metric is shown in."""
    return "share" if metric.is_share else "score"


def _difference(rows: Answered, metric: Metric, how: Statistics) -> Difference:
    return metric.difference(
        rows.truth, rows.other, rows.challenger, confidence=how.confidence, resamples=how.resamples
    )


def must_beat(name: str, rows: Answered, *, check: str, metric: Metric, how: Statistics) -> Comparison:
    """Compare a challenger with something that it has to be better than beyond chance.

    :param name: what that is.
    :param rows: at least one.
    :param check: what kind of check it belongs to.
    :param metric: which.
    :param how: confidence and resamples; the accepted chance is what the confidence leaves.
    :return: the comparison; too small to judge where not even right answers to all rows would be enough.
    """
    found = _difference(rows, metric, how)
    swapped = _difference(Answered(rows.truth, rows.challenger, rows.other), metric, how)
    p_value = max(1 - swapped.beyond, 1 / (how.resamples + 1))
    perfect = _difference(Answered(rows.truth, rows.truth, rows.other), metric, how)
    least_p = 1.0 if perfect.value <= 0 else 0.0
    if metric.right is not None:
        other, challenger = (metric.right(rows.truth, one) for one in (rows.other, rows.challenger))
        p_value = max(p_value, mcnemar(challenger, other))
        least_p = _half_of_no_wins(int((~other).sum()))
    compared = _compared(name, found, rows, check=check, metric=metric, limit=0.0)
    return replace(compared, p_value=p_value, alpha=1 - how.confidence, must_show=True, least_p=least_p)


def must_keep(
    name: str, rows: Answered, *, check: str, metric: Metric, budget: float, alpha: float, how: Statistics
) -> Comparison:
    """Compare a challenger with a model that it has to be shown to keep up with, but for a budget.

    :param name: the other model.
    :param rows: at least one.
    :param check: what kind of check it belongs to.
    :param metric: which.
    :param budget: largest accepted drop.
    :param alpha: accepted chance of passing with a larger one.
    :param how: confidence and resamples.
    :return: the comparison.
    """
    from scipy.stats import norm

    found, count = _difference(rows, metric, how), len(rows.truth)
    nothing_lost = (1 - budget) ** count  # the chance of level answers if the drop were the budget
    if metric.right is None:
        error = (found.high - found.low) / (2 * float(norm.ppf((1 + how.confidence) / 2)))
        p_value = float(norm.sf((budget - found.value) / error)) if error else float(found.value >= budget)
        p_value = max(p_value, nothing_lost)
    else:
        other, challenger = (metric.right(rows.truth, one) for one in (rows.other, rows.challenger))
        p_value = drop_p(int((other & ~challenger).sum()), int((challenger & ~other).sum()), count, budget)
    compared = _compared(name, found, rows, check=check, metric=metric, limit=budget)
    return replace(compared, p_value=p_value, alpha=alpha, must_show=True)


def drop_p(lost: int, won: int, rows: int, drop: float) -> float:
    """Return the chance of so few losses if a model's share of right answers had dropped by as much as given.

    The unknown share of rows on which the two models differ is estimated under that drop, as T. Tango does
    (*Statistics in Medicine* 17, 1998), and the chance is summed over all outcomes rather than taken from a
    normal distribution (the estimated p-value of C. J. Lloyd, *Biometrics* 64, 2008), which is wrong far out.

    :param lost: rows that only the other model got right.
    :param won: rows that only the challenger got right.
    :param rows: all rows.
    :param drop: above 0.
    :return: the p-value.
    """
    from scipy.stats import binom

    same = rows - lost - won
    linear = lost * (1 - drop) + won * (1 - 3 * drop) - 2 * same * drop
    wins = (linear + np.sqrt(linear**2 + 8 * rows * won * drop * (1 - drop))) / (4 * rows)
    differ = min(2 * wins + drop, 1.0)
    spread = 12 * np.sqrt(rows * differ * (1 - differ)) + 12
    counts = np.arange(max(0, int(rows * differ - spread)), min(rows, int(rows * differ + spread)) + 1)
    at_most = binom.cdf((counts + lost - won) // 2, counts, (wins + drop) / differ)
    return float(min((binom.pmf(counts, rows, differ) * at_most).sum(), 1.0))


def mcnemar(other: Right, challenger: Right) -> float:
    """Return the one-sided p-value of the McNemar test, as mid-p: whether the challenger is worse.

    :param other: whether the other model is right, ``(rows,)``.
    :param challenger: whether the challenger is.
    :return: chance of more rows that only the other got right among those that one got right, and half the
        chance of as many.
    """
    from scipy.stats import binom

    lost, won = int((other & ~challenger).sum()), int((challenger & ~other).sum())
    both = lost + won
    return float(binom.sf(lost, both, 0.5) + binom.pmf(lost, both, 0.5) / 2) if lost else 1.0


def _half_of_no_wins(lost: int) -> float:
    """Return the mid-p of McNemar's test if all rows with another outcome are lost."""
    return float(0.5 ** (lost + 1))


def compare_parts(
    parts: Mapping[str, Sequence[int]],
    reference: str,
    rows: Answered,
    *,
    check: str,
    shown: str,
    limit: float,
    how: Statistics,
    min_rows: int = 1,
) -> Iterator[Comparison | NotJudged]:
    """Compare the share of right answers in parts of the rows: classes, or slices by a column.

    :param parts: places of the rows of each part.
    :param reference: what the challenger is compared with.
    :param rows: rows of one class each.
    :param check: what kind of check it is: comes before the part's name.
    :param shown: what the share is called: ``recall`` of a class, ``accuracy`` of a slice.
    :param limit: largest accepted drop.
    :param how: confidence and resamples.
    :param min_rows: a part with fewer rows is not judged; at least 1.
    :yields: a comparison for each part, or that it is too small for one.
    """
    for name, places in parts.items():
        full = f"{check} {name}, {reference}"
        if len(places) < min_rows:
            yield too_few(check, full, rows=len(places), needed=min_rows)
            continue
        yield compare_metric(
            full, rows.take(places), check=check, metric=ACCURACY, shown=shown, limit=limit, how=how
        )


def parts_by(values: Sequence[object]) -> dict[str, list[int]]:
    """Return the places of the rows of each value, sorted by value; rows without one are ``(none)``."""
    parts: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        parts.setdefault("(none)" if value is None else str(value), []).append(place)
    return dict(sorted(parts.items()))
