"""Signals that are compared with each other, as tables too: the steps over one or two of them, looked up.

``a > b`` has no table of ``a`` alone. But each row has a few values of ``a`` and of ``b`` that are tried, and
so few pairs of them that every step over both is computed once for all pairs. A trial then looks its pair up.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation.possible_values import Uncertain
from modelmill.rules.explanation.loose_values import JointStates, LooseValues
from modelmill.rules.explanation.trials import DecisionTable, Trials
from modelmill.rules.language import kernels

_MOST_SIGNALS = 2
"""Signals of one group."""
_MOST_PAIRS = 400_000
"""Pairs of values, those of all rows together, that are computed in advance."""


def joint_states(
    table: DecisionTable, pools: Mapping[int, pa.Array], valid: Mapping[int, npt.NDArray[np.bool_]]
) -> LooseValues:
    """Compute the states of the steps over signals that are no tables, if they are few enough.

    :param table: the rule set.
    :param pools: see :class:`LooseValues`.
    :param valid: which of the values of each signal there are, ``(rows, values)``.
    :return: the values, with the states if they were computed.
    """
    groups = _groups(table)
    if groups is None or {place for one, _ in groups for place in one} != set(pools):
        return LooseValues(pools)
    counts = {place: one.sum(1, dtype=np.int64) + 1 for place, one in valid.items()}
    pairs = sum(int(np.prod([counts[place] for place in one], axis=0).sum()) for one, _ in groups)
    if pairs > _MOST_PAIRS:
        return LooseValues(pools)
    made = tuple(
        _computed(table, pools, {place: valid[place] for place in one}, steps) for one, steps in groups
    )
    return LooseValues(pools, made)


def _groups(table: DecisionTable) -> list[tuple[list[int], list[int]]] | None:
    """Return groups of signals with the steps over them; None if a step is over more or other signals."""
    loose = {place for place, one in enumerate(table.tables) if one is None}
    groups: list[set[int]] = []
    for number in sorted(table.computed_singly):
        sources, step = table.sources[number], table.analysis.steps[number]
        asks_for_null = step.kernel is kernels.coalesce and step.kind != "boolean"
        if not sources <= loose or asks_for_null:
            return None  # the values themselves are needed
        near = [one for one in groups if not one.isdisjoint(sources)]
        groups = [*(one for one in groups if one.isdisjoint(sources)), set(sources).union(*near)]
    if any(len(one) > _MOST_SIGNALS for one in groups):
        return None
    # Steps of logic over several groups are computed from conditions on every trial.
    return [
        (sorted(one), [number for number in table.upper if table.sources[number] <= one])
        for one in groups
        if one
    ]


def _computed(
    table: DecisionTable,
    pools: Mapping[int, pa.Array],
    valid: dict[int, npt.NDArray[np.bool_]],
    steps: list[int],
) -> JointStates:
    counts = {place: one.sum(1, dtype=np.int64) + 1 for place, one in valid.items()}
    sizes = np.prod(list(counts.values()), axis=0)
    begins = np.cumsum(sizes) - sizes
    row = np.repeat(np.arange(len(sizes)), sizes)
    left = np.arange(len(row)) - begins[row]
    trials = Trials(table, len(row))
    columns = []
    for place in reversed(valid):  # the last signal changes fastest
        rank, left = left % counts[place][row], left // counts[place][row]
        codes = np.flatnonzero(valid[place])
        first = np.cumsum(counts[place] - 1) - counts[place] + 1
        number = np.minimum(first[row] + np.maximum(rank - 1, 0), max(len(codes) - 1, 0))
        chosen = np.where(rank == 0, -1, codes[number] if len(codes) else -1)
        trials.set_values(place, chosen.astype(np.int32), pools[place])
        columns.append(table.analysis.columns[table.names[place]])
    trials.forward(steps)
    sets, unclear = {}, {}
    for number in [*columns, *steps]:
        state = trials.states[number]
        if isinstance(state, Uncertain):
            unclear[number] = np.broadcast_to(np.asarray(state.open, np.bool_), trials.rows)
        else:
            sets[number] = np.broadcast_to(np.asarray(state, np.uint8), trials.rows)
    ranks = {place: one.cumsum(1, dtype=np.int64).ravel() for place, one in valid.items()}
    return JointStates(ranks, counts, begins, sets, unclear)
