"""What can be wrong with groups, ``for_each`` and ``when``, each problem at its place in the written text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modelmill.component import AnyComponent
from modelmill.documents.parsing import Finding, Path
from modelmill.errors import did_you_mean, shorten
from modelmill.pipeline.conditions import verdict_port
from modelmill.pipeline.expansion import copy_ids, gathers, slug
from modelmill.pipeline.graph import cycle_in, shown
from modelmill.pipeline.placeholders import placeholders
from modelmill.pipeline.spec import GroupSpec, PipelineSpec, Value

MOST_COPIES = 5_000
"""Copies of steps in a pipeline: a few lines of YAML can stand for millions."""
LONGEST_ID = 63

FOR_EACH_RULE = "a for_each is one variable and the list of its values, such as {topic: [grain, crude]}"
FOR_EACH_REMEDY = (
    "write the values out: Airflow has to know the steps before a run starts, so no parameter can give them"
)


def size_findings(spec: PipelineSpec) -> Iterator[Finding]:
    """Yield a problem if a pipeline's copies are too many to be looked at one by one."""
    copies = sum(len(group.steps) * len(group.values) for group in spec.groups.values())
    if copies > MOST_COPIES:
        rule = f"the groups with for_each stand for at most {MOST_COPIES:,} steps"
        yield ("groups",), f"{rule}; got {copies:,}; split the pipeline into several"


def group_findings(spec: PipelineSpec) -> Iterator[Finding]:
    """Yield everything that is wrong with a pipeline's groups."""
    group_of: dict[str, str] = {}
    taken = dict.fromkeys(spec.steps, "is a step of this pipeline")
    for name, group in spec.groups.items():
        for index, step in enumerate(group.steps):
            at: Path = ("groups", name, "steps", index)
            if step not in spec.steps:
                remedy = did_you_mean(step, spec.steps)
                yield at, f"a group names steps of this pipeline; got {step!r}; {remedy}"
            elif step in group_of:
                other = f"in group {group_of[step]!r} too" if group_of[step] != name else "twice"
                yield at, f"a step is in one group at most; got {step!r}, {other}; remove it here or there"
            group_of.setdefault(step, name)
        if group.for_each:
            yield from _value_findings(spec, group, ("groups", name, "for_each"))
            yield from _copy_findings(group, ("groups", name, "for_each"), taken)
    for name in spec.groups:
        if name in taken:
            what = f"got {name!r}, which {taken[name]}"
            yield (
                ("groups", name),
                f"a group's name differs from the name of every step; {what}; rename one of them",
            )


def when_findings(spec: PipelineSpec, known: Mapping[str, AnyComponent]) -> Iterator[Finding]:
    """Yield everything that is wrong with the conditions of steps, given the known components."""

    def judges(step: str) -> bool:
        component = known.get(spec.steps[step].component)
        return component is None or bool(verdict_port(component))

    for name, step in spec.steps.items():
        for gate in step.when:
            at: Path = ("steps", name, "when", gate)
            if gate not in spec.steps:
                remedy = did_you_mean(gate, spec.steps)
                yield at, f"a condition names a step of this pipeline; got {gate!r}; {remedy}"
            elif not judges(gate):
                what = f"got {gate!r}, a {spec.steps[gate].component}"
                others = ", ".join(other for other in spec.steps if other != name and judges(other))
                remedy = f"such steps here: {others or 'none'}"
                yield at, f"a condition names a step that yields a verdict; {what}; {remedy}"
            elif gathers(spec, gate, name):
                group = spec.group_of[gate]
                rule = "a gate in a group with for_each is named within that group only"
                remedy = f"add {name!r} to its steps"
                yield at, f"{rule}; got {gate!r}, which is in group {group!r}; {remedy}"


def tangle_findings(spec: PipelineSpec) -> Iterator[Finding]:
    """Yield a problem if a path leaves a group and comes back: Airflow cannot show such a group."""
    if not spec.groups:
        return
    node_of = {step: spec.group_of.get(step, step) for step in spec.steps}
    needs: dict[str, set[str]] = {node: set() for node in node_of.values()}
    for step, before in spec.needs().items():
        needs[node_of[step]] |= {node_of[other] for other in before} - {node_of[step]}
    cycle = cycle_in(needs)
    if cycle:
        group = next(node for node in cycle if node in spec.groups)
        rule = "no path leaves a group and comes back to it"
        remedy = "add the steps between to the group, or remove steps from it"
        yield ("groups", group), f"{rule}; got {shown(cycle)}; {remedy}"


def gathering_problem(spec: PipelineSpec, origin: str, target: str, port: str) -> str:
    """Say that an input of one edge cannot take all copies of a step.

    :param spec: the pipeline.
    :param origin: the step with copies.
    :param target: the step outside its group.
    :param port: the input.
    :return: rule, value and remedy.
    """
    group = spec.group_of[origin]
    rule = f"input {port!r} of {spec.steps[target].component} takes one edge"
    got = f"got all copies of {origin!r}, one for each of {len(spec.groups[group].values)} values"
    remedy = f"add {target!r} to the steps of group {group!r}, or choose an input that takes a list"
    return f"{rule}; {got}; {remedy}"


def undeclared(spec: PipelineSpec, name: str) -> str:
    """Say that ``${name}`` stands for nothing at its place."""
    remedy = did_you_mean(name, spec.params)
    for group, content in spec.groups.items():
        if content.variable == name:
            steps = ", ".join(content.steps)
            remedy = f"the variable of group {group!r} stands in the config of its steps only: {steps}"
            break
    return f"${{...}} must name a parameter under params; got {name!r}; {remedy}"


def _value_findings(spec: PipelineSpec, group: GroupSpec, at: Path) -> Iterator[Finding]:
    variable, slugs = str(group.variable), dict[str, Value]()
    if variable in spec.params:
        rule = "the name of a for_each's variable differs from every parameter's"
        yield (*at, variable), f"{rule}; got {variable!r}; rename one of them"
    for index, value in enumerate(group.values):
        short = slug(value)
        if placeholders(value):
            yield (*at, variable, index), f"{FOR_EACH_RULE}; got {shorten(value)}; {FOR_EACH_REMEDY}"
        elif short in slugs:
            rule = "the values of a for_each make different ids"
            got = f"got {shorten(slugs[short])} and {shorten(value)}, both {shorten(short)} in an id"
            yield (*at, variable, index), f"{rule}; {got}; rename or remove one of them"
        slugs.setdefault(short, value)


def _copy_findings(group: GroupSpec, at: Path, taken: dict[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with the ids of a group's copies, and add them to those that are taken."""
    first = {slug(value): index for index, value in reversed(list(enumerate(group.values)))}
    for step in dict.fromkeys(group.steps):
        copies = copy_ids(step, group)
        for index in sorted(first.values()):
            copy, here = copies[index], (*at, str(group.variable), index)
            if len(copy) > LONGEST_ID:
                rule = f"the id of a step's copy has at most {LONGEST_ID} characters"
                yield here, f"{rule}; got {shorten(copy)}; shorten the value or the id {step!r}"
            elif copy in taken:
                rule = "the id of a step's copy differs from every other step's"
                yield here, f"{rule}; got {copy!r}, which {taken[copy]}; rename one of them"
            taken.setdefault(copy, f"is a copy of {step!r}")
