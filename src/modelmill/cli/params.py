"""Values that a command line gives as ``NAME=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.errors import ConfigError
from modelmill.pipeline.spec import ParamValue


def given_params(given: Sequence[str]) -> dict[str, ParamValue]:
    """Return the texts of values by name, each given as ``NAME=VALUE``; ConfigError if one has no ``=``."""
    values: dict[str, ParamValue] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(
                "a parameter is given as NAME=VALUE", got=item, remedy=f"write --param {item}=VALUE"
            )
        values[name] = value
    return values
