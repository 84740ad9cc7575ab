"""Problems with the steps of a pipeline: components, configurations, edges, cycles and the schedule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from modelmill.artifacts import ContentKind
from modelmill.component import AnyComponent
from modelmill.documents.parsing import Finding, Path
from modelmill.errors import ConfigError, InputError, did_you_mean
from modelmill.labels.options import LabelErrorOptions
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.expansion import gathers
from modelmill.pipeline.graph import cycle_in, shown
from modelmill.pipeline.group_checks import (
    gathering_problem,
    tangle_findings,
    undeclared,
)
from modelmill.pipeline.placeholders import placeholders, substitute
from modelmill.pipeline.shape_checks import SCHEDULE_REMEDY, SCHEDULE_RULE, shape_findings
from modelmill.pipeline.spec import Edge, ParamValue, PipelineSpec, StepSpec, TableSchedule, is_absolute_uri
from modelmill.training.options import LabelOptions


def step_findings(spec: PipelineSpec) -> Iterator[Finding]:
    """Yield everything that is wrong with a pipeline's steps and its schedule."""
    yield from _component_findings(spec)
    yield from _edge_findings(spec)
    learned = list(_datasets_to_steps(spec))
    yield from _label_findings(learned)
    yield from _content_findings(spec, learned)
    yield from _cycle_findings(spec)
    yield from _schedule_findings(spec)


def _component_findings(spec: PipelineSpec) -> Iterator[Finding]:
    known, values = catalogue(), spec.param_values()
    for name, step in spec.steps.items():
        at: Path = ("steps", name)
        group = spec.groups.get(spec.group_of.get(name, ""))
        variable = group.variable if group else None
        used = placeholders(step.config)
        for param in sorted(used - {*spec.params, variable}):
            yield (*at, "config"), undeclared(spec, param)
        if step.component not in known:
            remedy = did_you_mean(step.component, known)
            yield (*at, "component"), f"a step's component must be known; got {step.component!r}; {remedy}"
            continue
        component = known[step.component]
        each = [{variable: value} for value in group.values] if group and variable else [{}]
        yield from _config_findings(values, each, step.config, component, (*at, "config"), used=used)
        for port in component.input_ports.values():
            if port.required and port.name not in step.inputs:
                yield (
                    at,
                    (
                        f"component {component.name} needs an input {port.name!r} ({port.type.port_type}); "
                        f"add inputs: {{{port.name}: STEP.PORT}}"
                    ),
                )
        if component.either:
            field, port_name = component.either
            configured, connected = bool(step.config.get(field)), port_name in step.inputs
            if error := component.unmet_choice(configured=configured, connected=connected):
                yield (*at, "config", field) if configured else (*at, "config"), str(error)


def _config_findings(
    params: Mapping[str, ParamValue],
    each: Sequence[Mapping[str, ParamValue]],
    written: Mapping[str, Any],
    component: AnyComponent,
    at: Path,
    *,
    used: set[str],
) -> Iterator[Finding]:
    """Yield what is wrong with a configuration; of several copies (``each``), what one of them shows."""
    seen = set[Path]()
    config = written
    if open_names := {name for name in used if params.get(name, "") is None}:
        config = {key: value for key, value in config.items() if not placeholders(value) & open_names}
    deferred = written.keys() - config.keys()
    for variables in each if used & each[0].keys() else each[:1]:
        found = _refused(component, _substituted(config, {**params, **variables}) if used else config)
        # A field whose parameter has no value yet is checked when the run starts.
        new = [(path, message) for path, message in found if path not in seen and not {*path[:1]} & deferred]
        seen |= {path for path, _ in new}
        yield from (((*at, *path), message) for path, message in new)


def _refused(component: AnyComponent, config: Mapping[str, Any] | None) -> list[Finding]:
    if config is None:
        return []
    try:
        found = component.config.model_validate(config)
        if component.check:
            component.check(found)
    except ValidationError as error:
        return shape_findings(error, component.config)
    except InputError as error:
        return [((), str(error))]
    return []


