"""Which of the measured candidates is taken, and what is said if none can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from modelmill.compression.budget import Limit
from modelmill.compression.components import CompressConfig
from modelmill.compression.measuring import Measured
from modelmill.errors import ConfigError

_KEYS: Mapping[str, Callable[[Measured], float]] = {
    "speed": lambda item: item.speed.ratio,
    "size": lambda item: -item.made.size_mb,
    "quality": lambda item: -item.made.choosing_drop,
}
"""What is made as large as possible, by the configuration's ``prefer``."""


def choose(measured: Sequence[Measured], config: CompressConfig) -> Measured:
    """Choose among the candidates that keep the budget.

    Those that nothing beats on the rows for ranking are judged in a fixed order, from the slowest, which is
    most like the teacher, to the fastest. The first that fails ends it, see
    :mod:`modelmill.compression.budget`.

    :param measured: the candidates.
    :param config: the budget, and what is preferred.
    :return: the one that is taken.
    :raises ConfigError: if none keeps the budget: which limit the nearest one breaks, and by how much.
    """
    passed: list[Measured] = []
    for item in judging_order(measured, config):
        if not metric_limit(item, config).kept:
            break
        passed.append(item)
    if not passed:
        raise _nothing(measured, config)
    return max(passed, key=_KEYS[config.prefer])


def judging_order(measured: Sequence[Measured], config: CompressConfig) -> list[Measured]:
    """Return the candidates that are worth judging, the slowest first.

    :param measured: the candidates.
    :param config: the budget.
    :return: those that keep the measured limits and seem to keep the metric's, and that no other one of these
        beats in speed (or size, where that is preferred) and in quality.
    """
    cost = _KEYS["size" if config.prefer == "size" else "speed"]
    plausible = [
        item
        for item in measured
        if item.in_limits and item.made.choosing_drop <= config.budget.max_metric_drop
    ]
    front = [
        item
        for item in plausible
        if not any(
            (cost(other), -other.made.choosing_drop) != (cost(item), -item.made.choosing_drop)
            and cost(other) >= cost(item)
            and other.made.choosing_drop <= item.made.choosing_drop
            for other in plausible
        )
    ]
    return sorted(front, key=cost)


def metric_limit(item: Measured, config: CompressConfig) -> Limit:
    """Return the limit of the metric, with the bound of the candidate's drop.

    :param item: the candidate.
    :param config: the budget.
    :return: the limit; the teacher's own fp32 export, checked against it number by number, has no drop.
    """
    recipe = item.made.recipe
    same = recipe.family == "teacher" and recipe.quantization == "none" and recipe.vocabulary == "all"
    bound = 0.0 if same else item.drop.bound
    return Limit("max_metric_drop", 100 * bound, 100 * config.budget.max_metric_drop, "points")


def broken_limits(item: Measured, config: CompressConfig) -> list[Limit]:
    """Return the limits that a candidate breaks.

    :param item: the candidate.
    :param config: the budget.
    :return: none if it keeps the budget.
    """
    return [limit for limit in (metric_limit(item, config), *item.limits) if not limit.kept]


def _nothing(measured: Sequence[Measured], config: CompressConfig) -> ConfigError:
    def distance(item: Measured) -> float:
        return sum(limit.excess for limit in broken_limits(item, config))

    nearest = min(measured, key=distance)
    broken = broken_limits(nearest, config)
    what = "; ".join(map(str, broken)) or "it does worse on the rows that candidates are ranked by"
    return ConfigError(
        f"a model must keep the budget; of {len(measured)} that were measured the nearest does not: "
        f"{nearest.made.recipe} ({what})",
        remedy="loosen that limit, widen space, or add validation rows: with "
        f"{nearest.drop.rows} of them chance alone accounts for "
        f"{100 * (nearest.drop.bound - nearest.drop.value):.2f} points",
    )
