"""Measures: deterministic functions of columns, for signals of kind ``measured``.

A measure is a function of Arrow arrays, registered under a name. Another distribution adds measures with an
entry point in the group ``modelmill.measures`` that names a module::

    @measure("shouting", result="float", operands=("text",))
    def shouting(texts: pa.Array, options: MeasureOptions) -> pa.Array: ...

The value of a row depends on the row alone: it is the same in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from modelmill.errors import ConfigError
from modelmill.extensions import loaded
from modelmill.options import Options
from modelmill.signals.values import Kind

if TYPE_CHECKING:
    import pyarrow as pa

ENTRY_POINT_GROUP = "modelmill.measures"
_OWN_MODULES = ("modelmill.signals.text_measures",)


class MeasureOptions(Options):
    """Base of the options of a measure; the base itself has none."""


Compute = Callable[..., "pa.Array"]
"""Takes an array for each operand, of the Arrow type of its kind (see ``modelmill.signals.values.STORED``),
and the options. Returns an array of the result's kind with as many values; null is unknown."""


@dataclass(frozen=True)
class Measure:
    """A registered measure."""

    name: str
    result: Kind
    operands: tuple[Kind, ...]
    """Kinds of the columns that it reads."""
    compute: Compute
    options: type[MeasureOptions] = MeasureOptions
    version: int = 1
    """Raised when the same row would give another value."""

    @property
    def help(self) -> str:
        """First line of the function's docstring."""
        return (self.compute.__doc__ or "").strip().split("\n")[0]


_MEASURES: dict[str, Measure] = {}


def measure(
    name: str,
    *,
    result: Kind,
    operands: tuple[Kind, ...] = ("text",),
    options: type[MeasureOptions] = MeasureOptions,
    version: int = 1,
) -> Callable[[Compute], Compute]:
    """Register the function below as a measure.

    :param name: what a rule set calls it.
    :param result: kind of its values.
    :param operands: kinds of the columns that it reads.
    :param options: class of its options.
    :param version: raise it when the same row would give another value.
    :return: a decorator.
    :raises ConfigError: if the name is taken.
    """

    def register(compute: Compute) -> Compute:
        made = Measure(name, result, operands, compute, options, version)
        known = _MEASURES.setdefault(name, made)
        if (
            known.compute.__qualname__ != compute.__qualname__
            or known.compute.__module__ != compute.__module__
        ):
            raise ConfigError(
                "a measure's name belongs to one function",
                got=f"{name} in {compute.__module__}",
                remedy=f"{known.compute.__module__} has it: choose another name",
            )
        _MEASURES[name] = made
        return compute

    return register


def measures() -> Mapping[str, Measure]:
    """Return every known measure by name.

    :return: modelmill's own, and those that other distributions register.
    """
    for module in _OWN_MODULES:
        import_module(module)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        loaded(entry)
    return dict(sorted(_MEASURES.items()))


def measure_named(name: str) -> Measure:
    """Return the measure with a name; ConfigError if there is none."""
    known: Mapping[str, Any] = _MEASURES if name in _MEASURES else measures()
    if name not in known:
        raise ConfigError("a measure must be known", got=name, choices=known)
    found: Measure = known[name]
    return found
