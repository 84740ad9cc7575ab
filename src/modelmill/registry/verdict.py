"""Comparisons to verdicts.

A challenger is refused by a comparison that lies beyond its limit. Where chance plays a part it must also be
worse beyond chance: a metric of a few thousand rows is uncertain by tenths of a point. Many comparisons are
made at a time, and each of them errs now and then, so their p-values are adjusted (S. Holm, *Scandinavian
Journal of Statistics* 6, 1979): the chance that an equal challenger is refused by any of them is at most
``1 - confidence``. Half of it is for the comparisons of the whole test split, half for those of its parts
(classes, slices), so that a hundred slices do not blind the gate to the whole. Floors, and what a challenger
itself has to show, come with a chance of their own (:attr:`Comparison.alpha`): a model far above a floor does
not come nearer to it because there are many.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.evaluation.statistics import holm
from modelmill.options import Record
from modelmill.registry.comparison import Comparison, Unit

PARTS = ("class", "slice", "recall", "quarter")
"""Kinds of checks that look at parts of the rows."""

_EPSILON = 1e-12
"""Sums of floats: a drop that equals the limit must not land on either side by chance."""


class CheckResult(Record):
    """One thing that a challenger must not do worse than."""

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
    """Largest accepted drop; where only a limit counts, the largest accepted number, or the smallest."""
    at_least: bool = False
    """Whether the number has to be at least the limit."""
    must_show: bool = False
    """Whether it is refused for what it has not shown, and not for what the rows show against it."""
    p_value: float | None
    """Chance of such a drop if the challenger were no worse (``must_show``: of so small a drop if it were as
    large as the limit); None: the limit alone decides."""
    adjusted: float | None
    """The same, adjusted for the number of comparisons unless ``alpha`` is the comparison's own."""
    alpha: float | None = None
    """Chance that it was compared with."""
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
    shared = (1 - confidence) / 2
    adjusted: dict[int, float] = {}
    too_small: set[int] = set()
    for parts in (False, True):
        places = [
            place
            for place, found in enumerate(comparisons)
            if found.p_value is not None and found.alpha is None and (found.check in PARTS) == parts
        ]
        values = [comparisons[place].p_value or 0.0 for place in places]
        adjusted |= dict(zip(places, holm(values), strict=True))
        too_small |= {place for place in places if comparisons[place].least_p * len(places) > shared}
    results = []
    for place, found in enumerate(comparisons):
        own = found.alpha is not None
        p_value = found.p_value if own else adjusted.get(place)
        small = found.least_p > (found.alpha or 0.0) if own else place in too_small
        alpha = found.alpha if own else shared
        results.append(_result(found, p_value, alpha=alpha or 0.0, too_small=small, confidence=confidence))
    return tuple(results)


def _result(
    found: Comparison, p_value: float | None, *, alpha: float, too_small: bool, confidence: float
) -> CheckResult:
    over = found.limit - found.worse if found.at_least else found.worse - found.limit
    beyond = over > _EPSILON
    if found.must_show:
        unproven = p_value is not None and p_value > alpha
        passed, warning = not unproven, False
    else:
        by_chance = p_value is not None and p_value > alpha
        unproven = found.proof and found.high is not None and found.high > found.limit + _EPSILON
        passed = not (beyond and not by_chance) and not unproven
        warning = passed and beyond
    outcome = _outcome(found, p_value, alpha, passed=passed, warning=warning, unproven=unproven)
    sentence = f"{_facts(found, confidence)}: {outcome}"
    if passed and too_small:
        sentence = f"{_facts(found, confidence)}: passed; too small to judge: {_right(found)}"
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
        at_least=found.at_least,
        must_show=found.must_show,
        p_value=found.p_value,
        adjusted=p_value,
        alpha=None if found.p_value is None else alpha,
        rows=found.rows,
        too_small=passed and too_small,
        sentence=sentence,
    )