def _substituted(config: Mapping[str, Any], values: Mapping[str, ParamValue]) -> Mapping[str, Any] | None:
    """Return a configuration with the values of its parameters; None if one is not declared, which is
    reported by itself.
    """
    try:
        found: Mapping[str, Any] = substitute(config, values)
    except ConfigError:
        return None
    return found


def _edge_findings(spec: PipelineSpec) -> Iterator[Finding]:
    known = catalogue()
    for edge in spec.edges:
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


@dataclass(frozen=True)
class _DatasetEdge:
    """An edge from a step that builds a dataset to one that gets it."""

    edge: Edge
    origin: StepSpec
    step: StepSpec
    target: AnyComponent


def _datasets_to_steps(spec: PipelineSpec) -> Iterator[_DatasetEdge]:
    known = catalogue()
    builders = {name for name, step in spec.steps.items() if step.component == "build_dataset"}
    for edge in spec.edges:
        if edge.target_port == "dataset" and edge.origin in builders:
            step = spec.steps[edge.target]
            if target := known.get(step.component):
                yield _DatasetEdge(edge, spec.steps[edge.origin], step, target)


def _label_findings(learned: Iterable[_DatasetEdge]) -> Iterator[Finding]:
    """Yield labels that a dataset of the pipeline does not have, or leaves open."""
    for one in learned:
        edge, target = one.edge, one.target
        labels: Any = one.origin.config.get("labels")
        label = one.step.config.get("label")
        known = isinstance(labels, list) and all(isinstance(name, str) for name in labels)
        if not known or "label" not in target.config.model_fields or placeholders([labels, label]):
            continue  # checked when the run starts
        only = len(labels) == 1 or not issubclass(target.config, LabelOptions | LabelErrorOptions)
        if label in labels or (label is None and only):
            continue
        got = "no label" if label is None else repr(label)
        remedy = f"add label: {labels[0]}" if label is None else did_you_mean(str(label), labels)
        rule = f"label must name a label column of step {edge.origin!r}: {', '.join(labels)}"
        yield ("steps", edge.target, "config"), f"{rule}; got {got}; {remedy}"


def _content_findings(spec: PipelineSpec, learned: Iterable[_DatasetEdge]) -> Iterator[Finding]:
    """Yield steps that get a dataset of the pipeline with nothing in it that they can work on."""
    values = spec.param_values()
    for one in learned:
        edge, target = one.edge, one.target
        given = [kind for kind in get_args(ContentKind) if one.origin.config.get(kind) is not None]
        if given and not {*given} & {*target.reads}:
            able = [name for name, known in catalogue().items() if "dataset" in known.input_ports]
            able = sorted(name for name in able if {*given} <= {*catalogue()[name].reads})
            yield (
                ("steps", edge.target, "inputs", edge.target_port),
                (
                    f"{target.name} works on {' and '.join(f'{kind}s' for kind in target.reads)}; step "
                    f"{edge.origin!r} makes a dataset of {' and '.join(f'{kind}s' for kind in given)} alone; "
                    f"remove the step (what works on {given[0]}s: {', '.join(able)}), or name a "
                    f"{target.reads[0]} column in {edge.origin!r}"
                ),
            )
        elif len(given) == 1 and (why := _unreadable(target, one.step.config, values, given[0])):
            yield (
                ("steps", edge.target, "config"),
                f"{why}; step {edge.origin!r} makes a dataset of {given[0]}s alone",
            )


def _unreadable(
    target: AnyComponent, config: Mapping[str, Any], values: Mapping[str, ParamValue], kind: ContentKind
) -> str | None:
    """Return why a step cannot work on one kind of content as it is configured; None if it can, or if the
    configuration is refused by itself.
    """
    if target.cannot_read is None or (settled := _substituted(config, values)) is None:
        return None
    try:
        return target.cannot_read(target.config.model_validate(settled), kind)
    except ValidationError:
        return None


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
        yield ("schedule",), f"{SCHEDULE_RULE}; got {schedule!r}; {SCHEDULE_REMEDY}"
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
    if not is_absolute_uri(place):
        yield (
            at,
            (
                "a table that starts a pipeline is named by an absolute path or a URI; "
                f"got {place!r}; a relative path means another place in each process"
            ),
        )
