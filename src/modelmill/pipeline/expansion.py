"""Writing ``for_each`` out: a pipeline as it was written becomes the steps that run.

What is saved, hashed and shown is the written pipeline; what runs, here or in Airflow, is the expanded one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelmill.pipeline.placeholders import fill
from modelmill.pipeline.spec import GroupSpec, ParamValue, PipelineSpec, Source, StepSpec

_OTHER_CHARACTERS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class StepOrigin:
    """What a step that runs was written as."""

    of: str
    """Id of the step as it was written."""
    value: str | None = None
    """Text of the value that it is a copy for; None: the step is there once."""


@dataclass(frozen=True)
class Expansion:
    """A pipeline with every copy written out."""

    spec: PipelineSpec
    """The steps that run: no group has a ``for_each``."""
    origins: Mapping[str, StepOrigin]
    """By the id of a step that runs, what it was written as."""
    digest: str
    """Digest of the pipeline as it was written."""


def expand(written: PipelineSpec) -> Expansion:
    """Write out every ``for_each`` of a pipeline.

    A step of such a group becomes one for each value, in the order of the values. An edge within the group
    stays within the copy; one from outside goes to every copy; one to a step outside gathers all copies.

    :param written: a valid pipeline.
    :return: the steps that run, and what each of them was written as.
    """
    copies = _Copies(written)
    steps = {copy: made for name in written.steps for copy, made in copies.of(name).items()}
    groups = {
        name: GroupSpec(
            description=group.description,
            steps=tuple(copy for step in group.steps for copy in copies.ids[step]),
        )
        for name, group in written.groups.items()
    }
    # Not model_copy: it would hand on the digest, where that is known already.
    spec = PipelineSpec.model_construct(**{**dict(written), "groups": groups, "steps": steps})
    return Expansion(spec, copies.origins(), written.digest)


def copy_ids(step: str, group: GroupSpec | None) -> tuple[str, ...]:
    """Return the ids under which a step runs.

    :param step: its id as it is written.
    :param group: the group that it is in; None: it is in none.
    :return: ``STEP__SLUG`` for each of the group's values; without any, the id itself.
    """
    return tuple(f"{step}__{slug(value)}" for value in group.values) if group and group.values else (step,)


def slug(value: ParamValue) -> str:
    """Return what stands for a value in an id: in lower case, ``_`` for each run of other characters.

    Of letters that ids cannot have, such as Chinese ones, nothing would be left: a digest tells them apart.
    """
    text = value_text(value).lower()
    short = _OTHER_CHARACTERS.sub("_", text)
    if text.isascii():
        return short
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return "_".join(part for part in (short.strip("_"), digest) if part)


def value_text(value: ParamValue) -> str:
    """Return a value as people read it; a truth value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def gathers(written: PipelineSpec, origin: str, target: str) -> bool:
    """Return whether an edge hands all copies of a step to one.

    :param written: the pipeline.
    :param origin: the step that the edge comes from.
    :param target: the step that it goes to.
    :return: True if ``origin`` is in a group with ``for_each`` and ``target`` is not in the same group.
    """
    group = written.group_of.get(origin)
    return bool(group and written.groups[group].values and written.group_of.get(target) != group)


class _Copies:
    """The copies of each step of a pipeline."""

    def __init__(self, written: PipelineSpec) -> None:
        self.written = written
        self.ids = {name: copy_ids(name, self._group(name)) for name in written.steps}

    def of(self, name: str) -> dict[str, StepSpec]:
        """Return a step's copies by their ids."""
        step, group = self.written.steps[name], self._group(name)
        made = {}
        for index, copy in enumerate(self.ids[name]):
            variables = {group.variable: group.values[index]} if group and group.variable else {}
            inputs = {port: self._followed(given, name, index) for port, given in step.inputs.items()}
            when = {self._seen(gate, name, index)[0]: outcome for gate, outcome in step.when.items()}
            config = fill(step.config, variables)
            made[copy] = step.model_copy(update={"config": config, "inputs": inputs, "when": when})
        return made

    def origins(self) -> dict[str, StepOrigin]:
        """Return what each copy was written as, by its id."""
        found: dict[str, StepOrigin] = {}
        for name, ids in self.ids.items():
            group = self._group(name)
            texts = [value_text(value) for value in group.values] if group else []
            found |= {copy: StepOrigin(name, text) for copy, text in zip(ids, texts or (None,), strict=True)}
        return found

    def _group(self, name: str) -> GroupSpec | None:
        group = self.written.group_of.get(name)
        return self.written.groups[group] if group else None

    def _seen(self, origin: str, name: str, index: int) -> Sequence[str]:
        """Return the steps that a step's copy of this index means by ``origin``."""
        group = self.written.group_of.get(name)
        together = group is not None and self.written.group_of.get(origin) == group
        return (self.ids[origin][index],) if together else self.ids[origin]

    def _followed(
        self, sources: Source | tuple[Source, ...], name: str, index: int
    ) -> Source | tuple[Source, ...]:
        found: list[str] = []
        for source in (sources,) if isinstance(sources, str) else sources:
            origin, _, port = source.partition(".")
            found += [f"{copy}.{port}" for copy in self._seen(origin, name, index)]
        one = isinstance(sources, str) and not gathers(self.written, sources.partition(".")[0], name)
        return found[0] if one else tuple(found)
