"""The values of a signal that a rule set can tell apart.

Conditions compare signals with constants and with each other. Between two neighbouring constants all values
are alike, so one of them stands for all: a signal has a few *regions*, and what holds for one value of each
region holds for every value. Signals that are compared with each other get as many values in each region as
there are of them, so that every order among them occurs. Where a signal is computed with (arithmetic,
functions of a text), its regions are not known: its domain is not exact, and nothing is proved with it.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from modelmill.rules.evaluation.partial_evaluation import Analysis
from modelmill.rules.language import kernels
from modelmill.signals.values import OPAQUE, Kind


@dataclass(frozen=True)
class Domain:
    """What can be told apart of one signal."""

    kind: Kind
    landmarks: tuple[Any, ...]
    """Constants that it is compared with, directly or through other signals, ascending."""
    exact: bool
    """Whether it is only compared and passed on."""
    company: tuple[str, ...] = ()
    """Signals that it is compared with, itself included."""
    mixed: bool = False
    """Whether there are whole numbers and others among them."""

    def region(self, value: Any) -> Any:
        """Return what values that are told apart differ in.

        :param value: a value; None is unknown.
        :return: something to compare and to hash.
        """
        if value is None or self.kind == "boolean":
            return value
        if not self.exact or len(self.company) > 1:
            return ("value", value)
        place = bisect_left(self.landmarks, value)
        return (place, place < len(self.landmarks) and self.landmarks[place] == value)

    def described(self, value: Any) -> str:
        """Return the region of a value for people, such as ``above 0.9``."""
        from modelmill.rules.evaluation.decisions import shown

        if value is not None and self.kind in OPAQUE:
            return "not NULL"
        if value is None or self.kind == "boolean" or not self.exact or not self.landmarks:
            return shown(value)
        place = bisect_left(self.landmarks, value)
        if place < len(self.landmarks) and self.landmarks[place] == value:
            return shown(value)
        below, above = self.landmarks[:place], self.landmarks[place:]
        if below and above:
            return f"between {shown(below[-1])} and {shown(above[0])}"
        return f"above {shown(below[-1])}" if below else f"below {shown(above[0])}"

    def values(self, value: Any, others: Sequence[Any] = ()) -> list[Any]:
        """Return values that stand for all, the given one first.

        :param value: the signal's value; those of other regions are as near to it as can be.
        :param others: values of the signals that it is compared with.
        :return: one value of each region at least; None, for unknown, is one of them.
        """
        alone = len(self.company) < 2
        if self.kind == "boolean":
            found: list[Any] = [True, False]
        elif alone:
            found = [*self.landmarks, *_between(self.kind, self.landmarks, value, 1)]
        else:
            found = self._values_in_company(others)
        if not self.exact:
            found += _tries(self.kind, value)
        if self.kind == "integer":
            found = [int(one) for one in found if one == int(one)]
        different = [
            one for one in dict.fromkeys(found) if not alone or self.region(one) != self.region(value)
        ]
        return [value, *(one for one in [*different, None] if one != value)]

    def _values_in_company(self, others: Sequence[Any]) -> list[Any]:
        count = len(self.company)
        marks = sorted({*self.landmarks, *(one for one in others if one is not None)})
        if self.mixed:
            marks = sorted({*marks, *_between("integer", marks, None, count)})
        return [*marks, *_between(self.kind, marks, None, count)]


def _between(kind: Kind, landmarks: Sequence[Any], value: Any, count: int) -> list[Any]:
    """Return values between neighbouring landmarks, below the first and above the last."""
    bounds = [None, *landmarks, None]
    inner = _INNER.get(kind)
    if inner is None:
        return []
    return [one for low, high in itertools.pairwise(bounds) for one in inner(low, high, value, count)]


def _floats(low: float | None, high: float | None, value: float | None, count: int) -> list[float]:
    if count == 1:
        if low is None and high is None:
            return [value if value is not None else 0.0]
        if low is None or (high is not None and value is not None and value >= high):
            return (
                [found]
                if (found := math.nextafter(high or 0.0, -math.inf)) > (-math.inf if low is None else low)
                else []
            )
        found = math.nextafter(low, math.inf)
        return [found] if high is None or found < high else []
    start = low if low is not None else (high if high is not None else 0.0) - count - 1
    stop = high if high is not None else start + count + 1
    found_many = [start + (stop - start) * (place + 1) / (count + 1) for place in range(count)]
    return [one for one in found_many if (low is None or one > low) and (high is None or one < high)]


def _integers(low: float | None, high: float | None, value: int | None, count: int) -> list[int]:
    first = None if low is None else math.floor(low) + 1
    last = None if high is None else math.ceil(high) - 1
    if first is None and last is None:
        return [(value or 0) + place for place in range(count)]
    if first is not None and last is not None:
        near_end = value is not None and value > last
        found = (
            range(max(first, last - count + 1), last + 1)
            if near_end
            else range(first, min(last, first + count - 1) + 1)
        )
        return list(found)
    if first is not None:
        return [first + place for place in range(count)]
    return [last - place for place in range(count)] if last is not None else []


def _texts(low: str | None, high: str | None, value: str | None, count: int) -> list[str]:
    del value
    if low is None:
        candidates = (
            ["\0" * place for place in range(count)]
            if high is not None
            else ["a" * (place + 1) for place in range(count)]
        )
    else:
        candidates = [low + letter * (place + 1) for letter in ("a", " ", "\0") for place in range(count)]
    fitting = [one for one in candidates if high is None or one < high]
    return fitting[:count]


def _times(low: Any, high: Any, value: Any, count: int) -> list[Any]:
    tick = timedelta(microseconds=1)
    if low is None and high is None:
        return [] if value is None else [value + tick * place for place in range(count)]
    if low is None or (high is not None and value is not None and value >= high and count == 1):
        found = [high - tick * (place + 1) for place in range(count)]
    else:
        found = [low + tick * (place + 1) for place in range(count)]
    return [one for one in found if (low is None or one > low) and (high is None or one < high)]


def _tries(kind: Kind, value: Any) -> list[Any]:
    """Return numbers that may lead elsewhere, for a signal that is computed with; they prove nothing."""
    if kind not in ("integer", "float"):
        return []
    base = 1 if value is None else value
    found = [base * factor for factor in (2, 0.5, 10, 0.1, 0, -1)] + [base + 1, base - 1]
    return [int(one) for one in found] if kind == "integer" else [float(one) for one in found]


_INNER: Mapping[Kind, Callable[..., list[Any]]] = {
    "float": _floats,
    "integer": _integers,
    "text": _texts,
    "time": _times,
    "bytes": lambda *_: [b""],
    "texts": lambda *_: [()],
    "numbers": lambda *_: [()],
}


@dataclass
class _Flow:
    """What may arrive at a step: values of signals and constants, passed on unchanged."""

    signals: frozenset[str] = frozenset()
    constants: tuple[Any, ...] = ()
    computed: bool = False
    """Whether something may arrive that was computed."""


@dataclass
class _Component:
    signals: set[str] = field(default_factory=set)
    constants: set[Any] = field(default_factory=set)
    exact: bool = True


def domains_of(analysis: Analysis, kinds: Mapping[str, Kind]) -> dict[str, Domain]:
    """Return the domain of each base signal that a rule reads.

    :param analysis: of the rules.
    :param kinds: kind of each signal.
    :return: domains by name.
    """
    components = {name: _Component({name}) for name in analysis.columns}
    flows: dict[int, _Flow] = {}
    for number in analysis.live:
        step = analysis.steps[number]
        inputs = [flows[operand] for operand in step.operands]
        flows[number] = _flow(step, inputs)
        if step.kernel in (kernels.compare, kernels.same, kernels.null_if, kernels.member):
            constants = step.members.to_pylist() if step.members is not None else []
            _join(components, [*inputs, _Flow(constants=tuple(constants))])
        elif step.kernel is not None and step.kernel not in _PASSING:
            _join(components, inputs, exact=False)
    found = {}
    for name in analysis.columns:
        one = components[name]
        landmarks = tuple(sorted(one.constants)) if kinds[name] != "boolean" else ()
        exact = one.exact or kinds[name] == "boolean"
        mixed = {kinds[other] for other in one.signals} == {"integer", "float"}
        found[name] = Domain(kinds[name], landmarks, exact, tuple(sorted(one.signals)), mixed)
    return found


_PASSING = frozenset(
    {
        *(kernels.conjunction, kernels.disjunction, kernels.negation, kernels.is_true, kernels.is_null),
        *(kernels.choose, kernels.coalesce, kernels.convert),
    }
)
"""Operators that look at truth values and NULL alone, or pass values on."""


def _flow(step: Any, inputs: Sequence[_Flow]) -> _Flow:
    if step.column is not None:
        return _Flow(frozenset({step.column}))
    if step.kind == "boolean":
        return _Flow()  # truth values are few: every one of them is tried
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


def _join(components: dict[str, _Component], flows: Iterable[_Flow], *, exact: bool = True) -> None:
    """Note that values are compared with each other, or that something is computed of them."""
    flow = _united(flows)
    if not flow.signals:
        return
    found = list({id(components[name]): components[name] for name in flow.signals}.values())
    merged = found[0]
    merged.constants.update(flow.constants)
    merged.exact = merged.exact and exact and not flow.computed
    for one in found[1:]:
        merged.signals |= one.signals
        merged.constants |= one.constants
        merged.exact = merged.exact and one.exact
        for name in one.signals:
            components[name] = merged
