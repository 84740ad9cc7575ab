"""The other values that each signal may have on a row, one of each region at least, as near as possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.explanation.domains import Domain
from modelmill.rules.explanation.joint_states import joint_states
from modelmill.rules.explanation.loose_values import LooseValues
from modelmill.rules.explanation.ordinals import (
    LARGEST,
    ORDERED,
    SMALLEST,
    Ordinals,
    block,
    floats,
    limits,
    ordinals,
    valued,
)
from modelmill.rules.explanation.trials import NOT_COMPUTED, Codes, DecisionTable, Places
from modelmill.signals.groups import Mask
from modelmill.signals.values import STORED

MAX_COMPANY = 6
"""Signals that are compared with each other, for which every order among them is tried."""
_FACTORS = (2.0, 0.5, 10.0, 0.1, 0.0, -1.0)
"""What a number is multiplied with to find another decision, where rules compute with it."""
_WHOLE_DOUBLES = 2.0**53
"""From here on doubles are whole numbers, and several integers become one double."""


@dataclass
class Choices:
    """Values of one signal that is no table, ``(rows, choices)``; the first is the one that it has."""

    pool: pa.Array
    """All of them, row by row."""
    valid: npt.NDArray[np.bool_]
    """Which of them there are."""

    @property
    def width(self) -> int:
        """Number of choices of each row."""
        return int(self.valid.shape[1])


class TrialRows:
    """Rows, and what can be tried on them.

    :param table: the rule set.
    :param codes: class of each signal that is a table, ``NOT_COMPUTED`` where it is not known.
    :param values: values of the other signals.
    :param known: where they are known.
    """

    def __init__(
        self,
        table: DecisionTable,
        codes: Codes,
        values: Mapping[int, pa.Array],
        known: Mapping[int, Mask],
    ) -> None:
        self.table = table
        self.codes = codes.copy()
        self.choices: dict[int, Choices] = {}
        count = len(codes)
        for place in (place for place, one in enumerate(table.tables) if one is None):
            found = choices_of(table, place, values, known)
            self.choices[place] = found
            actual = np.arange(count, dtype=np.int32) * found.width
            self.codes[:, place] = np.where(known[place], actual, NOT_COMPUTED)
        pools = {place: one.pool for place, one in self.choices.items()}
        self.loose: LooseValues = joint_states(
            table, pools, {place: one.valid for place, one in self.choices.items()}
        )
        self.known: npt.NDArray[np.bool_] = self.codes != NOT_COMPUTED
        places = range(table.width)
        self._counts = np.array(
            [
                self.choices[place].width - 1 if one is None else len(one.members)
                for place, one in enumerate(table.tables)
            ],
            np.int64,
        )
        self.exact = np.array([self._is_exact(place) for place in places], np.bool_)
        """Whether the values that are tried of each signal stand for all."""
        first = table.first_rule
        self.order: Places = np.array(
            sorted(places, key=lambda one: (not self.exact[one], first[one], self._size(one), one)), np.int64
        )
        """Signals: first those of which all values are tried, of earlier rules, with few values."""

    def __len__(self) -> int:
        return len(self.codes)

    def others(self, places: Places, rows: Places) -> tuple[Places, npt.NDArray[np.int32]]:
        """Return the other values that signals may have.

        :param places: numbers of signals.
        :param rows: the row of each.
        :return: places in these, each as often as there are values; the codes of these.
        """
        counts = self._counts[places]
        where = np.repeat(np.arange(len(places)), counts)
        number = np.arange(len(where)) - np.repeat(np.cumsum(counts) - counts, counts)
        codes = number.astype(np.int32)
        of, owners = places[where], rows[where]
        kept = codes != self.codes[owners, of]
        for place, choices in self.choices.items():
            at = np.flatnonzero(of == place)
            if len(at):
                kept[at] = choices.valid[owners[at], number[at] + 1]
                codes[at] = owners[at] * choices.width + number[at] + 1
        return where[kept], codes[kept]

    def _is_exact(self, place: int) -> bool:
        domain = self.table.domains[self.table.names[place]]
        return domain.exact and (self.table.tables[place] is not None or len(domain.company) <= MAX_COMPANY)

    def _size(self, place: int) -> int:
        found = self.table.tables[place]
        return len(found.members) if found is not None else self.choices[place].width

    def relative(self, places: Places, codes: npt.NDArray[np.int32]) -> Places:
        """Return codes that mean the same on every row like this one.

        :param places: numbers of signals.
        :param codes: the code of a value of each.
        :return: codes.
        """
        found = codes.astype(np.int64)
        for place, choices in self.choices.items():
            found = np.where(places == place, found % choices.width, found)
        return found


def choices_of(
    table: DecisionTable, place: int, values: Mapping[int, pa.Array], known: Mapping[int, Mask]
) -> Choices:
    """Return the values that are tried of one signal that is no table.

    :param table: the rule set.
    :param place: number of the signal.
    :param values: values of all such signals, by their numbers.
    :param known: where they are known.
    :return: the values of each row.
    """
    domain = table.domains[table.names[place]]
    if domain.kind in ORDERED:
        return _ordered(table, place, values, known)
    own, told = values[place], known[place]
    pool: list[Any] = []
    rows: list[list[Any]] = []
    kept = own.cast(pa.large_binary()) if domain.kind == "text" else own
    company = _text_company(table, domain, values, known)
    regions = domain.regions.of(own)
    for row, value in enumerate(kept.to_pylist()):
        if company is not None:
            found = _texts_between(sorted({*domain.regions.texts, *company[row]}), len(domain.company))
        else:
            order = [one for one in domain.regions.order[:-1] if not told[row] or one != regions[row]]
            found = [domain.regions.values[one] for one in order]
            found = [one.encode() if isinstance(one, str) else one for one in found]
        others = [one for one in found if not told[row] or one != value]
        rows.append([value, *others, *([None] if not told[row] or value is not None else [])])
    width = max(map(len, rows), default=1)
    valid = np.zeros((len(rows), width), np.bool_)
    for number, one in enumerate(rows):
        valid[number, : len(one)] = True
        valid[number, 0] = told[number]
        pool += [*one, *[None] * (width - len(one))]
    made = (
        pa.array(pool, pa.large_binary()).cast(STORED["text"], safe=False)
        if domain.kind == "text"
        else (pa.array(pool, STORED[domain.kind]))
    )
    return Choices(made, valid)


def _text_company(
    table: DecisionTable, domain: Domain, values: Mapping[int, pa.Array], known: Mapping[int, Mask]
) -> list[set[bytes]] | None:
    if domain.kind != "text" or len(domain.company) < 2:
        return None
    found: list[set[bytes]] | None = None
    for name in domain.company:
        place = table.place[name]
        if place not in values or table.domains[name].kind != "text":
            continue
        texts = values[place].cast(pa.large_binary()).to_pylist()
        found = found if found is not None else [set() for _ in texts]
        for row, text in enumerate(texts):
            if known[place][row] and text is not None:
                found[row].add(text)
    return found


def _texts_between(marks: list[bytes], count: int) -> list[bytes]:
    """Return texts, and between each two of them as many others as there are signals."""
    found = list(marks)
    for low, high in zip([None, *marks], [*marks, None], strict=True):
        if low is None:
            candidates = (
                [b"\0" * place for place in range(count)]
                if high is not None
                else [b"a" * (place + 1) for place in range(count)]
            )
        else:
            candidates = [low + end * (place + 1) for end in (b"a", b" ", b"\0") for place in range(count)]
        found += [one for one in candidates if high is None or one < high][:count]
    return list(dict.fromkeys(found))


def _ordered(
    table: DecisionTable, place: int, values: Mapping[int, pa.Array], known: Mapping[int, Mask]
) -> Choices:
    domain = table.domains[table.names[place]]
    kind, regions = domain.kind, domain.regions
    own, told = ordinals(values[place], kind), known[place]
    null = values[place].is_null().to_numpy(zero_copy_only=False)
    there = told & ~null
    rows = len(own)
    first, last = limits(kind)
    columns: list[tuple[Any, Any]] = [(own, told)]
    own_region = regions.of(values[place])
    alone = domain.exact and len(domain.company) < 2
    for region in regions.order[:-1]:
        near = np.where(
            there, np.clip(own, regions.lows[region], regions.highs[region]), regions.values[region]
        )
        columns.append((near, (own_region != region) | ~told if alone else True))
    if not alone:
        reach = min(len(domain.company), MAX_COMPANY // 2) if domain.exact else 1
        marks = [*_marks(table, place, values, known)]
        tried = regions.order[:-1]
        for begin in np.unique([*regions.lows[tried], *regions.highs[tried]]).tolist():
            marks.append((np.full(rows, begin, np.int64), np.ones(rows, np.bool_)))
        for mark, valid in marks:
            for step in range(-reach, reach + 1):
                inside = (mark >= first - min(step, 0)) & (mark <= last - max(step, 0))
                columns.append((np.where(inside, mark, 0) + np.where(inside, step, 0), inside & valid))
    if not domain.exact:
        columns += _further(own, kind, there)
    found = np.stack([np.broadcast_to(one, rows) for one, _ in columns], axis=1)
    valid = np.stack([np.broadcast_to(one, rows) for _, one in columns], axis=1)
    if not alone:
        valid &= ~_repeated(found, valid & ~(null & told)[:, None])
        valid[:, 0] = told
    nulls = np.zeros(found.shape, np.bool_)
    nulls[:, 0] = null
    found = np.concatenate([found, np.zeros((rows, 1), np.int64)], axis=1)
    nulls = np.concatenate([nulls, np.ones((rows, 1), np.bool_)], axis=1)
    valid = np.concatenate([valid, ~(told & null)[:, None]], axis=1)
    return Choices(valued(found.ravel(), kind, nulls.ravel()), valid)


def positions(
    table: DecisionTable, place: int, values: Mapping[int, pa.Array], known: Mapping[int, Mask]
) -> list[Ordinals]:
    """Return what tells rows apart by a signal that is no table: equal where the same choices do the same.

    That is its region and its order among the signals that it is compared with, if all of these are so far
    apart that nothing that is tried lies between two of them; else its value.

    :param table: the rule set.
    :param place: number of the signal; its values have ordinals.
    :param values: values of all such signals, by their numbers.
    :param known: where they are known.
    :return: numbers for each row.
    """
    domain = table.domains[table.names[place]]
    own, regions = ordinals(values[place], domain.kind), domain.regions
    there = known[place] & values[place].is_valid().to_numpy(zero_copy_only=False)
    others = [table.place[name] for name in domain.company if name != table.names[place]]
    fits = all(table.domains[table.names[other]].kind == domain.kind for other in others)
    if not domain.exact or not fits or len(others) >= MAX_COMPANY:
        return [np.where(there, own, 0)]
    at = np.minimum(regions.of(values[place]), regions.count - 1)
    low, high = regions.lows[at], regions.highs[at]
    apart = (low == high) | (_farther(own, low) & _farther(high, own)) if others else there | True
    if others and domain.kind == "integer":
        # Larger ones may be compared as doubles, and then several of them are one.
        exact = int(_WHOLE_DOUBLES) - 4 * MAX_COMPANY
        apart &= (own > -exact) & (own < exact)
    found = [np.where(there, at, -1)]
    for other in others:
        theirs = ordinals(values[other], domain.kind)
        both = there & known[other] & values[other].is_valid().to_numpy(zero_copy_only=False)
        found.append(np.where(both, np.sign((own > theirs).astype(np.int64) - (own < theirs)), 2))
        # Of an unknown signal fixed values are tried, which may lie on either side of this one.
        apart &= both & ((own == theirs) | _farther(own, theirs) | _farther(theirs, own))
    return [*found, np.where(there & ~apart, own, 0), (there & ~apart).astype(np.int64)]


def _farther(one: Ordinals, other: Ordinals) -> Mask:
    """Return where a value is so far above another one that all that is tried beside them is different."""
    found: Mask = one.astype(np.longdouble) - other.astype(np.longdouble) > 4 * MAX_COMPANY
    return found


def _repeated(found: Ordinals, valid: Mask) -> Mask:
    """Return which valid values stand before in their row."""
    order = np.lexsort((found, ~valid), axis=-1)
    one, right = np.take_along_axis(found, order, 1), np.take_along_axis(valid, order, 1)
    again = np.zeros(found.shape, np.bool_)
    again[:, 1:] = (one[:, 1:] == one[:, :-1]) & right[:, 1:] & right[:, :-1]
    result = np.zeros(found.shape, np.bool_)
    np.put_along_axis(result, order, again, 1)
    return result


def _marks(
    table: DecisionTable, place: int, values: Mapping[int, pa.Array], known: Mapping[int, Mask]
) -> list[tuple[Ordinals, Mask]]:
    """Return values that matter for a signal because others that it is compared with have them."""
    name = table.names[place]
    kind = table.domains[name].kind
    found: list[tuple[Ordinals, Mask]] = []
    for other in table.domains[name].company:
        at, theirs = table.place[other], table.domains[other].kind
        if at not in values or theirs not in ORDERED:
            continue
        there = known[at] & values[at].is_valid().to_numpy(zero_copy_only=False)
        if theirs == kind:
            found.append((ordinals(values[at], kind), there))
        elif kind == "float" and theirs == "integer":
            found.append((ordinals(values[at].cast(pa.float64(), safe=False), kind), there))
            regions = table.domains[other].regions
            for end in np.unique([*regions.lows, *regions.highs]).tolist():
                double = ordinals(pa.array([float(end)], pa.float64()), kind)
                found.append((np.repeat(double, len(there)), there | True))
        elif kind == "integer" and theirs == "float":
            found += [(ends, there) for ends in _blocks(values[at])]
    return found


def _blocks(values: pa.Array) -> tuple[Ordinals, Ordinals]:
    """Return the integers at which integers become a double, and the one after these."""
    doubles = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    inside = np.abs(doubles) < _WHOLE_DOUBLES
    small = np.where(inside, doubles, 0.0)
    low, above = np.ceil(small).astype(np.int64), np.floor(small).astype(np.int64) + 1
    for row in np.flatnonzero(~inside).tolist():
        begin, end = block(float(doubles[row]))
        low[row], above[row] = min(begin, LARGEST), min(end, LARGEST)
    return low, above


def _further(own: Ordinals, kind: str, there: Mask) -> list[tuple[Ordinals, Mask]]:
    """Return numbers around a value that may change a decision, where rules compute with it."""
    found: list[tuple[Ordinals, Mask]] = []
    if kind == "float":
        base = np.where(there, floats(own), 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            for one in (*(base * factor for factor in _FACTORS), base + 1, base - 1):
                found.append((ordinals(pa.array(one), "float"), np.isfinite(one)))
        return found
    if kind == "integer":
        whole = np.where(there, own, 1).astype(object)
        sign, size = np.where(whole < 0, -1, 1), abs(whole)
        tries = [whole * 2, sign * (size // 2), whole * 10, sign * (size // 10)]
        tries += [whole * 0, -whole, whole + 1, whole - 1]
        for exact in tries:
            inside = (exact >= SMALLEST) & (exact <= LARGEST)
            found.append((np.where(inside, exact, 0).astype(np.int64), inside.astype(np.bool_)))
    return found
