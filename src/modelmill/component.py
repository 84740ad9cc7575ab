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
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from modelmill.artifacts import ContentKind, DatasetRef, Reference, TableRef
from modelmill.errors import ConfigError
from modelmill.options import Options, Record
from modelmill.settings import Settings
from modelmill.system.resources import Resources
from modelmill.workspace import Workspace

if typing.TYPE_CHECKING:
    from modelmill.registry.tracking import TrackedRun


class Config(Options):
    """Base of every component's configuration: unknown keys are refused, instances are frozen.

    Describe each field with ``Field(description=…)``: the canvas shows it.
    """


class Inputs(Record):
    """Base of a component's input ports: each field is annotated with the reference type it takes.

    ``X`` is a required port, ``X | None = None`` an optional one, ``tuple[X, ...]`` takes several edges.
    """


class Outputs(Record):
    """Base of a component's output ports: each field is annotated with the reference type it yields."""


GROUPS = ("Data", "Train", "Compress", "Check", "Release")
"""Headings of the palette, in its order; groups of other distributions come after them."""

ConfigT = TypeVar("ConfigT", bound=Config)
InputsT = TypeVar("InputsT", bound=Inputs)
OutputsT = TypeVar("OutputsT", bound=Outputs)


MODEL_ASSET = "mlflow-model://"
"""How the asset of a registered model begins; its name follows."""


@dataclass(frozen=True)
class Assets:
    """URIs that a step reads and writes, known before it runs: Airflow's inlets and outlets."""

    inlets: tuple[str, ...] = ()
    outlets: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()
    """Outlets that are updated only if the step's :attr:`Component.events` name them."""


def writes_to(config: Any, _upstream: Mapping[str, Config]) -> Assets:
    """Return the assets of a step that writes the table under ``to``, if its configuration names one."""
    return Assets(outlets=(config.to,) if config.to else ())


class Budget(Record):
    """What a step may be billed by others, such as the endpoint of a language model."""

    limit: float
    unit: Literal["money", "tokens"]
    """Money is in the currency of the prices that the step's configuration gives."""

    @property
    def metric(self) -> str:
        """Metric under which a finished run has logged what it accounted for."""
        return f"accounted_{self.unit}"


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
        """
        return issubclass(source.type, self.type) or (self.type is TableRef and source.type is DatasetRef)


@dataclass(frozen=True, kw_only=True)
class StepContext(Workspace):
    """What a component's ``run`` gets besides configuration and inputs."""

    pipeline: str
    step: str
    step_key: str
    run: TrackedRun
    """The step's MLflow run; it is the workspace's tracker too."""
    settings: Settings
    replaces: str = ""
    """MLflow run that made the same result, which no longer holds; empty if there is none."""

    @property
    def transaction(self) -> str:
        """Id under which a table is committed once: every attempt has the same."""
        return f"{self.step_key}-{self.replaces}" if self.replaces else self.step_key

    def table(self, kind: str, named: str | None) -> str:
        """Return the table to write: the one that is named, else the step's own of this kind in the home."""
        return named or str(self.settings.home / kind / self.pipeline / self.step)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tracker", self.run)


@dataclass(frozen=True)
class Component(Generic[ConfigT, InputsT, OutputsT]):
    """A kind of step."""

    name: str
    title: str
    """What the palette shows."""
    group: str
    """Heading of the palette it stands under: one of :data:`GROUPS`, or one of its own."""
    config: type[ConfigT]
    inputs: type[InputsT]
    outputs: type[OutputsT]
    run: Callable[[ConfigT, InputsT, StepContext], OutputsT]
    version: int = 1
    """Raised when the same input would give another result: part of the step key."""
    resources: Resources = field(default_factory=Resources)
    reads: tuple[ContentKind, ...] = ("text", "image")
    """What it can work on of a dataset among its inputs. A pipeline that gives it anything else is refused
    when it is checked."""
    cannot_read: Callable[[ConfigT, ContentKind], str | None] | None = None
    """Why it cannot work on a dataset of one kind of content alone as it is configured, with the remedy; None
    if it can. A pipeline is refused with it when it is checked, as by :attr:`reads`."""
    check: Callable[[ConfigT], None] | None = None
    """Raises an :class:`~modelmill.errors.InputError` for what cannot work, as far as the files that a
    configuration names show it: before anything runs. None: there is nothing to look at."""
    outside_state: Callable[[ConfigT, InputsT, Settings], str] | None = None
    """Fingerprint of what the step reads beside its inputs (files, an alias): part of the step key, as the
    state of the tables among its inputs is, so that a step is reused exactly when nothing that it reads has
    changed. None: reads nothing."""
    extensions: tuple[str, ...] = ()
    """Groups of entry points whose code it may run. The distributions that add to them, with their versions,
    are part of the step key: a new version of one makes the step run again."""
    still_valid: Callable[[OutputsT, Settings], bool] | None = None
    """Whether a finished result may still be reused, for results that others can undo, such as an alias. That
    the tables which the step made are there, as it made them, is looked at in any case."""
    assets: Callable[[ConfigT, Mapping[str, Config]], Assets] | None = None
    """From the step's configuration, and that of the step that made what each input port gets."""

    events: Callable[[ConfigT, OutputsT], tuple[str, ...]] | None = None
    """Which of its conditional outlets a finished step has updated, from what it yields. None: none."""

    live: bool = False
    """Whether it changes what people and services use, such as an alias or a deployment, or asks a person to.
    A run of a backfill skips it: a past night changes nothing that is in use today."""

    connection: str | None = None
    """Field of the configuration that names an Airflow connection to a language model. Only the step's
    process gets its URL and its secret, as environment variables. None: there is none."""

    budget: Callable[[ConfigT], Budget | None] | None = None
    """What the step may be billed by others at most, as it is configured: a forecast says it before a run
    starts. None, or from what it returns: nobody bills anything."""

    forwards: str | None = None
    """Input port, of one edge, whose reference the step yields again. None: what it yields is its own."""

    either: tuple[str, str] | None = None
    """Field of the configuration and input port of which a step needs one, and may not have both. None: there
    are no such two."""

    def unmet_choice(self, *, configured: bool, connected: bool) -> ConfigError | None:
        """Return what is wrong with the choice that :attr:`either` leaves.

        :param configured: whether the field has a value.
        :param connected: whether the port has an edge.
        :return: the error; None if there is exactly one of both, or nothing to choose.
        """
        if self.either is None or configured != connected:
            return None
        field, port = self.either
        return ConfigError(
            f"{self.name} takes {field}, in its configuration, or an input {port}: one of the two",
            got="both" if configured else "neither",
            remedy="remove one of them" if configured else f"set {field}, or connect {port}",
        )

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
