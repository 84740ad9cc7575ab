"""What a challenger is measured against, as findings; whether a finding refuses it is for the judge to say.

A comparison of answers to the same rows comes with the chance (p-value) of a drop like the one that was
found, if the challenger were no worse: from the paired bootstrap (see :mod:`modelmill.evaluation.metrics`),
and where it is a share of right answers also from McNemar's test as mid-p (M. W. Fagerland et al., *BMC
Medical Research Methodology* 13:91, 2013: of the rows that only one of the two got right, each is as likely
to be the other's). The larger of the two counts: the bootstrap is too sure of itself where few rows differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from modelmill.evaluation.metrics import Metric, paired_difference

Unit = Literal["share", "ms", "MB", "count"]


@dataclass(frozen=True)
class Finding:
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
    """The other's number; None where only a limit counts."""
    worse: float
    """How much worse the challenger is, in the unit, or its number itself where only a limit counts."""
    limit: float
    """Largest accepted ``worse``."""
    low: float | None = None
    """Lower end of the confidence interval of ``worse``; None where there is none."""
    high: float | None = None
    p_value: float | None = None
    """Chance of such a drop, if the challenger were no worse; None: the limit alone decides."""
    rows: int | None = None
    """Rows that it was measured on."""
    proof: bool = False
    """Whether it is refused too where the interval reaches beyond the limit."""
    least_p: float = 0.0
    """Smallest p-value that a challenger could have on these rows: had it got every one of them wrong."""
    note: str = ""
    """More to say, in words."""


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
) -> Finding:
    """Return a challenger's number that a limit alone decides about.

    :param check: see :class:`Finding`.
    :param name: see :class:`Finding`.
    :param metric: see :class:`Finding`.
    :param value: the number.
    :param limit: largest accepted number.
    :param unit: of both.
    :param rows: that it was measured on.
    :param note: more to say.
    :return: the finding.
    """
    return Finding(
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


def must_be_none(
    check: str, name: str, what: str, number: int, *, rows: int | None = None, note: str = ""
) -> Finding:
    """Return a count of what there must not be any of.

    :param check: see :class:`Finding`.
    :param name: see :class:`Finding`.
    :param what: is counted.
    :param number: of them.
    :param rows: that were looked at.
    :param note: more to say.
    :return: the finding.
    """
    return against_limit(
        check, name, f"number of {what}", number, limit=0, unit="count", rows=rows, note=note
    )


class NotJudged(BaseModel):
    """What a check would have looked at, and cannot say anything of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    name: str
    """As in a finding: ``class grain, champion``."""
    rows: int
    """Rows that there are."""
    reason: str
    """Why: ``too small to judge: 3 rows, and 20 are needed``."""

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Statistics:
    """How comparisons are made."""

    confidence: float = 0.95
    resamples: int = 2000


def metric_finding(
    name: str,
    truth: Sequence[str],
    other: Sequence[str],
    challenger: Sequence[str],
    *,
    check: str,
    metric: Metric,
    limit: float,
    how: Statistics,
    shown: str | None = None,
    proof: bool = False,
) -> Finding:
    """Compare a metric of two models on the same rows.

    :param name: what the challenger is compared with.
    :param truth: class of each row; at least one row.
    :param other: the other's answer to each row.
    :param challenger: the challenger's.
    :param check: what kind of check it belongs to.
    :param metric: ``accuracy`` or ``macro_f1``.
    :param limit: largest accepted drop.
    :param how: confidence and resamples.
    :param shown: what the metric is called here; None: by its name.
    :param proof: see :attr:`Finding.proof`.
    :return: the finding.
    """
    found = paired_difference(
        truth, other, challenger, metric=metric, confidence=how.confidence, resamples=how.resamples
    )
    not_worse = round((1 - found.beyond) * how.resamples)  # resamples
    if metric == "accuracy":
        # McNemar's is never zero, so the bootstrap needs no floor, which after the adjustment for a hundred
        # slices would let every one of them pass.
        p_value = max(not_worse / how.resamples, mcnemar(truth, other, challenger))
        right = sum(one == true for true, one in zip(truth, other, strict=True))
        least_p = _half_of_no_wins(right) if right else 1.0
    else:
        p_value = (not_worse + 1) / (how.resamples + 1)  # never zero: no test is that sure
        least_p = 0.0
    return Finding(
        check=check,
        name=name,
        metric=shown or metric,
        unit="share",
        challenger=found.second,
        other=found.first,
        worse=found.difference,
        limit=limit,
        low=found.low,
        high=found.high,
        p_value=p_value,
        rows=len(truth),
        proof=proof,
        least_p=least_p,
    )


def _half_of_no_wins(lost: int) -> float:
    """Return the mid-p of McNemar's test where all rows with another outcome are lost."""
    return float(0.5 ** (lost + 1))


def mcnemar(truth: Sequence[str], other: Sequence[str], challenger: Sequence[str]) -> float:
    """Return the one-sided p-value of the McNemar test, as mid-p: whether the challenger is worse.

    :param truth: class of each row.
    :param other: the other's answer to each row.
    :param challenger: the challenger's.
    :return: chance of more rows that only the other got right among those that one got right, and half the
        chance of as many.
    """
    from scipy.stats import binom

    pairs = zip(truth, other, challenger, strict=True)
    right = [(one == true, two == true) for true, one, two in pairs]
    lost, won = right.count((True, False)), right.count((False, True))
    both = lost + won
    return float(binom.sf(lost, both, 0.5) + binom.pmf(lost, both, 0.5) / 2) if lost else 1.0


def part_findings(
    parts: Mapping[str, Sequence[int]],
    reference: str,
    truth: Sequence[str],
    other: Sequence[str],
    challenger: Sequence[str],
    *,
    check: str,
    shown: str,
    limit: float,
    how: Statistics,
    min_rows: int = 1,
) -> Iterator[Finding | NotJudged]:
    """Compare the share of right answers in parts of the rows: classes, or slices by a column.

    :param parts: places of the rows of each part.
    :param reference: what the challenger is compared with.
    :param truth: class of each row.
    :param other: the other's answer to each row.
    :param challenger: the challenger's.
    :param check: what kind of check it is: stands before the part's name.
    :param shown: what the share is called: ``recall`` of a class, ``accuracy`` of a slice.
    :param limit: largest accepted drop.
    :param how: confidence and resamples.
    :param min_rows: a part with fewer rows is not judged; at least 1.
    :yields: a finding for each part, or that it is too small for one.
    """
    for name, places in parts.items():
        full = f"{check} {name}, {reference}"
        if len(places) < min_rows:
            reason = f"too small to judge: {len(places)} test rows, and {min_rows} are needed"
            yield NotJudged(check=check, name=full, rows=len(places), reason=reason)
            continue
        yield metric_finding(
            full,
            [truth[place] for place in places],
            [other[place] for place in places],
            [challenger[place] for place in places],
            check=check,
            metric="accuracy",
            shown=shown,
            limit=limit,
            how=how,
        )


def parts_by(values: Sequence[object]) -> dict[str, list[int]]:
    """Return the places of the rows of each value.

    :param values: a value for each row.
    :return: places by value, sorted by value; rows without one are ``(none)``.
    """
    parts: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        parts.setdefault("(none)" if value is None else str(value), []).append(place)
    return dict(sorted(parts.items()))


def calibration_findings(
    confidences: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    *,
    reference: str | None,
    max_error: float | None,
    max_increase: float,
    bins: int,
    how: Statistics,
) -> list[Finding]:
    """Compare expected calibration errors.

    The rows are cut into bins of equally many by each model's own confidence; the error is the mean distance
    of confidence and share of right answers over the bins (M. P. Naeini et al., *AAAI*, 2015).

    :param confidences: of the challenger and, if there is one, of the other: the probability of the answer
        that was given, ``(rows,)`` each.
    :param right: whether the answers are right, ``(rows,)`` each.
    :param reference: the other; None if there is none.
    :param max_error: largest accepted error; None: any.
    :param max_increase: largest accepted increase over the other's.
    :param bins: number of bins.
    :param how: confidence and resamples.
    :return: one finding for each limit that can be checked.
    """
    rows = len(right[0])
    gaps = [_gaps(one, answers, bins) for one, answers in zip(confidences, right, strict=True)]
    errors = [float(np.abs(gap.sum(0)).sum() / rows) for gap in gaps]
    found = []
    if max_error is not None:
        found.append(
            against_limit(
                "calibration",
                "accepted calibration error",
                "calibration error",
                errors[0],
                limit=max_error,
                rows=rows,
            )
        )
    if reference is not None:
        drawn = np.random.default_rng(0).multinomial(
            rows, np.full(rows, 1 / rows), size=min(how.resamples, 500)
        )
        first, second = (np.abs(drawn @ gap).sum(1) / rows for gap in gaps)  # (resamples,)
        low, high = np.quantile(first - second, [(1 - how.confidence) / 2, (1 + how.confidence) / 2])
        found.append(
            Finding(
                check="calibration",
                name=reference,
                metric="calibration error",
                unit="share",
                challenger=errors[0],
                other=errors[1],
                worse=errors[0] - errors[1],
                limit=max_increase,
                low=float(low),
                high=float(high),
                p_value=float(((first - second) <= 0).sum() + 1) / (len(drawn) + 1),
                rows=rows,
            )
        )
    return found


def _gaps(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """Return confidence minus rightness of each row in the column of its bin, ``(rows, bins)``."""
    rows = len(right)
    place = np.empty(rows, dtype=np.int64)
    place[np.argsort(confidence, kind="stable")] = np.arange(rows) * bins // rows
    table = np.zeros((rows, bins))
    table[np.arange(rows), place] = confidence - right
    return table
