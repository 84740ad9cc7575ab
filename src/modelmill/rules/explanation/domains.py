"""Domains: the values of each signal that a rule set can tell apart.

Conditions compare signals with constants and with each other. All values between two neighbouring constants
lead to the same decision, so a signal has a few *regions*, and what holds for one value of each region holds
for every value. If a condition computes with a signal (arithmetic, functions of a text), its regions are not
known: its domain is not exact, and nothing is proved with it.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.decisions import shown
from modelmill.rules.evaluation.partial_evaluation import Analysis
from modelmill.rules.explanation.ordinals import (
    LARGEST,
    ORDERED,
    SMALLEST,
    Ordinals,
    block,
    limits,
    ordinal,
    ordinals,
    valued,
)
from modelmill.rules.language import kernels
from modelmill.signals.values import STORED, Kind

_SHOWN_MEMBERS = 5
"""Constants that are named where a value is none of them."""


@dataclass(frozen=True)
class Constant:
    """A constant that signals are compared with."""

    value: Any
    kind: Kind
    """Kind in which they are compared: an integer and a float are compared as doubles."""
    order: bool
    """Whether by ``<`` and its like; else only whether they are equal."""


@dataclass(frozen=True)
class Domain:
    """The values of one signal that can be told apart."""

    kind: Kind
    constants: tuple[Constant, ...]
    """What it is compared with, directly or through other signals, ascending."""
    exact: bool
    """Whether the signal is only compared and passed on, and never computed with."""
    company: tuple[str, ...] = ()
    """Signals that it is compared with, including itself."""

    @functools.cached_property
    def landmarks(self) -> tuple[Any, ...]:
        """The constants, ascending."""
        return tuple(sorted({one.value for one in self.constants}))

    @functools.cached_property
    def ordered(self) -> list[tuple[Any, str]]:
        """The constants that it is compared with by order, ascending: an ordinal or bytes, and the text."""
        found: dict[int | bytes, str] = {}
        for one in self.constants:
            place = _place(one, self.kind)
            if one.order and (place != LARGEST + 1 or place not in found):  # the nearest of those beyond all
                found[place] = shown(one.value)
        return sorted(found.items())

    @functools.cached_property
    def none_of(self) -> str | None:
        """What to say of a value that equals no constant."""
        equal = self.landmarks
        if len(equal) > _SHOWN_MEMBERS:
            return f"none of {len(equal):,} values"
        *most, last = map(shown, equal or (None,))
        return (f"none of {', '.join(most)} and {last}" if most else f"not {last}") if equal else None

    @functools.cached_property
    def regions(self) -> Regions:
        """The regions, for a signal that is compared with constants alone."""
        return _regions(self)


@dataclass(frozen=True)
class Regions:
    """The regions of a signal's values, ascending; NULL is the last one, with the number ``count``."""

    kind: Kind
    lows: Ordinals
    """Smallest ordinal of each region; of texts, the number of the representative."""
    highs: Ordinals
    named: tuple[str | None, ...]
    """Each region in words, such as ``above 0.9``; None where only the value itself says more."""
    values: tuple[Any, ...]
    """A value of each region, for kinds without ordinals; ordinals for the others."""
    constant: tuple[bool, ...]
    """Whether the region is a constant of the rules, and not between two of them."""
    texts: tuple[bytes, ...] = ()
    beyond: frozenset[int] = frozenset()
    """Regions of times that Python's calendar does not have. Rows may have them, and none is tried."""

    @property
    def count(self) -> int:
        """Number of regions without NULL."""
        return len(self.values)

    @functools.cached_property
    def order(self) -> list[int]:
        """The regions in the order in which they are tried: constants, what is between them, NULL."""
        places = [place for place in range(self.count) if place not in self.beyond]
        between = [place for place in places if not self.constant[place]]
        return [*(place for place in places if self.constant[place]), *between, self.count]

    @functools.cached_property
    def array(self) -> pa.Array:
        """A value of each region, and NULL."""
        if self.kind in ORDERED:
            found = np.array([*self.values, 0], np.int64)
            return valued(found, self.kind, np.arange(len(found)) == self.count)
        return pa.array([*self.values, None], STORED[self.kind])

    def of(self, values: pa.Array) -> Ordinals:
        """Return the region of each value."""
        null = values.is_null().to_numpy(zero_copy_only=False)
        if self.kind in ORDERED:
            found = np.searchsorted(self.lows[1:], ordinals(values, self.kind), side="right")
        elif self.kind == "text":
            found = self._of_texts(values)
        elif self.kind == "boolean":
            found = np.where(values.fill_null(False).to_numpy(zero_copy_only=False), 0, 1)
        else:
            found = np.zeros(len(values), np.int64)
        regions: Ordinals = np.where(null, self.count, found).astype(np.int64)
        return regions

    def _of_texts(self, values: pa.Array) -> Ordinals:
        if self.count == 1:
            return np.zeros(len(values), np.int64)
        coded = values.cast(pa.large_binary()).dictionary_encode()
        numbers = {place: number for number, place in enumerate(self.lows.tolist())}
        places = []
        for text in coded.dictionary.to_pylist():
            at = bisect_left(self.texts, text)
            same = at < len(self.texts) and self.texts[at] == text
            places.append(numbers.get(2 * at + same, 0))
        found = np.array([*places, 0], np.int64)
        regions: Ordinals = found[coded.indices.fill_null(len(places)).to_numpy(zero_copy_only=False)]
        return regions


