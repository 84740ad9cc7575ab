"""The choice among the measured candidates, and the error if none keeps the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from modelmill.compression.options import CompressionOptions
from modelmill.compression.search.budget import Limit, points
from modelmill.compression.search.measurement import MeasuredCandidate
from modelmill.errors import ConfigError

_KEYS: Mapping[str, Callable[[MeasuredCandidate], float]] = {
    "speed": lambda item: item.speed.ratio.value,
    "size": lambda item: -item.candidate.size_mb,
    "quality": lambda item: -item.candidate.ranking_drop,
}
"""What is made as large as possible, by the option ``prefer``."""
_DOUBT = 0.25
"""By how much one candidate must be better than another to exclude it, as a share of the allowed drop. Some
hundred rows cannot show a quarter of a point, and a slower model that is judged first is one to fall back
on."""


def choose(measured: Sequence[MeasuredCandidate], options: CompressionOptions) -> MeasuredCandidate:
    """Choose among the candidates that keep the budget.

    Those that no other one clearly beats on the rows for ranking are judged in a fixed order, from the
    slowest, which is most like the teacher, to the fastest. The first that fails ends it, see
    :mod:`modelmill.compression.search.budget`.

    :param measured: the candidates.
    :param options: the budget, and what is preferred.
    :return: the chosen one.
    :raises ConfigError: if none keeps the budget; it says which limit the nearest one breaks, and by how
        much.
    """
    passed: list[MeasuredCandidate] = []
    for item in judging_order(measured, options):
        if not metric_limit(item, options).kept:
            break
        passed.append(item)
    if not passed:
        raise _nothing(measured, options)
    return max(passed, key=_KEYS[options.prefer])


def judging_order(
    measured: Sequence[MeasuredCandidate], options: CompressionOptions
) -> list[MeasuredCandidate]:
    """Return the candidates that are worth judging, the slowest first.

    :param measured: the candidates.
    :param options: the budget.
    :return: those that keep the measured limits and, on the rows for ranking, the metric's. Left out are
        those that another one clearly beats: it is as fast (or as small, where size is preferred), and better
        by more than chance explains. The teacher's own fp32 export is never beaten: it is the last to fall
        back on.
    """
    cost = _KEYS["size" if options.prefer == "size" else "speed"]
    plausible = [
        item
        for item in measured
        if item.in_limits and item.candidate.ranking_drop <= options.budget.max_metric_drop
    ]

    doubt = options.budget.max_metric_drop * _DOUBT

    def beats(other: MeasuredCandidate, item: MeasuredCandidate) -> bool:
        return (
            cost(other) >= cost(item) and other.candidate.ranking_drop < item.candidate.ranking_drop - doubt
        )

    front = [
        item
        for item in plausible
        if is_plain_teacher(item) or not any(beats(other, item) for other in plausible)
    ]
    return sorted(front, key=lambda item: (not is_plain_teacher(item), cost(item)))


def is_plain_teacher(item: MeasuredCandidate) -> bool:
    """Return whether a candidate is the teacher's fp32 export, which computes what the teacher computes."""
    recipe = item.candidate.recipe
    return recipe.family == "teacher" and recipe.quantization == "none" and recipe.vocabulary == "all"


def metric_limit(item: MeasuredCandidate, options: CompressionOptions) -> Limit:
    """Return the limit of the metric, with the bound of the candidate's drop.

    The teacher's fp32 export, whose logits were compared with the teacher's, has no drop.
    """
    bound, limit = 0.0 if is_plain_teacher(item) else item.drop.bound, options.budget.max_metric_drop
    metric = item.candidate.info.task.metrics[0]
    if metric.is_share:
        return Limit("max_metric_drop", 100 * bound, 100 * limit, "points")
    return Limit("max_metric_drop", bound, limit, metric.name)


def broken_limits(item: MeasuredCandidate, options: CompressionOptions) -> list[Limit]:
    """Return the limits that a candidate breaks: none if it keeps the budget."""
    return [limit for limit in (metric_limit(item, options), *item.limits) if not limit.kept]


def _nothing(measured: Sequence[MeasuredCandidate], options: CompressionOptions) -> ConfigError:
    def distance(item: MeasuredCandidate) -> float:
        return sum(limit.excess for limit in broken_limits(item, options))

    nearest = min(measured, key=distance)
    broken = broken_limits(nearest, options)
    what = "; ".join(map(str, broken)) or "it does worse on the rows that candidates are ranked by"
    chance, metric = nearest.drop.bound - nearest.drop.value, nearest.candidate.info.task.metrics[0]
    return ConfigError(
        f"a model must keep the budget; of {len(measured)} that were measured the nearest does not: "
        f"{nearest.candidate.recipe} ({what})",
        remedy="loosen that limit, widen space, or add validation rows: with "
        f"{nearest.drop.rows} of them chance alone accounts for {points(chance, metric).lstrip('+')}",
    )
