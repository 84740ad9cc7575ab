"""Problems with the shape of a pipeline's document: what pydantic reports, in words about the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.parsing import Finding, Path, fields_at, shape_message
from modelmill.errors import shorten
from modelmill.pipeline.group_checks import (
    FOR_EACH_REMEDY,
    FOR_EACH_RULE,
)
from modelmill.pipeline.spec import PipelineSpec


def salvaged(document: Mapping[Any, Any], error: ValidationError) -> PipelineSpec | None:
    """Return the pipeline without the keys that have the wrong shape, if one is left."""
    steps = document.get("steps")
    if not isinstance(steps, Mapping):
        return None
    left_steps = {name: dict(step) for name, step in steps.items() if isinstance(step, Mapping)}
    left: dict[Any, Any] = {**document, "steps": left_steps}
    for detail in error.errors(include_url=False):
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


_RESOURCES_RULE = (
    "a step's resources are gpus, gpu_memory_gb, share_gpu, cpus, memory_gb and the name of a profile"
)

SCHEDULE_RULE = "a schedule is a cron expression of five fields, {table: URI}, {assets: [URI, ...]} or null"

SCHEDULE_REMEDY = "for every night at two write '0 2 * * *', for each new version of a table {table: URI}"


def shape_findings(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Return the problems of a document that has the wrong shape.

    :param error: pydantic's error.
    :param model: the model that was asked for: the pipeline, or a component's configuration.
    :return: place and message of each problem.
    """
    findings: dict[Finding, None] = {}  # in order; a union reports each of its branches
    for detail in error.errors(include_url=False):
        path, message = _clean(detail["loc"]), _shape_message(detail, model)
        if model is PipelineSpec and path[:1] == ("schedule",):
            if detail["loc"] != ("schedule", "str"):
                continue  # another branch of the union, about a part of the same value
            message = f"{SCHEDULE_RULE}; got {shorten(detail['input'])}; {SCHEDULE_REMEDY}"
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
