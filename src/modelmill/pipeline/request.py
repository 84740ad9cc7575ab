"""What crosses the border between an orchestrator and the process that runs a step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from modelmill.artifacts import AnyReference
from modelmill.component import AnyComponent, Config, Inputs, Outputs
from modelmill.extensions import distributions_of
from modelmill.options import Record
from modelmill.pipeline.spec import ParamValue, ResourcesSpec
from modelmill.settings import Settings
from modelmill.tables.description import TableUse
from modelmill.tables.versions import table_states
from modelmill.version import __version__

InputValue = AnyReference | tuple[AnyReference, ...]


class StepRequest(Record):
    """One step to run: written by the operator, read by ``python -m modelmill step``."""

    pipeline: str
    pipeline_digest: str = ""
    """:attr:`~modelmill.pipeline.spec.PipelineSpec.digest`; empty if there is no pipeline document."""
    step: str
    component: str
    config: dict[str, Any] = {}
    """As the pipeline has it: ``${name}`` is replaced by the runner."""
    params: dict[str, ParamValue] = {}
    inputs: dict[str, InputValue] = {}
    resources: ResourcesSpec = ResourcesSpec()
    """The step's needs as the pipeline has them: never part of its key."""
    origin: dict[str, str] = {}
    """Who asks, as MLflow tags: ``dag_id``, ``run_id``, ``task_id``, ``map_index``, ``try_number``,
    ``logical_date``."""
    describe: bool = False
    """Whether the result has tables and figures, for who tells others of them: never part of its key."""


class StepResult(Record):
    """What a step yields."""

    outputs: dict[str, AnyReference]
    step_key: str
    run_id: str
    """MLflow run that made the outputs."""
    run_url: str
    """Page of that run in the MLflow UI; empty where the tracking store has no UI."""
    reused: bool
    """Whether a finished run with the same step key was found, and nothing was run."""
    events: tuple[str, ...] = ()
    """URIs of the conditional outlets that were updated. A reused result names them again: the attempt that
    made it may have died before anybody heard of them."""
    tables: tuple[TableUse, ...] = ()
    """What was read and made; empty unless the request asks for it."""
    figures: dict[str, float] = {}
    """The last value of each metric that the step has logged; empty if it was reused, or the request does not
    ask for it."""

    def to_keep(self) -> dict[str, Any]:
        """Return what is kept beside the outputs, as JSON: not what only the step's own task tells others."""
        return self.model_dump(mode="json", exclude={"outputs", "tables", "figures"})


def references(ports: Inputs | Outputs) -> list[object]:
    """Return what the ports of a step hold, those with several edges taken apart."""
    values = [getattr(ports, name) for name in type(ports).model_fields]
    return [one for value in values for one in (value if isinstance(value, tuple) else (value,))]


def step_key(component: AnyComponent, config: Config, inputs: Inputs, settings: Settings) -> str:
    """Return the key under which a step's result is found again.

    SHA-256 over everything that decides the result: the component and its version, the configuration with
    all defaults, the input references, the state of all that the step reads, modelmill's version, and
    those of the distributions whose code the component may run.

    :param component: the component.
    :param config: its configuration.
    :param inputs: its inputs.
    :param settings: where to look for what the step reads.
    :return: 64 hexadecimal digits.
    """
    outside = component.outside_state(config, inputs, settings) if component.outside_state else ""
    extensions = {group: found for group in component.extensions if (found := distributions_of(group))}
    content: Mapping[str, Any] = {
        "component": component.name,
        "version": component.version,
        "config": config.model_dump(mode="json"),
        "inputs": inputs.model_dump(mode="json"),
        "outside": outside,
        "tables": table_states(references(inputs)),
        "code": __version__,
        **({"extensions": extensions} if extensions else {}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
