"""Implementations by name: modelmill's own, and those of other distributions.

The names are known before any implementation is imported, so a form can offer them and a declaration stays
light. modelmill's own are registered in the same way as foreign ones, only that their list stands in the
code.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Protocol, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from modelmill.errors import ConfigError, ModelmillError, did_you_mean


def loaded(entry: EntryPoint) -> Any:
    """Import what an entry point of another distribution names; ConfigError with the place in its code."""
    try:
        return entry.load()
    except ModelmillError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame)]
        place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        raise ConfigError(
            f"what an entry point names must be importable ({_said(entry)})",
            got=f"{type(error).__name__}: {error}",
            remedy=f"correct it{place}, or uninstall that distribution",
        ) from error


@functools.cache
def distributions_of(group: str) -> tuple[str, ...]:
    """Return the distributions that add implementations, as name and version: ``("acme-mill 0.2",)``.

    They are looked up once: what is installed later runs in no process that is there already.

    :param group: entry points by which they add them.
    :return: in alphabetic order.
    """
    found = {entry.dist for entry in entry_points(group=group) if entry.dist is not None}
    return tuple(sorted({f"{one.name} {one.version}" for one in found}))


class Named(Protocol):
    """Something that a configuration calls by its name."""

    @property
    def name(self) -> str:
        """Its name."""


NamedT = TypeVar("NamedT", bound=Named)


def declared_in(module: ModuleType, kind: type[NamedT]) -> list[NamedT]:
    """Return the objects of a class at a module's top level, in the order of declaration."""
    return [value for value in vars(module).values() if isinstance(value, kind)]


def with_others(own: Iterable[NamedT], kind: type[NamedT], *, group: str, noun: str) -> dict[str, NamedT]:
    """Return modelmill's own declarations and those of other distributions, by name.

    :param own: modelmill's own.
    :param kind: class of a declaration.
    :param group: entry points that name modules; each declares some at its top level.
    :param noun: what they are, in the plural.
    :return: the declarations.
    :raises ConfigError: if two have one name, or a module declares none.
    """
    found = {one.name: one for one in own}
    for entry in entry_points(group=group):
        module = loaded(entry)
        declared = declared_in(module, kind)
        if not declared:
            raise ConfigError(
                f"an entry point names a module with a {kind.__name__} at its top level ({_said(entry)})",
                got="none",
                remedy=f"assign the {kind.__name__} to a variable of that module; the entry point has no "
                "attribute",
            )
        for one in declared:
            if found.setdefault(one.name, one) is not one:
                raise ConfigError(
                    f"two {noun} cannot have one name",
                    got=one.name,
                    remedy=f"rename the one in {module.__name__}",
                )
    return found


def _said(entry: EntryPoint) -> str:
    distribution = f" of {entry.dist.name}" if entry.dist is not None else ""
    return f"{entry.group}{distribution}: {entry.name} = {entry.value}"


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    """Return whether a frame is neither this file's nor the import system's."""
    return frame.filename != __file__ and "importlib" not in frame.filename


class Extensions:
    """Implementations of one kind, each under the name that a configuration calls it by.

    :param group: entry points by which other distributions add implementations.
    :param noun: what one of them is, for error messages.
    :param own: where modelmill's own are, ``module:attribute`` by name, in the order of the form.
    """

    def __init__(self, group: str, *, noun: str, own: Mapping[str, str]) -> None:
        self.group, self.noun = group, noun
        self._own = {name: EntryPoint(name, value, group) for name, value in own.items()}

    def __contains__(self, name: object) -> bool:
        # Looking through what is installed takes a hundredth of a second, so modelmill's own come first.
        return name in self._own or name in self._others()

    @property
    def names(self) -> tuple[str, ...]:
        """All names: modelmill's own first."""
        return (*self._own, *sorted(self._others().keys() - self._own.keys()))

    def load(self, name: str) -> Any:
        """Import an implementation.

        :param name: its name.
        :return: what its entry point names; one of modelmill's own is never replaced.
        :raises ConfigError: if no implementation has that name, or it cannot be imported.
        """
        if name in self._own:
            return self._own[name].load()
        found = self._others().get(name)
        if found is None:
            raise ConfigError(f"a {self.noun} must be known", got=name, choices=self.names)
        return loaded(found)

    def _others(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}


class NameOf:
    """Marks a ``str`` field as the name of an implementation: ``Annotated[str, NameOf(METHODS)]``.

    It is validated, and the JSON schema lists the names as an ``enum``.

    :param *registries: whose names are allowed.
    :param without: names that are not.
    """

    def __init__(self, *registries: Extensions, without: Sequence[str] = ()) -> None:
        self._registries, self._without = registries, without

    @property
    def names(self) -> list[str]:
        """What is allowed, in the order of the form."""
        return [name for one in self._registries for name in one.names if name not in self._without]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the name after pydantic has made a string of it."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """List the names."""
        return {**handler(schema), "enum": self.names}

    def _check(self, name: str) -> str:
        if name in self._without or not any(name in one for one in self._registries):
            noun = self._registries[0].noun
            raise ValueError(f"a {noun} must be known: {did_you_mean(name, self.names)}")
        return name