def _regions(domain: Domain) -> Regions:
    kind = domain.kind
    if kind in ORDERED:
        return _ordered_regions(domain)
    if kind == "text":
        return _text_regions(domain)
    if kind == "boolean":
        return Regions(kind, *_places([0, 1]), (None, None), (True, False), (True, True))
    if kind == "null":
        return Regions(kind, *_places([]), (), (), ())
    empty: Any = b"" if kind == "bytes" else []
    return Regions(kind, *_places([0]), ("not NULL",), (empty,), (False,))


def _places(found: Sequence[int]) -> tuple[Ordinals, Ordinals]:
    return np.array(found, np.int64), np.array(found, np.int64)


def cuts(domain: Domain) -> dict[int, Constant]:
    """Return where a new region begins: ordinals, each with the constant whose region it is."""
    first, last = limits(domain.kind)
    found: dict[int, Constant | None] = {first: None}
    for one in domain.constants:
        if domain.kind == "integer" and one.kind == "float":
            low, above = block(one.value)
        else:
            low = ordinal(one.value, domain.kind)
            above = low + 1
        if first <= low < above:
            found[low] = one
        if first < above <= last:
            found.setdefault(above, None)
    return {place: found[place] for place in sorted(found)}  # type: ignore[misc]


def _place(constant: Constant, kind: Kind) -> int | bytes:
    """Return what orders a constant among the values of a kind."""
    if kind == "text":
        return bytes(constant.value.encode())
    if kind == "integer" and constant.kind == "float":
        return block(constant.value)[0]
    return ordinal(constant.value, kind)


def _ordered_regions(domain: Domain) -> Regions:
    kind = domain.kind
    begins = cuts(domain)
    first, last = limits(kind)
    lows = list(begins)
    beyond = frozenset({0, len(lows) + 1}) if kind == "time" else frozenset()
    if beyond:
        lows = [SMALLEST, *lows, last + 1]
        last = LARGEST
    highs = [*(low - 1 for low in lows[1:]), last]
    values, named = [], []
    for low, high in zip(lows, highs, strict=True):
        constant = begins.get(low)
        if constant is not None:
            exact = int(constant.value) if kind == "integer" else low
            values.append(min(max(exact, low), high))
            named.append(shown(constant.value) if low == high else None)
            continue
        if len(begins) == 1:
            values.append(0)
        else:
            values.append(high if low == first else low)
        named.append(_between(domain, low))
    constants = tuple(begins.get(low) is not None for low in lows)
    ends = (np.array(lows, np.int64), np.array(highs, np.int64))
    return Regions(kind, *ends, tuple(named), tuple(values), constants, beyond=beyond)


def _text_regions(domain: Domain) -> Regions:
    texts = sorted({one.value.encode() for one in domain.constants})
    places: list[int] = []
    values: list[str] = []
    named: list[str | None] = []
    for at in range(len(texts) + 1):
        low = texts[at - 1].decode() if at else None
        high = texts[at].decode() if at < len(texts) else None
        inner = _text_between(low, high)
        if inner is not None:
            places.append(2 * at)
            values.append(inner)
            named.append(_between(domain, texts[at] if at < len(texts) else None))
        if high is not None:
            places.append(2 * at + 1)
            values.append(high)
            named.append(shown(high))
    constants = tuple(place % 2 == 1 for place in places)
    return Regions("text", *_places(places), tuple(named), tuple(values), constants, tuple(texts))


def _text_between(low: str | None, high: str | None) -> str | None:
    if low is None:
        return "a" if high is None else None if high == "" else ""
    return next((low + end for end in ("a", " ", "\0") if high is None or low + end < high), None)


