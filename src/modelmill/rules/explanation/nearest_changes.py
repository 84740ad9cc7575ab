"""Of all ways to another decision by the fewest changes, the one with the smallest changes.

The distance of two numbers is ``|new - old| / (|new| + |old|)``, from 0 to 1; that of two times
``d / (d + 1)`` with ``d`` in days; that of other values 1. Of the ways that change the same signals, the one
with the smallest differences is taken, then of those the one with the smallest sum of distances. A value that
becomes unknown is farther than any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.explanation.alternatives import choices_of
from modelmill.rules.explanation.counterfactuals import Ways
from modelmill.rules.explanation.ordinals import ORDERED, Ordinals, floats, ordinals, valued
from modelmill.rules.explanation.trials import DecisionTable, Places
from modelmill.signals.groups import Mask

_DAY = 86_400_000_000
Extended = npt.NDArray[Any]
"""With 64 bits of mantissa: differences of 64-bit integers are exact."""


@dataclass(frozen=True)
class ChangedSignal:
    """The new values of one signal, on some of the rows."""

    place: int
    rows: Places
    """Ascending."""
    values: pa.Array
    regions: list[str | None]
    """Each in words, such as ``above 0.9``; None where the value itself says as much."""


@dataclass(frozen=True)
class RowChanges:
    """The nearest counterfactual of each row."""

    names: list[str]
    signals: list[ChangedSignal]
    decisions: list[str | None]
    """The other decision of each row; None if none was found."""

    def listed(self) -> list[dict[str, Any]]:
        """Return every change as a dictionary."""
        return [
            {"row": row, "signal": self.names[one.place], "value": value, "region": region}
            for one in self.signals
            for row, value, region in zip(one.rows.tolist(), one.values.to_pylist(), one.regions, strict=True)
        ]


def nearest_changes(
    table: DecisionTable, ways: Sequence[Ways], columns: Mapping[int, pa.Array], masks: Mapping[int, Mask]
) -> RowChanges:
    """Return the nearest way of each row.

    :param table: the rule set.
    :param ways: the ways of each row.
    :param columns: values of the signals, by their numbers.
    :param masks: where they are known.
    :return: the changes.
    """
    flat = [one.lines for one in ways]
    counts = np.array([one.shape[0] for one in flat])
    if not counts.sum():
        return RowChanges(table.names, [], [None] * len(ways))
    every = np.concatenate(flat)
    row = np.repeat(np.arange(len(ways)), counts)
    place, code, same_set, decision = (every[:, number] for number in (1, 2, 3, 4))
    begins = np.append(True, (row[1:] != row[:-1]) | (every[1:, 0] != every[:-1, 0]))
    way = np.cumsum(begins) - 1
    made = _Values(table, columns, masks, len(every))
    for one in np.unique(place).tolist():
        made.add(one, np.flatnonzero(place == one), row, code)
    first = np.flatnonzero(begins)
    unknown, relative, differs, share = (
        np.add.reduceat(part, first) for part in (made.unknown, made.relative, made.differs, made.share)
    )
    single = np.diff(np.append(first, len(every))) == 1
    within = np.where(single, differs, share)
    owner, group = row[first], same_set[first]
    # Of the ways that change the same signals, then of all.
    order = np.lexsort((np.arange(len(first)), relative, within, unknown, group, owner))
    chosen = order[_first(owner[order], group[order])]
    order = chosen[np.lexsort((chosen, differs[chosen], relative[chosen], unknown[chosen], owner[chosen]))]
    best = order[_first(owner[order])]
    named: list[str | None] = [None] * len(ways)
    for at in best.tolist():
        named[owner[at]] = table.decisions[decision[first[at]]]
    taken = np.isin(way, best)
    signals = [
        made.changed(one, np.flatnonzero(taken & (place == one)), row) for one in np.unique(place[taken])
    ]
    return RowChanges(table.names, signals, named)


def without_farther(table: DecisionTable, ways: Sequence[Ways]) -> list[Ways]:
    """Drop ways of which none can be the nearest, whatever the values of a row like these are.

    Those are ways to more unknown values than another way has, and all but one of the ways whose signals have
    the distance 1 in any case, such as truth values.

    :param table: the rule set.
    :param ways: the ways of each row.
    :return: what is left of them.
    """
    counts = np.array([len(one.lines) for one in ways])
    if not counts.sum():
        return list(ways)
    every = np.concatenate([one.lines for one in ways])
    row = np.repeat(np.arange(len(ways)), counts)
    first = np.flatnonzero(np.append(True, (row[1:] != row[:-1]) | (every[1:, 0] != every[:-1, 0])))
    least, most, fixed = _known_distances(table, every[:, 1], every[:, 2])
    least, most = np.add.reduceat(least, first), np.add.reduceat(most, first)
    fixed = np.logical_and.reduceat(fixed, first)
    size = np.diff(np.append(first, len(every)))
    owner, group = row[first], every[first, 3]
    fewest = np.full(len(ways), len(every), np.int64)
    np.minimum.at(fewest, owner, most)
    kept = least <= fewest[owner]
    # Of equally far ways that change the same signals the first counts.
    order = np.lexsort((np.arange(len(first)), least, ~fixed, group, owner))
    best = _first(owner[order], group[order])
    kept[order[fixed[order] & ~best]] = False
    # And of all signals, where no way to change them is nearer or farther than another.
    begins = np.flatnonzero(best)
    alike = np.logical_and.reduceat(fixed[order], begins)
    alone = order[begins[alike]]
    ranked = alone[np.lexsort((alone, size[alone], least[alone], owner[alone]))]
    kept[ranked[~_first(owner[ranked])]] = False
    left = kept[np.repeat(np.arange(len(first)), size)]
    ends = np.cumsum(np.bincount(row[left], minlength=len(ways)))
    return [Ways(lines) for lines in np.split(every[left], ends[:-1])]


def _known_distances(table: DecisionTable, place: Places, code: Places) -> tuple[Places, Places, Mask]:
    """Return whether each change is one to NULL, at least and at most, and whether its distance is 1."""
    least, most = np.zeros(len(place), np.int64), np.ones(len(place), np.int64)
    fixed = np.zeros(len(place), np.bool_)
    for one in np.unique(place).tolist():
        found, domain = table.tables[one], table.domains[table.names[one]]
        if found is None:
            continue  # the values that are tried differ from row to row
        at = np.flatnonzero(place == one)
        null = found.first[code[at]] == domain.regions.count
        least[at] = most[at] = null
        fixed[at] = null | (domain.kind not in ORDERED)
    return least, most, fixed


def _first(*keys: Places) -> Mask:
    """Return which elements are the first with their keys; equal ones are beside each other."""
    found = np.zeros(len(keys[0]), np.bool_)
    found[:1] = True
    for key in keys:
        found[1:] |= key[1:] != key[:-1]
    return found


class _Values:
    """The new value of each change, and how far it is from the old one."""

    def __init__(
        self, table: DecisionTable, columns: Mapping[int, pa.Array], masks: Mapping[int, Mask], count: int
    ) -> None:
        self._table = table
        self._columns = columns
        self._masks = masks
        self.unknown = np.zeros(count, np.int64)
        """Whether the new value is NULL."""
        self.relative = np.ones(count, np.longdouble)
        self.differs = np.ones(count, np.longdouble)
        self.share = np.ones(count, np.longdouble)
        self._values: dict[int, pa.Array] = {}
        self._regions: dict[int, Places] = {}
        self._where: dict[int, Places] = {}

    def add(self, place: int, at: Places, rows: Places, codes: Places) -> None:
        """Make the new values of one signal.

        :param place: the signal.
        :param at: its changes.
        :param rows: the row of each change.
        :param codes: the code of each change.
        """
        own, domain = rows[at], self._table.domains[self._table.names[place]]
        table = self._table.tables[place]
        if table is not None and domain.kind not in ORDERED:
            regions = table.first[codes[at]]
            self.unknown[at] = regions == domain.regions.count
            values = domain.regions.array.take(pa.array(regions))
            self._values[place], self._regions[place], self._where[place] = values, regions, at
            return
        old = self._columns[place].take(pa.array(own))
        there = self._masks[place][own] & old.is_valid().to_numpy(zero_copy_only=False)
        if table is not None:
            regions, values = self._of_classes(place, codes[at], old, there)
        else:
            values = self._computed_with(place, own, codes[at])
            shown = domain.exact and len(domain.company) < 2
            regions = domain.regions.of(values) if shown else np.full(len(at), -1)
        null = values.is_null().to_numpy(zero_copy_only=False)
        self.unknown[at] = null
        self._values[place], self._regions[place], self._where[place] = values, regions, at
        if domain.kind in ORDERED:
            measured = there & ~null
            parts = _distances(ordinals(old, domain.kind), ordinals(values, domain.kind), domain.kind)
            for kept, part in zip((self.relative, self.differs, self.share), parts, strict=True):
                kept[at] = np.where(measured, part, 1)

    def changed(self, place: int, at: Places, rows: Places) -> ChangedSignal:
        """Return some changes of one signal."""
        here = np.searchsorted(self._where[place], at)
        named = [*self._table.domains[self._table.names[place]].regions.named, None]
        regions = [named[region] if region >= 0 else None for region in self._regions[place][here].tolist()]
        return ChangedSignal(place, rows[at], self._values[place].take(pa.array(here)), regions)

    def _of_classes(self, place: int, codes: Places, old: pa.Array, there: Mask) -> tuple[Places, pa.Array]:
        """Return the nearest region of each class, and the value there that is nearest to the old one."""
        table, domain = self._table.table_of(place), self._table.domains[self._table.names[place]]
        regions, kind = domain.regions, domain.kind
        found = table.first[codes]
        near = np.zeros(len(codes), np.int64)
        own = ordinals(old, kind)
        for code in np.unique(codes).tolist():
            at = np.flatnonzero(codes == code)
            members = [one for one in table.members[code] if one < regions.count] or [regions.count]
            if members[0] == regions.count:
                continue
            tries = np.stack(
                [
                    np.where(
                        there[at],
                        np.clip(own[at], regions.lows[one], regions.highs[one]),
                        np.int64(regions.values[one]),
                    )
                    for one in members
                ]
            )
            best = np.zeros(len(at), np.int64)
            if len(members) > 1:
                relative, differs, _ = _distances(np.broadcast_to(own[at], tries.shape), tries, kind)
                number = np.broadcast_to(np.arange(len(members))[:, None], tries.shape)
                best = np.where(there[at], np.lexsort((number, relative, differs), axis=0)[0], 0)
            found[at] = np.array(members)[best]
            near[at] = tries[best, np.arange(len(at))]
        return found, valued(near, kind, found == regions.count)

    def _computed_with(self, place: int, rows: Places, codes: Places) -> pa.Array:
        """Return the values that were tried for a signal without a table: they differ from row to row."""
        loose = [one for one, table in enumerate(self._table.tables) if table is None]
        unique, where = np.unique(rows, return_inverse=True)
        taken = pa.array(unique)
        choices = choices_of(
            self._table,
            place,
            {one: self._columns[one].take(taken) for one in loose},
            {one: self._masks[one][unique] for one in loose},
        )
        return choices.pool.take(pa.array(where * choices.width + codes))


def _distances(old: Ordinals, new: Ordinals, kind: str) -> tuple[Extended, Extended, Extended]:
    """Return the distance of values in proportion, their difference, and its share of both."""
    if kind == "float":
        one, other = floats(old).astype(np.longdouble), floats(new).astype(np.longdouble)
    else:
        one, other = old.astype(np.longdouble), new.astype(np.longdouble)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        differs = np.where(old == new, 0, abs(other - one))
        if kind == "time":
            days = differs / _DAY
            return days / (days + 1), differs, days / (days + 1)
        relative = np.where(old == new, 0, differs / (abs(one) + abs(other)))
        share = differs / (differs + np.where(one == 0, 1, abs(one)))
    finite = np.isfinite(one) & np.isfinite(other)
    return np.where(finite, relative, 1), differs, np.where(finite, share, 1)
