"""The operator of each component, made from the component's declaration.

``FineTuneOperator`` is the operator of the component ``fine_tune``. A component of another distribution has
one, too. An operator that does more than run its step has a class in a file of its own, and a line in
:data:`WRITTEN`.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from modelmill.component import AnyComponent, Port
from modelmill.errors import ConfigError
from modelmill.pipeline.catalogue import catalogue, component_named
from modelmill_operators.step import StepOperator

WRITTEN: Mapping[str, str] = MappingProxyType(
    {
        "approve": "modelmill_operators.approve",
        "promote": "modelmill_operators.promote",
    }
)
"""By component, the module with its operator; every other operator is made by :func:`operator_for`."""


@functools.cache
def operator_for(component: str) -> type[StepOperator]:
    """Return the operator of a component.

    :param component: name of the component.
    :return: a subclass of :class:`StepOperator`; the same one each time.
    :raises ConfigError: if there is no such component.
    """
    name = operator_name(component)
    if component in WRITTEN:
        written: type[StepOperator] = getattr(import_module(WRITTEN[component]), name)
        return written
    # Airflow keeps a task's class by module and name: __getattr__ finds it there again.
    body = {
        "__doc__": _docstring(component_named(component)),
        "__module__": __name__,
        "component": component,
    }
    made: type[StepOperator] = types.new_class(
        name, (StepOperator,), exec_body=lambda space: space.update(body)
    )
    return made


def operator_name(component: str) -> str:
    """Return the class name of a component's operator: ``FineTuneOperator`` for ``fine_tune``."""
    return re.sub(r"(?:^|_)([a-z])", lambda letter: letter[1].upper(), component) + "Operator"


def __getattr__(name: str) -> type[StepOperator]:
    if not name.endswith("Operator"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The name read backwards: to look through the catalogue would import every component.
    component = re.sub(r"(?<!^)([A-Z])", r"_\1", name.removesuffix("Operator")).lower()
    try:
        return operator_for(component)
    except ConfigError as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {error}") from error


def __dir__() -> list[str]:
    return sorted([*globals(), *map(operator_name, catalogue())])


def _docstring(component: AnyComponent) -> str:
    config = component.config
    return (
        f"{component.help}\n\n"
        f"    Configuration: :class:`{config.__module__}.{config.__qualname__}`.\n"
        f"    Inputs: {_ports(component.input_ports)}. Outputs: {_ports(component.output_ports)}.\n"
    )


def _ports(ports: Mapping[str, Port]) -> str:
    shown = []
    for port in ports.values():
        kind = f"{port.type.port_type}{', one or several' if port.many else ''}"
        shown.append(f"``{port.name}`` ({kind}{'' if port.required else ', optional'})")
    return ", ".join(shown) or "none"