def _between(domain: Domain, end: int | bytes | None) -> str | None:
    """Return in words where a value is that is none of the constants.

    :param domain: the signal's.
    :param end: the constants below it are smaller than this ordinal or text; None if all are.
    :return: the words; None if there are no constants.
    """
    ordered = domain.ordered
    if not ordered:
        return domain.none_of
    below = len(ordered) if end is None else bisect_left(ordered, end, key=lambda one: one[0])
    if 0 < below < len(ordered):
        return f"between {ordered[below - 1][1]} and {ordered[below][1]}"
    return f"above {ordered[-1][1]}" if below else f"below {ordered[0][1]}"


@dataclass
class _Flow:
    """Signals and constants whose values may arrive at a step unchanged."""

    signals: frozenset[str] = frozenset()
    constants: tuple[Any, ...] = ()
    computed: bool = False
    """Whether a computed value may arrive, too."""


@dataclass
class _Component:
    """Signals that are compared with each other, and the constants that they are compared with."""

    signals: set[str] = field(default_factory=set)
    constants: set[Constant] = field(default_factory=set)
    exact: bool = True


def domains_of(analysis: Analysis, kinds: Mapping[str, Kind]) -> dict[str, Domain]:
    """Return the domain of each base signal that a rule reads, by name."""
    components = {name: _Component({name}) for name in analysis.columns}
    flows: dict[int, _Flow] = {}
    for number in analysis.live:
        step = analysis.steps[number]
        inputs = [flows[operand] for operand in step.operands]
        flows[number] = _flow(step, inputs)
        if step.kernel in (kernels.compare, kernels.same, kernels.null_if, kernels.member):
            kind = analysis.steps[step.operands[0]].kind
            members = tuple(step.members.to_pylist()) if step.members is not None else ()
            operator = getattr(step.compute, "keywords", {}).get("operator", "=")
            _join(components, [*inputs, _Flow(constants=members)], kind, order=operator not in ("=", "<>"))
        elif step.kernel is not None and step.kernel not in _PASSING:
            _join(components, inputs, None)
    found = {}
    for name in analysis.columns:
        one = components[name]
        boolean = kinds[name] == "boolean"
        constants = () if boolean else tuple(sorted(one.constants, key=_in_order))
        found[name] = Domain(kinds[name], constants, one.exact or boolean, tuple(sorted(one.signals)))
    return found


_PASSING = frozenset(
    {
        *(kernels.conjunction, kernels.disjunction, kernels.negation, kernels.is_true, kernels.is_null),
        *(kernels.choose, kernels.coalesce, kernels.convert),
    }
)
"""Operators that look only at truth values and NULL, or pass values on."""


def _flow(step: Any, inputs: Sequence[_Flow]) -> _Flow:
    if step.column is not None:
        return _Flow(frozenset({step.column}))
    if step.kind == "boolean":
        return _Flow()  # truth values are few: all of them are tried
    if step.kernel is None:
        value = step.compute(None).as_py()
        return _Flow(constants=() if value is None else (value,))
    if step.kernel is kernels.choose:
        return _united([*inputs[1::2], inputs[-1]])
    if step.kernel in (kernels.coalesce, kernels.convert):
        return _united(inputs)
    if step.kernel is kernels.null_if:
        return inputs[0]
    return _Flow(computed=True)


def _united(flows: Iterable[_Flow]) -> _Flow:
    flows = list(flows)
    return _Flow(
        frozenset().union(*(flow.signals for flow in flows)),
        tuple(constant for flow in flows for constant in flow.constants),
        any(flow.computed for flow in flows),
    )


def _join(
    components: dict[str, _Component], flows: Iterable[_Flow], kind: Kind | None, *, order: bool = False
) -> None:
    """Note that values are compared with each other in some kind, or (without one) computed with."""
    flow = _united(flows)
    if not flow.signals:
        return
    found = list({id(components[name]): components[name] for name in flow.signals}.values())
    merged = found[0]
    if kind is not None:
        merged.constants.update(_constant(value, kind, order=order) for value in flow.constants)
    merged.exact = merged.exact and kind is not None and not flow.computed
    for one in found[1:]:
        merged.signals |= one.signals
        merged.constants |= one.constants
        merged.exact = merged.exact and one.exact
        for name in one.signals:
            components[name] = merged


def _in_order(constant: Constant) -> tuple[Any, Kind, bool]:
    return constant.value, constant.kind, constant.order


def _constant(value: Any, kind: Kind, *, order: bool) -> Constant:
    # Adding 0.0 makes 0.0 of -0.0: they are equal.
    return Constant(float(value) + 0.0 if kind == "float" else value, kind, order)
