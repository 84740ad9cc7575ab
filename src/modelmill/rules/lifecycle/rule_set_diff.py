"""The difference between two rule sets on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.options import Options
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.lifecycle.rule_statistics import right_rows

Bools = npt.NDArray[np.bool_]


class DecisionChange(Options):
    """Rows on which the decision changes in the same way."""

    before: str
    after: str
    rule_before: str | None
    """The rule that decides; None if none fires."""
    rule_after: str | None
    rows: int
    examples: tuple[str, ...]
    """Keys of some of them, the first ones of the table."""


class SliceChange(Options):
    """How often the decision changes on the rows with one value of a column."""

    column: str
    value: str | None
    rows: int
    changed: int


class RuleSetDiff(Options):
    """The difference between two rule sets on the same rows."""

    before: str
    after: str
    rows: int
    changed: int
    """Rows with another decision."""
    other_rule: int
    """Rows with the same decision by another rule."""
    changes: tuple[DecisionChange, ...]
    """The most frequent first."""
    slices: tuple[SliceChange, ...]
    """The largest share of changed rows first."""
    better: int = 0
    """Labelled rows on which only the later rule set is right."""
    worse: int = 0
    """Labelled rows on which only the earlier rule set is right."""
    unjudged: int = 0
    """Labelled rows with another decision whose right decision is one of neither rule set."""


def compare_rule_sets(
    before: FullEvaluation,
    after: FullEvaluation,
    *,
    slices: Sequence[str] = (),
    examples: int = 5,
    truth: pa.Array | None = None,
) -> RuleSetDiff:
    """Compare two rule sets on the same rows.

    :param before: the rule set in use.
    :param after: the rule set that is proposed.
    :param slices: columns whose values cut the rows.
    :param examples: number of keys to name for each change.
    :param truth: the right decision of each row, null if not known; None: of no row.
    :return: the difference.
    """
    sides = [(one.decisions(), one.deciding_rules()) for one in (before, after)]
    (old, old_rule), (new, new_rule) = sides
    changed = _differs(old, new)
    right = [right_rows(one, truth) for one in (old, new)]
    keys = after.rows.column(after.compiled.rule_set.key)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in np.flatnonzero(changed).tolist():
        named = tuple(one[row].as_py() for one in (old, new, old_rule, new_rule))
        groups.setdefault(named, []).append(row)
    changes = [
        DecisionChange(
            before=one[0],
            after=one[1],
            rule_before=one[2],
            rule_after=one[3],
            rows=len(rows),
            examples=tuple(str(keys[row].as_py()) for row in rows[:examples]),
        )
        for one, rows in groups.items()
    ]
    better = worse = unjudged = 0
    if right[0] is not None and right[1] is not None:
        better, worse = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    if truth is not None:
        known = before.compiled.rule_set.decisions | after.compiled.rule_set.decisions
        strange = pc.invert(pc.is_in(truth, value_set=pa.array(sorted(known), pa.string())))
        strange = pc.and_(strange, truth.is_valid()).to_numpy(zero_copy_only=False)
        unjudged = int((changed & strange).sum())
    return RuleSetDiff(
        before=f"{before.compiled.rule_set.rule_set}@{before.compiled.digest[:12]}",
        after=f"{after.compiled.rule_set.rule_set}@{after.compiled.digest[:12]}",
        rows=len(changed),
        changed=int(changed.sum()),
        other_rule=int((~changed & _differs(old_rule, new_rule)).sum()),
        changes=tuple(sorted(changes, key=lambda one: (-one.rows, one.before, one.after))),
        slices=_slices(after.rows, slices, changed),
        better=better,
        worse=worse,
        unjudged=unjudged,
    )


def _differs(one: pa.Array, other: pa.Array) -> Bools:
    names = pa.array([""], pa.string())[0]
    found: Bools = pc.not_equal(pc.fill_null(one, names), pc.fill_null(other, names)).to_numpy(
        zero_copy_only=False
    )
    return found


def _slices(rows: pa.RecordBatch, columns: Sequence[str], changed: Bools) -> tuple[SliceChange, ...]:
    found = []
    for column in columns:
        encoded = rows.column(column).cast(pa.string()).dictionary_encode(null_encoding="encode")
        places = encoded.indices.to_numpy()
        size = len(encoded.dictionary)
        total = np.bincount(places, minlength=size)
        differ = np.bincount(places[changed], minlength=size)
        for value, count, different in zip(encoded.dictionary.to_pylist(), total, differ, strict=True):
            found.append(SliceChange(column=column, value=value, rows=int(count), changed=int(different)))
    return tuple(sorted(found, key=lambda one: (-one.changed / max(one.rows, 1), one.column, str(one.value))))