def shown(value: float, unit: Unit) -> str:
    """Return a number with its unit: ``12.50%``, ``0.415``, ``3.2 ms``."""
    if unit == "share":
        return f"{value:.2%}"
    if unit == "score":
        return f"{_signless(value, 3):.3f}"
    return f"{value:.0f}" if unit == "count" else f"{value:.3g} {unit}"


def apart(value: float, unit: Unit) -> str:
    """Return a difference of two numbers with its unit; shares are points apart: ``1.25 points``."""
    return f"{_signless(100 * value, 2):.2f} points" if unit == "share" else shown(value, unit)


def _signless(value: float, digits: int) -> float:
    """Return a number that is shown as zero without the sign of a rounded one."""
    return value if round(value, digits) else 0.0


def span(low: float, high: float, unit: Unit) -> str:
    """Return in words between which differences the truth lies, both ends positive where it is worse.

    :param low: the better end.
    :param high: the worse end.
    :param unit: of both.
    :return: for instance ``0.20 to 0.60 points worse``, or ``0.20 points better to 0.60 points worse``.
    """
    none = apart(0.0, unit)
    best, worst = apart(abs(low), unit), apart(abs(high), unit)
    if best == worst == none:
        return "no difference"
    if low >= 0 or best == none:
        return f"{best.partition(' ')[0]} to {worst} worse"
    if high <= 0 or worst == none:
        return f"{worst.partition(' ')[0]} to {best} better"
    return f"{best} better to {worst} worse"


def _facts(found: Comparison, confidence: float) -> str:
    unit = found.unit
    more = f"; {found.note}" if found.note else ""
    if found.other is None:
        of = f" of {found.name}" if found.check in PARTS else ""
        return f"{found.metric}{of} is {shown(found.challenger, unit)}{more}"
    distance = apart(abs(found.worse), unit)
    relation = f"{distance} {'worse than' if found.worse > 0 else 'better than'}"
    if distance == apart(0.0, unit):
        relation = "level with"
    part, _, other = found.name.rpartition(", ")
    of = f" of {part}" if part else ""
    text = f"{found.metric}{of}, {shown(found.challenger, unit)}, is {relation} "
    text += f"{_the(other if of else found.name)} ({shown(found.other, unit)}"
    if found.low is not None and found.high is not None:
        text += f"; {confidence:.0%} interval: {span(found.low, found.high, unit)}"
    return f"{text}){more}"


def _the(name: str) -> str:
    """Return what a challenger is compared with, with its article; names of methods have none."""
    return name if name[:1].isupper() or name.startswith("version ") else f"the {name}"


def _right(found: Comparison) -> str:
    rows = found.rows or 0
    other = found.name.rpartition(", ")[2]
    return f"{_the(other)} is right on {round((found.other or 0) * rows)} of {rows} rows"


def chance(p_value: float) -> str:
    """Return a p-value in words."""
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"


def _outcome(
    found: Comparison, p_value: float | None, alpha: float, *, passed: bool, warning: bool, unproven: bool
) -> str:
    drop = found.other is not None
    limit = apart(found.limit, found.unit) if drop else shown(found.limit, found.unit)
    relative = f"accepted {limit}"
    p_text = "" if p_value is None else f" ({chance(p_value)})"
    if found.must_show:
        what = f"no more than {limit} worse" if found.limit else "better"
        if passed:
            return f"passed; shown to be {what}{p_text}"
        return f"refused: not shown to be {what} ({chance(p_value or 0.0)}; at most {alpha:.2g} is accepted)"
    if warning:
        beyond = f"less than the {relative}" if found.at_least else f"more than the {relative}"
        return f"passed with a warning: {beyond}, but within chance{p_text}"
    if passed:
        if found.at_least:
            return f"passed; at least {limit} is accepted"
        return f"passed; up to {limit}{' worse' if drop else ''} is accepted"
    if unproven and found.worse <= found.limit:
        return f"refused: the rows are too few to show that it is within the {relative}"
    beyond = f"less than the {relative}" if found.at_least else f"more than the {relative}"
    return f"refused: {beyond}" + (f", beyond chance{p_text}" if found.p_value is not None else "")
