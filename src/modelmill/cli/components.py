"""The description of a component, made from its declaration: for a terminal, and as docs/components.md."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from modelmill.component import AnyComponent, Port

PAGE_HEAD = """\
# Components

The kinds of steps that a pipeline is made of, as in `component: fine_tune`. Each has input ports (`inputs:
{dataset: STEP.PORT}`), output ports, and a configuration (`config: {…}`). A field without a default is
required; *empty* is `null` in YAML. `modelmill components NAME` prints the same for one component, those of
other distributions included.

`modelmill components --markdown` writes this page.
"""

_Schema = Mapping[str, Any]
_LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_FORMATS = {"date": "date", "date-time": "date and time", "time": "time of day", "duration": "duration"}


class _WithMadeDefaults(GenerateJsonSchema):
    """Also says defaults that a ``default_factory`` makes, which pydantic leaves out."""

    def get_default_value(self, schema: Any) -> Any:
        if "default_factory" in schema and not schema.get("default_factory_takes_data"):
            made = schema["default_factory"]()
            # The defaults of a part with fields of its own stand where these are described.
            return made.model_dump(exclude_unset=True) if isinstance(made, BaseModel) else made
        return super().get_default_value(schema)


@dataclass(frozen=True)
class _Field:
    name: str
    type: str
    default: str
    """As YAML has it; ``required`` if there is none."""
    description: str


@dataclass(frozen=True)
class _Form:
    """The fields of a configuration, or of a part of one."""

    name: str
    """Empty for the configuration itself."""
    description: str
    fields: tuple[_Field, ...]


def component_text(component: AnyComponent) -> str:
    """Return what a component is, for a terminal: its ports, its resources and its fields."""
    blocks = [f"{component.name} ({component.group}): {component.title}", _docstring(component)]
    for heading, ports in (("Inputs", component.input_ports), ("Outputs", component.output_ports)):
        blocks.append("\n".join([heading, *(f"  {name:24} {_port(port)}" for name, port in ports.items())]))
    blocks.append(f"Resources\n  {_resources(component)}")
    for form in _forms(component):
        lines = [form.name or "Configuration", *([_wrapped(form.description, 2)] if form.name else [])]
        for field in form.fields:
            lines += [f"  {field.name:24} {field.type}; {field.default}", _wrapped(field.description, 6)]
        blocks.append("\n".join(line for line in lines if line))
    return "\n\n".join(blocks)


def components_page(components: Iterable[AnyComponent]) -> str:
    """Return the Markdown page about components, in the given order, a heading for each group.

    :param components: those to describe, the ones of a group together.
    :return: the page.
    """
    parts, group = [PAGE_HEAD], ""
    for component in components:
        if component.group != group:
            group = component.group
            parts.append(f"## {group}\n")
        parts += _section(component)
    return "\n".join(parts)


def _section(component: AnyComponent) -> Iterator[str]:
    yield f"### {component.name}\n\n{_docstring(component)}\n"
    for what, ports in (("Inputs", component.input_ports), ("Outputs", component.output_ports)):
        shown = ", ".join(f"`{name}` ({_port(port)})" for name, port in ports.items())
        yield f"{what}: {shown or 'none'}.  "
    yield f"Resources: {_resources(component)}.\n"
    for form in _forms(component):
        if form.name:
            yield f"*{form.name}*: {form.description}\n"
        if form.fields:
            rows = ["| field | type | default | |", "| --- | --- | --- | --- |"]
            for field in form.fields:
                default = field.default if field.default in ("required", "empty") else f"`{field.default}`"
                cells = (f"`{field.name}`", field.type, default, field.description)
                rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            yield "\n".join(rows) + "\n"


def _docstring(component: AnyComponent) -> str:
    paragraphs = (component.config.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(map(_plain, paragraphs))


def _plain(text: str) -> str:
    """Return a docstring's paragraph on one line."""
    return " ".join(text.replace("``", "`").split())


def _port(port: Port) -> str:
    kind = f"{port.type.port_type}{', one or several' if port.many else ''}"
    return kind if port.required else f"{kind}, optional"


def _resources(component: AnyComponent) -> str:
    needs = component.resources
    parts = [f"{needs.cpus:g} CPU{'s' if needs.cpus != 1 else ''}", f"{needs.memory_gb:g} GB of memory"]
    if needs.gpus:
        devices = f"{needs.gpus} GPU{'s' if needs.gpus != 1 else ''} if there are any"
        memory = f", with {needs.gpu_memory_gb:g} GB free" if needs.gpu_memory_gb else ""
        parts.append(f"{devices}{memory}{', shared' if needs.share_gpu else ''}")
    return ", ".join(parts)


def _forms(component: AnyComponent) -> Iterator[_Form]:
    """Yield a component's configuration, then each part of it that has fields of its own."""
    schema = component.config.model_json_schema(schema_generator=_WithMadeDefaults)
    yield _Form("", "", _fields(schema))
    for name, part in schema.get("$defs", {}).items():
        yield _Form(name, _plain(part.get("description", "")), _fields(part))


def _fields(schema: _Schema) -> tuple[_Field, ...]:
    required = schema.get("required", ())
    return tuple(
        _Field(
            name=name,
            type=_type(field),
            default="required" if name in required else _default(field.get("default")),
            description=_plain(field.get("description", "")),
        )
        for name, field in schema.get("properties", {}).items()
    )


def _type(schema: _Schema) -> str:
    """Return a type as people read it."""
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:  # that null is allowed is said by the default and the description
        return " or ".join(_type(choice) for choice in choices if choice.get("type") != "null")
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"mapping to {_type(schema.get('additionalProperties', {}))}"
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    limits = [f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema]
    return " ".join([str(schema.get("type", "any value")), ", ".join(limits)]).strip()


def _default(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, 100, initial_indent=" " * indent, subsequent_indent=" " * indent)
