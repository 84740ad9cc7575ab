"""Placeholders in configurations: ``${name}`` stands for the value of a parameter, or of a for_each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from modelmill.errors import ConfigError
from modelmill.pipeline.spec import ParamValue

_PLACEHOLDER = re.compile(r"\$\{([^}]{0,200})\}")
"""Bounded: from each of a hundred thousand ``${`` without an end, the search would run to the text's end."""


def placeholders(value: Any) -> set[str]:
    """Return the parameter names that a configuration value refers to, at any depth."""
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value)) if "${" in value else set()
    if isinstance(value, Mapping):
        return set().union(*map(placeholders, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(placeholders, value))
    return set()


def substitute(value: Any, params: Mapping[str, ParamValue]) -> Any:
    """Return a configuration value with every ``${name}`` replaced, at any depth.

    A string that is one placeholder and nothing else takes the parameter's value with its type.

    :param value: as the pipeline has it.
    :param params: value by name.
    :return: the value to use.
    :raises ConfigError: if a parameter is unknown or has no value.
    """
    return _replaced(value, lambda name: _param(name, params))


def fill(value: Any, variables: Mapping[str, ParamValue]) -> Any:
    """Return a configuration value with the placeholders of some names replaced, and all others kept.

    :param value: as the pipeline has it.
    :param variables: value by name.
    :return: the value, with its type where a string is one placeholder and nothing else.
    """
    return _replaced(value, lambda name: variables.get(name, f"${{{name}}}"))


def _replaced(value: Any, by: Callable[[str], ParamValue]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(item, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, by) for item in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    return by(whole[1]) if whole else _PLACEHOLDER.sub(lambda match: str(by(match[1])), value)


def _param(name: str, params: Mapping[str, ParamValue]) -> ParamValue:
    if name not in params:
        raise ConfigError("${...} must name a declared parameter", got=name, choices=params)
    if params[name] is None:
        raise ConfigError(
            f"parameter {name!r} needs a value",
            remedy=f"give it one: --param {name}=VALUE, the trigger form in Airflow, a default in the "
            f"pipeline, or the environment variable MODELMILL_PARAM_{name.upper()}",
        )
    return params[name]
