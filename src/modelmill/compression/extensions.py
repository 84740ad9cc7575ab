"""Methods by name: modelmill's own, and those that other distributions add by entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from modelmill.errors import ConfigError, did_you_mean

MethodT = TypeVar("MethodT")


def with_others(own: tuple[str, ...], group: str) -> tuple[str, ...]:
    """Return the names of all methods, without loading any.

    :param own: modelmill's.
    :param group: entry points by which other distributions add methods.
    :return: modelmill's first.
    """
    return (*own, *sorted({entry.name for entry in entry_points(group=group)}))


def known_in(names: tuple[str, ...]) -> Callable[[str], str]:
    """Return a check of a method's name, for pydantic.

    :param names: what is known.
    :return: the check.
    """

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"a method must be known: {did_you_mean(name, names)}")
        return name

    return check


def method_of(name: str, own: Mapping[str, MethodT], *, group: str, of: str) -> MethodT:
    """Return a method.

    :param name: its name.
    :param own: modelmill's methods.
    :param group: entry points by which other distributions add methods.
    :param of: what it is a method of, for the message.
    :return: the method.
    :raises ConfigError: if there is none of that name.
    """
    if name in own:
        return own[name]
    others = {entry.name: entry for entry in entry_points(group=group)}
    if name not in others:
        raise ConfigError(
            f"a method of {of} must be known", got=name, remedy=did_you_mean(name, [*own, *others])
        )
    method: MethodT = others[name].load()
    return method
