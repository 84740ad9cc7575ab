"""What a step has read and made: its references by direction, and a description of their tables.

A step may hand on what it only looked up: ``delta_table`` yields a table that it reads, ``use_champion`` a
model, ``approve`` a verdict. Who tells others about the step must not call that its work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelmill.artifacts import AnyReference, DatasetRef, ModelRef, TableRef
from modelmill.component import MODEL_ASSET, AnyComponent, Config
from modelmill.pipeline.request import InputValue
from modelmill.tables.description import TableUse, added_by, columns_of
from modelmill.tables.storage import table_location


@dataclass(frozen=True)
class Uses:
    """The references of a step."""

    read: tuple[AnyReference, ...]
    made: tuple[AnyReference, ...]


def uses(
    component: AnyComponent,
    config: Config | None,
    inputs: Mapping[str, InputValue],
    outputs: Mapping[str, AnyReference],
) -> Uses:
    """Return what a step has read and what it has made, each once.

    :param component: what it ran.
    :param config: its configuration, with its parameters filled in; None: what it says is not looked at.
    :param inputs: references by input port.
    :param outputs: references by output port; empty before the step has ended.
    :return: the references by direction.
    """
    given = [one for value in inputs.values() for one in (value if isinstance(value, tuple) else (value,))]
    sources = set[str]()
    if component.assets is not None and config is not None:
        assets = component.assets(config, {})
        sources = set(map(_place, assets.inlets)) - set(map(_place, assets.outlets))
    read, made = list(given), list[AnyReference]()
    for one in outputs.values():
        handed_on = component.forwards is not None and one in given
        (read if handed_on or _looked_up(one, sources) else made).append(one)
    return Uses(tuple(dict.fromkeys(read)), tuple(dict.fromkeys(made)))


def described(
    found: Uses, *, step_key: str, rows_read: Mapping[str, int], reused: bool
) -> Iterator[TableUse]:
    """Describe the tables of a step.

    :param found: what it has read and made.
    :param step_key: its key.
    :param rows_read: rows that it has worked on, by ``URI@VERSION``, as far as it said so.
    :param reused: whether nothing was run, so that nothing was read or added now.
    :yield: the description of each table.
    :raises TableError: if a table can no longer be read.
    """
    tables = {str(one): one for one in (*found.read, *found.made) if isinstance(one, TableRef | DatasetRef)}
    for reference in tables.values():
        is_made = reference in found.made and not reused
        yield TableUse(
            uri=reference.uri,
            version=reference.version,
            columns=columns_of(reference),
            rows_read=rows_read.get(str(reference)),
            added=added_by(reference, step_key) if is_made else None,
        )


def _place(uri: str) -> str:
    return uri if uri.startswith(MODEL_ASSET) else table_location(uri)


def _looked_up(reference: AnyReference, sources: set[str]) -> bool:
    """Return whether a step's output is something that its configuration names as what it reads."""
    if isinstance(reference, TableRef | DatasetRef):
        return reference.uri in sources
    if isinstance(reference, ModelRef):
        name, _, version = reference.uri.removeprefix("models:/").partition("/")
        return bool(version) and f"{MODEL_ASSET}{name}" in sources
    return False
