"""Values of the parameters that a step's configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelmill.pipeline.placeholders import placeholders
from modelmill.pipeline.spec import ParamValue
from modelmill.settings import environment_params


def asked_params(config: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, ParamValue]:
    """Return the values of the parameters that a configuration names; the worker's environment fills gaps.

    :param config: the configuration, with its placeholders.
    :param given: the DAG run's parameters.
    :return: value by name.
    """
    environment = environment_params()
    values: dict[str, ParamValue] = {}
    for name in sorted(placeholders(config) & set(given)):
        value = given[name]
        values[name] = environment.get(name) if value is None else value
    return values
