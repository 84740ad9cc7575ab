"""Domains: the values of each signal that a rule set can tell apart.

Conditions compare signals with constants and with each other. All values between two neighbouring constants
lead to the same decision, so a signal has a few *regions*, and what holds for one value of each region holds
for every value. Signals that are compared with each other get as many values in each region as there are such
signals, so that every order among them occurs. If a condition computes with a signal (arithmetic, functions
of a text), its regions are not known: its domain is not exact, and nothing is proved with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelmill.rules.evaluation.decisions import shown
from modelmill.rules.evaluation.partial_evaluation import Analysis
from modelmill.rules.explanation.domain_values import trial_values, values_between
from modelmill.rules.language import kernels
from modelmill.signals.values import OPAQUE, Kind


@dataclass(frozen=True)
class Domain:
    """The values of one signal that can be told apart."""

    kind: Kind
    landmarks: tuple[Any, ...]
    """Constants that it is compared with, directly or through other signals, ascending."""
    exact: bool
    """Whether the signal is only compared and passed on, and never computed with."""
    company: tuple[str, ...] = ()
    """Signals that it is compared with, including itself."""
    mixed: bool = False
    """Whether there are both integers and floats among them."""

    def region(self, value: Any) -> Any:
        """Return the region of a value (None: unknown) as a key: equal for values that are not told apart."""
        if value is None or self.kind == "boolean":
            return value
        if not self.exact or len(self.company) > 1:
            return ("value", value)
        place = bisect_left(self.landmarks, value)
        return (place, place < len(self.landmarks) and self.landmarks[place] == value)

    def described(self, value: Any) -> str:
        """Return the region of a value as text for people, such as ``above 0.9``."""
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
        """Return at least one value of each region, the given value first.

        :param value: the signal's value; those of other regions are as near to it as possible.
        :param others: values of the signals that it is compared with.
        :return: values, among them None for unknown.
        """
        alone = len(self.company) < 2
        if self.kind == "boolean":
            found: list[Any] = [True, False]
        elif alone:
            found = [*self.landmarks, *values_between(self.kind, self.landmarks, value, 1)]
        else:
            found = self._values_in_company(others)
        if not self.exact:
            found += trial_values(self.kind, value)
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
            marks = sorted({*marks, *values_between("integer", marks, None, count)})
        return [*marks, *values_between(self.kind, marks, None, count)]


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
    constants: set[Any] = field(default_factory=set)
    exact: bool = True


def domains_of(analysis: Analysis, kinds: Mapping[str, Kind]) -> dict[str, Domain]:
    """Return the domain of each base signal that a rule reads.

    :param analysis: the analysis of the rules.
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


def _join(components: dict[str, _Component], flows: Iterable[_Flow], *, exact: bool = True) -> None:
    """Note that values are compared with each other, or (not exact) computed with."""
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
