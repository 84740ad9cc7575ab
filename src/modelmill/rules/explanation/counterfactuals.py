"""The fewest changes of signals that lead to another decision: the nearest counterfactuals of a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelmill.rules.evaluation.compiled_rule_set import OPEN
from modelmill.rules.explanation.assignments import (
    ACTUAL,
    MAX_ROWS,
    NOT_COMPUTED,
    Assignments,
    Changes,
    RowAssignments,
)
from modelmill.signals.groups import Mask

_MAX_CHANGES = 4


def counterfactuals(row: RowAssignments) -> Iterator[tuple[Changes, int]]:
    """Yield every way to another decision by the fewest changes: the changes, and the decision's number.

    :param row: the row.
    :yields: the ways; none if none was found.
    :raises SearchExhausted: if the search takes too much work.
    """
    rows, _, decisions = row.singles
    singles = row.others(rows, decisions)
    if singles:
        yield from singles
        return
    level = np.full((1, len(row.names)), NOT_COMPUTED, np.int32)
    left_out = np.zeros((1, len(row.names)), np.bool_)
    for _ in range(_MAX_CHANGES + 1):
        solutions, level, left_out = _next_level(row, level, left_out)
        if len(solutions):
            yield from row.others(solutions, row.evaluate(solutions)[0])
            return
        if len(level) == 0 or len(level) > MAX_ROWS:
            return


def _next_level(
    row: RowAssignments, rows: Assignments, left_out: Mask
) -> tuple[Assignments, Assignments, Mask]:
    """Complete assignments with actual values, and branch off those with one more change.

    :param row: the row.
    :param rows: assignments with equally many changes.
    :param left_out: signals that stay not computed, by assignment and place.
    :return: assignments that lead to another decision; those with one more change, and what they leave out.
    """
    solutions, more, more_out = [], [rows[:0]], [left_out[:0]]
    budget = 8 * MAX_ROWS
    while len(rows) and budget > 0:
        budget -= len(rows)
        decisions, demand = row.evaluate(rows)
        differ = row.differs(decisions)
        solutions += [rows[differ]] if differ.any() else []
        waiting = decisions == OPEN
        following, following_out = [rows[:0]], [left_out[:0]]
        for name in row.by_domain(demand):
            place = row.place[name]
            here = np.flatnonzero(waiting & demand[name] & ~left_out[:, place])
            if len(here) == 0:
                continue
            waiting[here] = False
            part, part_out = rows[here].copy(), left_out[here].copy()
            if name in row.values:
                part[:, place] = ACTUAL
            else:
                part_out[:, place] = True  # nobody knows its value
            following.append(part)
            following_out.append(part_out)
            count = len(row.choices[name]) - 1
            changed = np.repeat(rows[here], count, axis=0)
            changed[:, place] = np.tile(np.arange(1, count + 1), len(here))
            more.append(changed)
            more_out.append(np.repeat(left_out[here], count, axis=0))
        sure = row.sure(rows, waiting)
        solutions += [sure] if len(sure) else []
        rows, left_out = np.concatenate(following), np.concatenate(following_out)
    found = np.concatenate(solutions) if solutions else rows[:0]
    return found, np.concatenate(more), np.concatenate(more_out)
