"""Reading a pipeline's text and listing everything that is wrong with it, each problem with its position."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from modelmill.component import AnyComponent
from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.parsing import Finding, Path, fields_at, parse_document, read_text, shape_message
from modelmill.errors import ConfigError, PipelineError, Problem, did_you_mean, shorten
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.expansion import gathers
from modelmill.pipeline.flow_checks import (
    FOR_EACH_REMEDY,
    FOR_EACH_RULE,
    gathering_problem,
    group_findings,
    size_findings,
    tangle_findings,
    undeclared,
    when_findings,
)
from modelmill.pipeline.graph import cycle_in, shown
from modelmill.pipeline.spec import (
    Edge,
    ParamValue,
    PipelineSpec,
    StepSpec,
    TableSchedule,
    names_a_place,
    placeholders,
    substitute,
)

MAX_BYTES = 1_000_000
"""A longer text is no pipeline that a person wrote or can read."""


def load_pipeline(url: str) -> PipelineSpec:
    """Read and validate a pipeline.

    :param url: path or fsspec URL of a YAML or JSON file.
    :return: the pipeline.
    :raises PipelineError: if it cannot be read or breaks a rule; all problems are listed.
    """
    text = read_text(url, what="a pipeline", most_bytes=MAX_BYTES, error=PipelineError)
    return parse_pipeline(text, source=url)


def parse_pipeline(text: str, *, source: str = "pipeline") -> PipelineSpec:
    """Parse and validate a pipeline's text.

    :param text: YAML or JSON.
    :param source: name of the text, for messages.
    :return: the pipeline.
    :raises PipelineError: if it breaks a rule; all problems are listed.
    """
    _, spec, problems = check_text(text, source=source)
    if spec is None:
        raise PipelineError(problems, source=source)
    return spec


def check_text(text: str, *, source: str = "pipeline") -> tuple[Any, PipelineSpec | None, set[Problem]]:
    """Parse and check a pipeline's text in one go.

    :param text: YAML or JSON.
    :param source: name of the text, for messages.
    :return: what YAML or JSON gave, the pipeline (None if there are problems), and everything that is wrong.
    :raises PipelineError: if it is no YAML.
    """
    document = parse_document(text, source=source, error=PipelineError)
    spec, findings = check_document(document.content)
    problems = document.problems(findings)
    return document.content, None if problems else spec, problems


def check_document(document: Any) -> tuple[PipelineSpec | None, list[Finding]]:
    """Check a pipeline that has been parsed: its shape, its components, configurations, edges and parameters.

    :param document: what YAML or JSON gave.
    :return: the pipeline, or None if it has not even the right shape, and everything that is wrong.
    """
    if not isinstance(document, Mapping):
        return None, [((), f"a pipeline is a mapping; got {shorten(document)}")]
    try:
        spec = PipelineSpec.model_validate(document)
    except ValidationError as error:
        findings = _shape_findings(error, PipelineSpec)
        # What has the right shape is checked all the same, so that one round lists everything.
        salvaged = _salvage(document, error)
        return None, findings + (_semantic_findings(salvaged) if salvaged else [])
    return spec, _semantic_findings(spec)


def _salvage(document: Mapping[Any, Any], error: ValidationError) -> PipelineSpec | None:
    """Return the pipeline without the keys that have the wrong shape, if one is left."""
    steps = document.get("steps")
    if not isinstance(steps, Mapping):
        return None
    left_steps = {name: dict(step) for name, step in steps.items() if isinstance(step, Mapping)}
    left: dict[Any, Any] = {**document, "steps": left_steps}
    for detail in error.errors(include_url=False, include_context=False):
        place = detail["loc"]
        if place[0] == "groups":
            # Their variables stay known, with values that are not: configurations are checked all the same.
            left.pop("groups", None)
            left["params"] = {**{name: {} for name in _variables(document)}, **(left.get("params") or {})}
        elif place[0] != "steps":
            left.pop(place[0], None)
        elif len(place) > 2:
            left_steps.get(place[1], {}).pop(place[2], None)
    try:
        return PipelineSpec.model_validate({"pipeline": "salvaged", **left})
    except ValidationError:
        return None


def _variables(document: Mapping[Any, Any]) -> Iterator[str]:
    groups = document.get("groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        for_each = group.get("for_each") if isinstance(group, Mapping) else None
        for name in for_each if isinstance(for_each, Mapping) else ():
            if isinstance(name, str) and re.match(NAME_PATTERN, name):
                yield name


def _semantic_findings(spec: PipelineSpec) -> list[Finding]:
    if too_many := list(size_findings(spec)):
        return too_many
    return [
        *group_findings(spec),
        *when_findings(spec, catalogue()),
        *_component_findings(spec),
        *_edge_findings(spec),
        *_cycle_findings(spec),
        *_schedule_findings(spec),
    ]


def _component_findings(spec: PipelineSpec) -> Iterator[Finding]:
    known, values = catalogue(), spec.param_values()
    for name, step in spec.steps.items():
        at: Path = ("steps", name)
        group = spec.groups.get(spec.group_of.get(name, ""))
        variable = group.variable if group else None
        for param in sorted(placeholders(step.config) - {*spec.params, variable}):
            yield (*at, "config"), undeclared(spec, param)
        if step.component not in known:
            remedy = did_you_mean(step.component, known)
            yield (*at, "component"), f"a step's component must be known; got {step.component!r}; {remedy}"
            continue
        component = known[step.component]
        each = [{variable: value} for value in group.values] if group and variable else [{}]
        yield from _config_findings(values, each, step, component, (*at, "config"))
        for port in component.input_ports.values():
            if port.required and port.name not in step.inputs:
                yield (
                    at,
                    (
                        f"component {component.name} needs an input {port.name!r} ({port.type.port_type}); "
                        f"add inputs: {{{port.name}: STEP.PORT}}"
                    ),
                )


def _config_findings(
    params: Mapping[str, ParamValue],
    each: Sequence[Mapping[str, ParamValue]],
    step: StepSpec,
    component: AnyComponent,
    at: Path,
) -> Iterator[Finding]:
    """Yield what is wrong with a configuration; of several copies (``each``), what one of them shows."""
    used, seen = placeholders(step.config), set[Path]()
    open_names = {name for name, value in params.items() if value is None}
    config = {key: value for key, value in step.config.items() if not placeholders(value) & open_names}
    deferred = set(step.config) - set(config)
    for variables in each if used & each[0].keys() else each[:1]:
        found = _refused(component, config, {**params, **variables})
        # A field whose parameter has no value yet is checked when the run starts.
        new = [(path, message) for path, message in found if path not in seen and not {*path[:1]} & deferred]
        seen |= {path for path, _ in new}
        yield from (((*at, *path), message) for path, message in new)


def _refused(
    component: AnyComponent, config: Mapping[str, Any], values: Mapping[str, ParamValue]
) -> list[Finding]:
    try:
        component.config.model_validate(substitute(config, values))
    except ConfigError:
        pass  # an undeclared parameter, reported elsewhere
    except ValidationError as error:
        return _shape_findings(error, component.config)
    return []


def _edge_findings(spec: PipelineSpec) -> Iterator[Finding]:
    known = catalogue()
    for edge in spec.edges():
        at: Path = ("steps", edge.target, "inputs", edge.target_port)
        target = known.get(spec.steps[edge.target].component)
        if target and edge.target_port not in target.input_ports:
            remedy = did_you_mean(edge.target_port, target.input_ports)
            yield at, f"component {target.name} has no input {edge.target_port!r}; {remedy}"
            continue
        if edge.origin not in spec.steps:
            remedy = did_you_mean(edge.origin, spec.steps)
            yield at, f"an input names a step of this pipeline; got {edge.origin!r}; {remedy}"
            continue
        origin = known.get(spec.steps[edge.origin].component)
        if origin and edge.origin_port not in origin.output_ports:
            remedy = did_you_mean(edge.origin_port, origin.output_ports)
            yield at, f"step {edge.origin!r} ({origin.name}) has no output {edge.origin_port!r}; {remedy}"
            continue
        if origin and target:
            yield from _type_findings(spec, edge, origin, target, at)


def _type_findings(
    spec: PipelineSpec, edge: Edge, origin: AnyComponent, target: AnyComponent, at: Path
) -> Iterator[Finding]:
    source, sink = origin.output_ports[edge.origin_port], target.input_ports[edge.target_port]
    if not sink.accepts(source):
        fitting = [
            f"{name}.{port.name}"
            for name, step in spec.steps.items()
            if name != edge.target and step.component in catalogue()
            for port in catalogue()[step.component].output_ports.values()
            if sink.accepts(port)
        ]
        yield (
            at,
            (
                f"input {sink.name!r} of {target.name} takes a {sink.type.port_type}; "
                f"got {edge.origin}.{source.name}, a {source.type.port_type}; "
                f"fitting outputs here: {', '.join(fitting) or 'none'}"
            ),
        )
    if not sink.many and gathers(spec, edge.origin, edge.target):
        yield at, gathering_problem(spec, edge.origin, edge.target, sink.name)
    elif not sink.many and not isinstance(spec.steps[edge.target].inputs[edge.target_port], str):
        yield at, f"input {sink.name!r} of {target.name} takes one edge; write STEP.PORT instead of a list"


def _cycle_findings(spec: PipelineSpec) -> Iterator[Finding]:
    cycle = cycle_in(spec.needs())
    if not cycle:
        yield from tangle_findings(spec)
        return
    step, before = cycle[0], cycle[1 % len(cycle)]
    at: Path = ("steps", step, "when" if before in spec.steps[step].when else "inputs")
    yield at, f"a pipeline has no cycles; got {shown(cycle)}; remove one of these edges"


def _schedule_findings(spec: PipelineSpec) -> Iterator[Finding]:
    schedule = spec.schedule
    if isinstance(schedule, str) and not schedule.startswith("@") and len(schedule.split()) != 5:
        yield ("schedule",), f"{_SCHEDULE_RULE}; got {schedule!r}; {_SCHEDULE_REMEDY}"
    if isinstance(schedule, TableSchedule):
        for index, table in enumerate(schedule.tables):
            at: Path = ("schedule", "table")
            yield from _table_findings(spec, table, at if isinstance(schedule.table, str) else (*at, index))


def _table_findings(spec: PipelineSpec, table: str, at: Path) -> Iterator[Finding]:
    values = spec.param_values()
    unknown = sorted(placeholders(table) - set(values))
    for param in unknown:
        yield at, undeclared(spec, param)
    if unknown or any(values[name] is None for name in placeholders(table)):
        return  # a parameter without a value yet: the loader asks for it
    place = str(substitute(table, values))
    if not names_a_place(place):
        yield (
            at,
            (
                "a table that starts a pipeline is named by an absolute path or a URI; "
                f"got {place!r}; a relative path means another place in each process"
            ),
        )


_RESOURCES_RULE = (
    "a step's resources are gpus, gpu_memory_gb, share_gpu, cpus, memory_gb and the name of a profile"
)
_SCHEDULE_RULE = "a schedule is a cron expression of five fields, {table: URI}, {assets: [URI, ...]} or null"
_SCHEDULE_REMEDY = "for every night at two write '0 2 * * *', for each new version of a table {table: URI}"


def _shape_findings(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    findings: dict[Finding, None] = {}  # in order; a union reports each of its branches
    for detail in error.errors(include_url=False, include_context=False):
        path, message = _clean(detail["loc"]), _shape_message(detail, model)
        if model is PipelineSpec and path[:1] == ("schedule",):
            if detail["loc"] != ("schedule", "str"):
                continue  # another branch of the union, about a part of the same value
            message = f"{_SCHEDULE_RULE}; got {shorten(detail['input'])}; {_SCHEDULE_REMEDY}"
        if model is PipelineSpec and len(path) > 3 and path[2] == "inputs":
            path = path[:4]
            message = f"an input is written STEP.PORT, or a list of those; got {shorten(detail['input'])}"
        if model is PipelineSpec and path[:1] == ("groups",) and path[2:3] == ("for_each",):
            path = path[:3]
            if any(path == known for known, _ in findings):
                continue  # another value, or another branch of the union
            message = f"{FOR_EACH_RULE}; got {shorten(detail['input'])}; {FOR_EACH_REMEDY}"
        findings[path, message] = None
    return list(findings)


def _clean(location: tuple[str | int, ...]) -> Path:
    """Drop what pydantic adds to a location: branches of unions, ``[key]``."""
    return tuple(
        part
        for part in location
        if isinstance(part, int) or not (part == "[key]" or "[" in part or part in _UNION_BRANCHES)
    )


_UNION_BRANCHES = frozenset({"str", "int", "float", "bool", "none"})


def _shape_message(detail: Any, model: type[BaseModel]) -> str:
    if NAME_PATTERN in detail["msg"]:
        rule = "a name has at most 63 of a-z, 0-9 and _, and begins with a letter"
        return f"{rule}; got {shorten(detail['input'])}"
    if detail["type"] == "extra_forbidden" and model is PipelineSpec and detail["loc"][2:3] == ("resources",):
        # Whoever may write a pipeline must not choose an image, a command or an account by it.
        return (
            f"{_RESOURCES_RULE}; got {detail['loc'][-1]!r}; an administrator describes machines in profiles"
        )
    return shape_message(detail, fields_at(model, detail["loc"][:-1]))
