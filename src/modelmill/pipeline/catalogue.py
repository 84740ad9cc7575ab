"""The component catalogue: modelmill's own components, and those that other distributions add.

Each module of :mod:`modelmill.steps` that is named after a component declares it. Another distribution adds
components with an entry point in the group ``modelmill.components`` that names a module; every
:class:`~modelmill.component.Component` at that module's top level joins the catalogue.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType

from modelmill import steps
from modelmill.component import GROUPS, AnyComponent, Component
from modelmill.errors import ConfigError, did_you_mean
from modelmill.extensions import checked, loaded

ENTRY_POINT_GROUP = "modelmill.components"


@functools.cache
def catalogue() -> Mapping[str, AnyComponent]:
    """Return every known component by name, in the palette's order: by group, then by name.

    :return: a read-only mapping.
    :raises ConfigError: if two modules declare the same name, or that of an entry point declares none.
    """
    own = [_own(name) for name in _own_names()]
    found = {component.name: component for component in own if component}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        module = loaded(entry)
        components = declared_in(module)
        checked(entry, components, noun="Component")
        for component in components:
            if found.setdefault(component.name, component) is not component:
                raise ConfigError(
                    "two components cannot have one name",
                    got=component.name,
                    remedy=f"rename the one in {module.__name__}",
                )
    return MappingProxyType(dict(sorted(found.items(), key=_place)))


def declared_in(module: ModuleType) -> list[AnyComponent]:
    """Return the components at a module's top level, in the order of declaration."""
    return [value for value in vars(module).values() if isinstance(value, Component)]


def component_named(name: str) -> AnyComponent:
    """Return one component.

    :param name: its name.
    :return: the component.
    :raises ConfigError: if there is none of that name.
    """
    # One of modelmill's own needs no look at the others: that is most of the time of a reused step.
    own = _own(name) if name in _own_names() else None
    if own:
        return own
    known = catalogue()
    if name not in known:
        raise ConfigError("a step's component must be known", got=name, remedy=did_you_mean(name, known))
    return known[name]


@functools.cache
def _own_names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(steps.__path__))


def _own(name: str) -> AnyComponent | None:
    module = import_module(f"{steps.__name__}.{name}")
    component, found = getattr(module, name, None), declared_in(module)
    if not found:
        return None  # what several components share
    if len(found) > 1 or not isinstance(component, Component) or component.name != name:
        raise ConfigError(
            f"the module {module.__name__} must declare one component, {name}, in a variable of that name",
            got=", ".join(one.name for one in found),
            remedy="rename the file, the variable or the component",
        )
    return component


def _place(item: tuple[str, AnyComponent]) -> tuple[int, str, str]:
    name, component = item
    rank = GROUPS.index(component.group) if component.group in GROUPS else len(GROUPS)
    return rank, component.group, name
