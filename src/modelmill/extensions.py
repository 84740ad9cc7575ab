"""Implementations by name: modelmill's own, and those of other distributions.

The names are known before any implementation is imported, so a form can offer them and a declaration stays
light. modelmill's own are registered in the same way as foreign ones, only that their list stands in the
code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from modelmill.errors import ConfigError, did_you_mean


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
        :raises ConfigError: if no implementation has that name.
        """
        found = self._own.get(name) or self._others().get(name)
        if found is None:
            raise ConfigError(f"a {self.noun} must be known", got=name, remedy=did_you_mean(name, self.names))
        return found.load()

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
