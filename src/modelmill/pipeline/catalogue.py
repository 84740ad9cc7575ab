"""The component catalogue: modelmill's own components, and those that other distributions add.

Each module of :mod:`modelmill.steps` that is named after a component declares it. Another distribution adds
components with an entry point in the group ``modelmill.components`` that names a module; every
:class:`~modelmill.component.Component` at that module's top level joins the catalogue.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module

from modelmill import steps
from modelmill.component import GROUPS, AnyComponent, Component
from modelmill.errors import ConfigError
from modelmill.extensions import declared_in, with_others

ENTRY_POINT_GROUP = "modelmill.components"


class Catalogue(Mapping[str, AnyComponent]):
    """Every known component by name, in the palette's order: by group, then by name.

    One of modelmill's own is imported when it is asked for, all others together: a process that runs one step
    of a pipeline would import them for nothing. Whoever asks for all components may get a ConfigError: if two
    modules declare the same name, or that of an entry point declares none.
    """

    def __getitem__(self, name: str) -> AnyComponent:
        own = _own(name) if name in _own_names() else None
        return own or self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @functools.cached_property
    def _all(self) -> Mapping[str, AnyComponent]:
        own: list[AnyComponent] = [component for component in map(_own, _own_names()) if component]
        found = with_others(own, Component, group=ENTRY_POINT_GROUP, noun="components")
        return dict(sorted(found.items(), key=_place))


@functools.cache
def catalogue() -> Catalogue:
    """Return the components of this process."""
    return Catalogue()


def component_named(name: str) -> AnyComponent:
    """Return the component with a name; ConfigError if there is none."""
    component = catalogue().get(name)
    if component is None:
        raise ConfigError("a step's component must be known", got=name, choices=catalogue())
    return component


@functools.cache
def _own_names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(steps.__path__))


@functools.cache
def _own(name: str) -> AnyComponent | None:
    module = import_module(f"{steps.__name__}.{name}")
    component, found = getattr(module, name, None), declared_in(module, Component)
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
