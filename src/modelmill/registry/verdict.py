"""Comparisons to verdicts.

A challenger is refused by a comparison that lies beyond its limit. Where chance plays a part it must also be
worse beyond chance: a metric of a few thousand rows is uncertain by tenths of a point. Many comparisons are
made at a time, and each of them errs now and then, so their p-values are adjusted (S. Holm, *Scandinavian
Journal of Statistics* 6, 1979): the chance that an equal challenger is refused by any of them is at most
``1 - confidence``. Half of it is for the comparisons of the whole test split, half for those of its parts
(classes, slices), so that a hundred slices do not blind the gate to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from modelmill.evaluation.statistics import holm
from modelmill.registry.comparison import Comparison, Unit

PARTS = ("class", "slice")
"""Kinds of checks that look at parts of the rows."""

_EPSILON = 1e-12
"""Sums of floats: a drop that equals the limit must not land on either side by chance."""


class CheckResult(BaseModel):
    """One thing that a challenger must not do worse than."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    """Kind: ``lineage``, ``metric``, ``class``, ``baseline``, or the name of a further check."""
    name: str
    """``parent``, ``champion``, the name of a baseline, or part and model: ``class earn, champion``."""
    passed: bool
    warning: bool
    """Whether it passed although the number breaks the limit: the rows are too few to tell."""
    metric: str
    unit: Unit
    """``share``: from 0 to 1."""
    challenger: float
    other: float | None
    """None if only a limit counts."""
    drop: float
    """How much worse the challenger is: positive where it is worse. If only a limit counts, its number."""
    low: float | None
    """Lower end of the drop's confidence interval; None if it has none."""
    high: float | None
    limit: float
    """Largest accepted drop."""
    p_value: float | None
    """Chance of such a drop if the challenger were no worse; None: the limit alone decides."""
    adjusted: float | None
    """The same, adjusted for the number of comparisons."""
    rows: int | None
    too_small: bool = False
    """Whether it passed on rows that are too few for anything else: had the challenger got every one of them
    wrong, that would still be within chance."""
    sentence: str


def judge(comparisons: Sequence[Comparison], *, confidence: float) -> tuple[CheckResult, ...]:
    """Decide each comparison, so that all of them together keep the confidence.

    :param comparisons: of one challenger.
    :param confidence: one minus the accepted chance that any of them refuses an equal challenger.
    :return: a result for each comparison, in their order.
    """
    alpha = (1 - confidence) / 2
    adjusted: dict[int, float] = {}
    too_small: set[int] = set()
    for parts in (False, True):
        places = [
            place
            for place, found in enumerate(comparisons)
            if found.p_value is not None and (found.check in PARTS) == parts
        ]
        values = [comparisons[place].p_value or 0.0 for place in places]
        adjusted |= dict(zip(places, holm(values), strict=True))
        too_small |= {place for place in places if comparisons[place].least_p * len(places) > alpha}
    return tuple(
        _result(found, adjusted.get(place), alpha=alpha, too_small=place in too_small)
        for place, found in enumerate(comparisons)
    )


def _result(found: Comparison, adjusted: float | None, *, alpha: float, too_small: bool) -> CheckResult:
    beyond = found.worse > found.limit + _EPSILON
    by_chance = adjusted is not None and adjusted > alpha
    unproven = found.proof and found.high is not None and found.high > found.limit + _EPSILON
    passed = not (beyond and not by_chance) and not unproven
    warning = passed and beyond
    return CheckResult(
        check=found.check,
        name=found.name,
        passed=passed,
        warning=warning,
        metric=found.metric,
        unit=found.unit,
        challenger=found.challenger,
        other=found.other,
        drop=found.worse,
        low=found.low,
        high=found.high,
        limit=found.limit,
        p_value=found.p_value,
        adjusted=adjusted,
        rows=found.rows,
        too_small=passed and too_small,
        sentence=f"{_facts(found, adjusted)}: {_outcome(found, passed, warning, unproven)}"
        + (f"; too small to judge: {_right(found)}" if passed and too_small else ""),
    )


def shown(value: float, unit: Unit) -> str:
    """Return a number with its unit.

    :param value: the number.
    :param unit: its unit.
    :return: for instance ``12.50%``.
    """
    if unit == "share":
        return f"{value:.2%}"
    return f"{value:.0f}" if unit == "count" else f"{value:.3g} {unit}"


def apart(value: float, unit: Unit) -> str:
    """Return a difference of two numbers with its unit: shares are points apart.

    :param value: the difference.
    :param unit: of the numbers.
    :return: for instance ``1.25 points``.
    """
    return f"{100 * value:.2f} points" if unit == "share" else shown(value, unit)


def _facts(found: Comparison, adjusted: float | None) -> str:
    unit = found.unit
    more = f"; {found.note}" if found.note else ""
    if found.other is None:
        return f"{found.metric} is {shown(found.challenger, unit)}{more}"
    distance = apart(abs(found.worse), unit)
    relation = f"{distance} {'worse than' if found.worse > 0 else 'better than'}"
    if found.worse == 0:
        relation = "level with"
    part, _, other = found.name.rpartition(", ")
    of = f" of {part}" if part and found.check in PARTS else ""
    name = other if of else found.name
    text = f"{found.metric}{of}, {shown(found.challenger, unit)}, is {relation} {name}"
    text += f" ({shown(found.other, unit)}"
    if found.low is not None and found.high is not None:
        text += f"; between {apart(found.low, unit)} and {apart(found.high, unit)} worse"
    if adjusted is not None:
        text += f"; p {adjusted:.2g}"
    return f"{text}){more}"


def _right(found: Comparison) -> str:
    rows = found.rows or 0
    other = found.name.rpartition(", ")[2]
    return f"{other} is right on {round((found.other or 0) * rows)} of {rows} rows"


def _outcome(found: Comparison, passed: bool, warning: bool, unproven: bool) -> str:
    write = shown if found.other is None else apart
    relative = f"accepted {write(found.limit, found.unit)}"
    if passed:
        return f"passed with a warning: more than the {relative}, but within chance" if warning else "passed"
    if unproven and found.worse <= found.limit:
        return f"refused: the rows are too few to show that it is within the {relative}"
    return f"refused: more than the {relative}" + (", beyond chance" if found.p_value is not None else "")
