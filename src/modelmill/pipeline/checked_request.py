"""From a request to a component's own configuration and inputs, checked."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.component import AnyComponent, Config, Inputs
from modelmill.errors import ConfigError, did_you_mean
from modelmill.pipeline.placeholders import substitute
from modelmill.pipeline.request import StepRequest


def checked_config(component: AnyComponent, request: StepRequest) -> Config:
    """Return the step's configuration, parameters filled in; ConfigError names the first wrong field."""
    try:
        config: Config = component.config.model_validate(substitute(request.config, request.params))
    except ValidationError as error:
        raise _first_problem(error, f"configuration of step {request.step!r}", component) from error
    return config


def checked_inputs(component: AnyComponent, request: StepRequest) -> Inputs:
    """Return the step's inputs; ConfigError names the first wrong port."""
    try:
        inputs: Inputs = component.inputs.model_validate(request.inputs)
    except ValidationError:
        ports = component.input_ports
        for name in request.inputs:
            if name not in ports:
                raise ConfigError(
                    f"component {component.name} has no such input",
                    got=name,
                    choices=ports,
                ) from None
        inputs = _coerced_inputs(component, request)
    return inputs


def _coerced_inputs(component: AnyComponent, request: StepRequest) -> Inputs:
    """Validate again, with datasets for tables, and single references for ports that take several."""
    values: dict[str, Any] = {}
    for name, port in component.input_ports.items():
        value = request.inputs.get(name)
        if port.type is TableRef and isinstance(value, DatasetRef):
            value = TableRef(uri=value.uri, version=value.version)
        if port.many and value is not None and not isinstance(value, tuple):
            value = (value,)
        if value is not None:
            values[name] = value
    try:
        inputs: Inputs = component.inputs.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, f"inputs of step {request.step!r}", component) from error
    return inputs


def _first_problem(error: ValidationError, what: str, component: AnyComponent) -> ConfigError:
    detail = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    remedy = f"see the configuration of component {component.name}"
    if detail["type"] == "extra_forbidden":
        remedy = did_you_mean(str(detail["loc"][-1]), component.config.model_fields)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ConfigError(f"{what}: {place}: {detail['msg']}{more}", got=detail["input"], remedy=remedy)
