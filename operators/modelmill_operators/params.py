"""Values of the parameters that a step's configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelmill.pipeline.placeholders import placeholders
from modelmill.pipeline.spec import ParamValue
from modelmill.settings import environment_params

RUN_DATE = "logical_date"
"""Parameter that is, where nobody gives it a value, the date that a run of the DAG is for."""


def run_params(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a DAG run.

    :param context: Airflow's.
    :return: value by name. That of :data:`RUN_DATE`, if the pipeline declares it and nobody has given it, is
        the run's logical date (ISO 8601); of a run without one, such as a table's, the time it was due.
    """
    given = dict(context["params"])
    if RUN_DATE in given and given[RUN_DATE] is None:
        run = context.get("dag_run")
        date = getattr(run, "logical_date", None) or getattr(run, "run_after", None)
        given[RUN_DATE] = date.isoformat() if date else None
    return given


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
