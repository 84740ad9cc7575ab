"""The component catalogue: modelmill's own components, and those that other distributions add.

Another distribution adds components with an entry point in the group ``modelmill.components`` that names a
module; every :class:`~modelmill.pipeline.component.Component` at that module's top level joins the catalogue.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType

from modelmill.errors import ConfigError, did_you_mean
from modelmill.pipeline.component import AnyComponent, Component

ENTRY_POINT_GROUP = "modelmill.components"

_OWN_MODULES = (
    "modelmill.data.components",
    "modelmill.labels.components",
    "modelmill.training.components",
    "modelmill.training.signal_components",
    "modelmill.compression.components",
    "modelmill.evaluation.components",
    "modelmill.registry.components",
    "modelmill.serving.components",
    "modelmill.monitoring.components",
    "modelmill.rules.components",
)


@functools.cache
def catalogue() -> Mapping[str, AnyComponent]:
    """Return every known component by name, in the palette's order.

    :return: a read-only mapping.
    :raises ConfigError: if two modules declare the same name.
    """
    modules = [import_module(name) for name in _OWN_MODULES]
    modules += [entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)]
    found: dict[str, AnyComponent] = {}
    for module in modules:
        for component in declared_in(module):
            if found.setdefault(component.name, component) is not component:
                raise ConfigError(
                    "a component's name belongs to one module",
                    got=component.name,
                    remedy=f"rename the one in {module.__name__}",
                )
    return MappingProxyType(found)


def declared_in(module: ModuleType) -> list[AnyComponent]:
    """Return the components at a module's top level, in the order of declaration."""
    return [value for value in vars(module).values() if isinstance(value, Component)]


def component_named(name: str) -> AnyComponent:
    """Return one component.

    :param name: its name.
    :return: the component.
    :raises ConfigError: if there is none of that name.
    """
    known = catalogue()
    if name not in known:
        raise ConfigError("a step's component must be known", got=name, remedy=did_you_mean(name, known))
    return known[name]
