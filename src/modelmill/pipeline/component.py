"""What a kind of step is, declared once.

The operator, the canvas palette and form, the CLI, validation and the reference docs all read the same
declaration, so a declaration must import nothing heavy: ``run`` imports what it needs when it is called.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from modelmill.artifacts import DatasetRef, Reference, TableRef

if typing.TYPE_CHECKING:
    from modelmill.registry.tracking import TrackedRun
    from modelmill.settings import Settings


class Config(BaseModel):
    """Base of every component's configuration: unknown keys are refused, instances are frozen.

    Describe each field with ``Field(description=…)``: the canvas shows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(BaseModel):
    """Base of a component's input ports: each field is annotated with the reference type it takes.

    ``X`` is a required port, ``X | None = None`` an optional one, ``tuple[X, ...]`` takes several edges.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Outputs(BaseModel):
    """Base of a component's output ports: each field is annotated with the reference type it yields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ConfigT = TypeVar("ConfigT", bound=Config)
InputsT = TypeVar("InputsT", bound=Inputs)
OutputsT = TypeVar("OutputsT", bound=Outputs)


@dataclass(frozen=True)
class Resources:
    """What a step needs of the machine it runs on."""

    gpus: int = 0
    """Devices it uses where there are some; without one the same step runs on the CPU."""
    gpu_memory_gb: float = 0
    """Memory that must be free on each of them, in 10^9 bytes."""
    share_gpu: bool = False
    """Whether other steps that say so too may use the same devices at the same time."""
    cpus: float = 1
    memory_gb: float = 2
    """Main memory, in 10^9 bytes."""


@dataclass(frozen=True)
class Assets:
    """URIs that a step reads and writes, known before it runs: Airflow's inlets and outlets."""

    inlets: tuple[str, ...] = ()
    outlets: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()
    """Outlets that are updated only if the step's :attr:`Component.events` name them."""


@dataclass(frozen=True)
class Port:
    """One input or output of a component."""

    name: str
    type: type[Reference]
    required: bool = True
    many: bool = False
    """Whether it takes several edges (inputs only)."""

    def accepts(self, source: Port) -> bool:
        """Return whether an edge may run from the output port ``source`` to this input port.

        A dataset is a table, so a port for tables takes datasets too.

        :param source: an output port.
        :return: True if the types go together.
        """
        return issubclass(source.type, self.type) or (self.type is TableRef and source.type is DatasetRef)


class Progress(Protocol):
    """Called by long work; prints at most every few seconds."""

    def __call__(self, done: float, total: float, **figures: float) -> None:
        """Say how far the work is.

        :param done: units done.
        :param total: units in all.
        :param **figures: live figures to show beside it, such as ``loss=0.12``.
        """


@dataclass(frozen=True)
class StepContext:
    """What a component's ``run`` gets besides configuration and inputs."""

    pipeline: str
    step: str
    step_key: str
    run: TrackedRun
    """The step's MLflow run."""
    workdir: Path
    """Directory of this step key: survives a dead attempt (checkpoints), is kept for the next one."""
    cache: Path
    """Directory shared by all steps for things that can be made again, named by content."""
    settings: Settings
    progress: Progress
    log: Callable[[str], None] = print


@dataclass(frozen=True)
class Component(Generic[ConfigT, InputsT, OutputsT]):
    """A kind of step."""

    name: str
    title: str
    """What the palette shows."""
    group: str
    """Heading of the palette it stands under: ``Data``, ``Train``, ``Compress``, ``Check``, ``Release``."""
    config: type[ConfigT]
    inputs: type[InputsT]
    outputs: type[OutputsT]
    run: Callable[[ConfigT, InputsT, StepContext], OutputsT]
    version: int = 1
    """Raised when the same input would give another result: part of the step key."""
    resources: Resources = field(default_factory=Resources)
    outside_state: Callable[[ConfigT, InputsT, Settings], str] | None = None
    """Fingerprint of what the step reads from outside its inputs (a table's version, an alias): part of the
    step key, so that a step is reused exactly when nothing that it reads has changed. None: reads nothing."""
    still_true: Callable[[OutputsT, Settings], bool] | None = None
    """Whether a finished result may still be reused, for results that others can undo (an alias, a table).
    None: always."""
    assets: Callable[[ConfigT, Mapping[str, Config]], Assets] | None = None
    """From the step's configuration, and that of the step that made what each input port gets."""

    events: Callable[[ConfigT, OutputsT], tuple[str, ...]] | None = None
    """Which of its conditional outlets a finished step has updated, from what it yields. None: none."""

    hands_on: str | None = None
    """Input port, of one edge, whose reference the step yields again. None: what it yields is its own."""

    @property
    def help(self) -> str:
        """First paragraph of the configuration's docstring."""
        return (self.config.__doc__ or "").strip().split("\n\n")[0]

    @property
    def input_ports(self) -> dict[str, Port]:
        """Input ports by name."""
        return _ports(self.inputs)

    @property
    def output_ports(self) -> dict[str, Port]:
        """Output ports by name."""
        return _ports(self.outputs)


AnyComponent = Component[Any, Any, Any]


@functools.cache
def _ports(model: type[BaseModel]) -> dict[str, Port]:
    return {
        name: _port(name, info.annotation, required=info.is_required())
        for name, info in model.model_fields.items()
    }


def _port(name: str, annotation: Any, *, required: bool) -> Port:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return Port(name, arguments[0], required=required, many=True)
    if origin in (types.UnionType, typing.Union):
        (annotation,) = [argument for argument in arguments if argument is not type(None)]
    return Port(name, annotation, required=required)
