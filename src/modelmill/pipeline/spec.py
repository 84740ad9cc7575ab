"""A pipeline as data: steps, their configuration, and edges: inputs that name another step's output port."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from modelmill.documents.names import Name
from modelmill.errors import ConfigError
from modelmill.options import Record
from modelmill.pipeline.graph import ordered
from modelmill.settings import environment_params
from modelmill.system.resources import Resources

Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}$")]
"""``STEP.PORT``: an output port of another step."""
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,250}$")]
"""An id, not a URI: a pipeline's text holds no secret."""
ParamValue = str | int | float | bool | None
Value = str | int | float | bool
Outcome = Literal["accepted", "refused"]
"""A gate's verdict on a challenger."""


class Param(Record):
    """A parameter of a pipeline: ``${name}`` in a configuration stands for its value."""

    default: ParamValue = None
    """None: the deployment's ``MODELMILL_PARAM_<NAME>``, or whoever starts the run, gives the value."""
    description: str = ""


class AssetSchedule(Record):
    """Run when every one of these assets has been updated."""

    assets: tuple[str, ...] = Field(min_length=1)


class TableSchedule(Record):
    """Run when every one of these Delta tables has a new version, whoever wrote it."""

    table: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """Absolute path or URI of the table, or several."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables, as the pipeline has them."""
        return (self.table,) if isinstance(self.table, str) else self.table


class ResourcesSpec(Record):
    """What a step needs of the machine it runs on, where it is not what its component says."""

    gpus: Annotated[int, Field(ge=0, le=64)] | None = None
    gpu_memory_gb: Annotated[float, Field(ge=0, le=10_000)] | None = None
    share_gpu: bool | None = None
    cpus: Annotated[float, Field(gt=0, le=1024)] | None = None
    memory_gb: Annotated[float, Field(gt=0, le=100_000)] | None = None
    profile: Name | None = None
    """One of the deployment's profiles; None: the first one that has what the step needs."""

    def over(self, default: Resources) -> Resources:
        """Return what the step needs.

        :param default: what its component says.
        :return: the same with what is given here.
        """
        return dataclasses.replace(default, **self.model_dump(exclude={"profile"}, exclude_none=True))


class StepSpec(Record):
    """One use of a component."""

    component: str
    # Factories: of a default {}, pydantic makes a deep copy for each step.
    inputs: dict[Name, Source | tuple[Source, ...]] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    resources: ResourcesSpec = ResourcesSpec()
    retries: Annotated[int, Field(ge=0, le=20)] | None = None
    """Tries after the first one, for errors that a retry can help; None: the deployment's default."""
    when: dict[Name, Outcome] = Field(default_factory=dict)
    """By the id of a gate's step, what its verdict has to be: else the step is skipped. All have to hold."""


class GroupSpec(Record):
    """A named part of a pipeline, which may stand for a copy of its steps for each of several values."""

    description: str = ""
    steps: tuple[Name, ...] = Field(min_length=1)
    """Ids of steps; a step is in one group at most."""
    for_each: dict[Name, Annotated[tuple[Value, ...], Field(min_length=1)]] | None = Field(
        None, min_length=1, max_length=1
    )
    """One variable and its values: ``${variable}`` in a configuration of these steps stands for the value.
    None: the steps are there once."""

    @property
    def variable(self) -> str | None:
        """Name of the variable; None: the steps are there once."""
        return next(iter(self.for_each)) if self.for_each else None

    @property
    def values(self) -> tuple[Value, ...]:
        """The variable's values; without one, none."""
        return next(iter(self.for_each.values())) if self.for_each else ()


class PipelineSpec(Record):
    """A pipeline. See ``docs/pipelines.md`` for the YAML that it is read from."""

    pipeline: Name
    description: str = ""
    schedule: str | AssetSchedule | TableSchedule | None = None
    """Cron expression (UTC), assets, tables, or None for runs by hand only."""
    tags: tuple[str, ...] = ()
    storage_connection: ConnectionId | None = None
    """Airflow connection to the store where the tables are; None, and without Airflow: the environment's."""
    params: dict[Name, Param] = {}
    groups: dict[Name, GroupSpec] = {}
    steps: dict[Name, StepSpec] = Field(min_length=1)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the pipeline's canonical JSON: comments, order of keys and defaults do not change it."""
        canonical = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @functools.cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge, in the order of the text."""
        return tuple(
            Edge(*source.partition(".")[::2], target, port)
            for target, step in self.steps.items()
            for port, sources in step.inputs.items()
            for source in ((sources,) if isinstance(sources, str) else sources)
        )

    def needs(self) -> dict[str, set[str]]:
        """Return, by step id, the steps that have to be done before it: by its inputs and its ``when``."""
        needs = {name: set(step.when) & self.steps.keys() for name, step in self.steps.items()}
        for edge in self.edges:
            if edge.origin in needs:
                needs[edge.target].add(edge.origin)
        return needs

    @functools.cached_property
    def group_of(self) -> dict[str, str]:
        """By step id, the name of the group that a step is in; steps in none are left out."""
        return {step: name for name, group in self.groups.items() for step in group.steps}

    def order(self) -> list[str]:
        """Return the step ids, each after the steps it depends on, else in text order.

        Steps on a cycle, and steps behind one, are left out: compare the length with ``steps``.
        """
        return ordered(self.needs())

    def param_values(self, given: Mapping[str, ParamValue] | None = None) -> dict[str, ParamValue]:
        """Return the value of every parameter: the given one, else the pipeline's, else the environment's.

        :param given: values for this run; None stands for "not given".
        :return: all parameters by name; None where nobody gives a value.
        :raises ConfigError: if a given name is not a parameter.
        """
        given = given or {}
        for name in given:
            if name not in self.params:
                raise ConfigError(
                    f"a parameter must be declared in pipeline {self.pipeline}",
                    got=name,
                    choices=self.params,
                )
        environment = environment_params()
        values: dict[str, ParamValue] = {}
        for name, param in self.params.items():
            value = given.get(name)
            if value is None:
                value = param.default
            values[name] = environment.get(name) if value is None else value
        return values


@dataclass(frozen=True)
class Edge:
    """One output port handed to one input port."""

    origin: str
    origin_port: str
    target: str
    target_port: str


def is_absolute_uri(uri: str) -> bool:
    """Return whether a text is a URI or an absolute path: a relative one differs from process to process."""
    return Path(uri).is_absolute() or bool(urlsplit(uri).scheme)
