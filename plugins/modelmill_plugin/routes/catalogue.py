"""The palette: every component with its ports and the schema of its form."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelmill.component import AnyComponent, Port
from modelmill.pipeline.catalogue import catalogue
from modelmill.redaction import redacted_value
from modelmill.settings import environment_params
from modelmill_plugin.errors import error_responses
from modelmill_plugin.security import READ, User
from modelmill_plugin.views import may

router = APIRouter(tags=["catalogue"])


class PortView(BaseModel):
    """One input or output of a component."""

    name: str
    type: str = Field(description="Type of the reference, such as table, dataset or model.")
    required: bool
    many: bool = Field(description="Whether it takes several edges (inputs only).")
    accepts: list[str] = Field(description="Types of output ports that an edge may come from (inputs only).")


class ResourcesView(BaseModel):
    """What a step needs of the machine it runs on."""

    gpus: int
    cpus: float
    memory_gb: float


class ComponentView(BaseModel):
    """A kind of step."""

    name: str
    title: str
    group: str
    help: str
    version: int
    inputs: list[PortView]
    outputs: list[PortView]
    config_schema: dict[str, Any] = Field(description="JSON Schema of the configuration.")
    resources: ResourcesView


class Catalogue(BaseModel):
    """What a pipeline can be made of."""

    components: list[ComponentView]
    groups: list[str] = Field(description="Headings of the palette, in its order.")
    params: dict[str, str] = Field(description="The deployment's defaults for parameters, by name.")
    may_create: bool = Field(description="Whether the user may save new pipelines.")


@router.get("/catalogue", dependencies=[READ], responses=error_responses())
def get_catalogue(user: User) -> Catalogue:
    """Return every component that a pipeline can use, in the palette's order."""
    components = [_component(component) for component in catalogue().values()]
    groups = list(dict.fromkeys(component.group for component in components))
    return Catalogue(
        components=components,
        groups=groups,
        params={name: redacted_value(name, value) for name, value in environment_params().items()},
        may_create=may("PUT", None, user),
    )


def _component(component: AnyComponent) -> ComponentView:
    return ComponentView(
        name=component.name,
        title=component.title,
        group=component.group,
        help=component.help,
        version=component.version,
        inputs=[_port(port, accepts=_accepted(port)) for port in component.input_ports.values()],
        outputs=[_port(port, accepts=[]) for port in component.output_ports.values()],
        config_schema=component.config.model_json_schema(),
        resources=ResourcesView(
            gpus=component.resources.gpus,
            cpus=component.resources.cpus,
            memory_gb=component.resources.memory_gb,
        ),
    )


def _port(port: Port, *, accepts: list[str]) -> PortView:
    return PortView(
        name=port.name, type=port.type.port_type, required=port.required, many=port.many, accepts=accepts
    )


def _accepted(port: Port) -> list[str]:
    outputs = (source for component in catalogue().values() for source in component.output_ports.values())
    return sorted({source.type.port_type for source in outputs if port.accepts(source)})
