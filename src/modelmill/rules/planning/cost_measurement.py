"""Measures on a sample what each group of signals costs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.group_calls import CheckedValues, call_group
from modelmill.rules.planning.plan import GroupCost
from modelmill.signals.groups import Rows, SignalGroup

SAMPLE_ROWS = 1000
"""Rows that are enough to measure on."""


def sample_rows(rows: pa.RecordBatch, *, most: int = SAMPLE_ROWS) -> pa.RecordBatch:
    """Return random rows in random order: neighbours may be alike, and costs are measured part by part.

    :param rows: rows.
    :param most: number of rows to return at most.
    :return: the same rows for the same rows.
    """
    return rows.take(pa.array(np.random.default_rng(0).permutation(rows.num_rows)[:most]))


def measure_costs(
    groups: Iterable[SignalGroup], signals: Sequence[str], sample: pa.RecordBatch
) -> tuple[dict[str, GroupCost], dict[str, pa.Array]]:
    """Measure what signals cost. A signal that fails on a row of the sample is unknown there.

    :param groups: groups of signals.
    :param signals: the signals to measure.
    :param sample: at least one row.
    :return: the cost of each group, and the values of each signal on the sample, by name.
    """
    costs: dict[str, GroupCost] = {}
    values: dict[str, pa.Array] = {}
    for group in groups:
        names = [name for name in signals if name in group.signals]
        if names:
            costs[group.name], found = _measured(group, names, sample)
            values |= found
    return costs, values


def _measured(
    group: SignalGroup, names: Sequence[str], sample: pa.RecordBatch
) -> tuple[GroupCost, dict[str, pa.Array]]:
    """Time few rows, many rows, and one signal; each on its own rows, because groups cache rows they saw."""
    evaluation = group.begin(sample)
    count = sample.num_rows
    cuts = [0, *(max(int(count * share), 1) for share in (0.02, 0.12, 0.6)), count]
    bounds = itertools.pairwise(cuts)
    first, few, many, alone = (np.arange(start, max(end, start)) for start, end in bounds)

    def timed(asked: Sequence[str], rows: Rows) -> tuple[dict[str, CheckedValues], float]:
        if len(rows) == 0:
            return {}, 0.0
        began = time.process_time()
        found = call_group(group, evaluation.compute, asked, rows, stop=False)
        return found, time.process_time() - began

    parts = [timed(names, first)[0]]  # not timed: what is loaded at first use is no cost of a row
    found, seconds_few = timed(names, few)
    parts.append(found)
    found, seconds_many = timed(names, many)
    parts.append(found)
    one, seconds_one = timed(names[:1], alone)
    others = timed(names[1:], alone)[0] if len(names) > 1 else {}
    parts.append({**one, **others})
    row = max((seconds_many - seconds_few) / max(len(many) - len(few), 1), 0.0)
    batch = max(seconds_few - row * len(few), 0.0)
    row_of_one = min(max((seconds_one - batch) / max(len(alone), 1), 0.0), row)
    marginal = (row - row_of_one) / (len(names) - 1) if len(names) > 1 else row
    cost = GroupCost(
        tier=group.tier,
        batch=batch,
        row=max(row - marginal * len(names), 0.0),
        signals=dict.fromkeys(names, marginal),
    )
    values = {name: pa.concat_arrays([part[name].values for part in parts if part]) for name in names}
    return cost, values
