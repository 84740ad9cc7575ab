"""What a table's log says of a version: its columns, and what one commit has added."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.options import Record
from modelmill.tables.files import commit_actions
from modelmill.tables.opening import open_table
from modelmill.tables.storage import table_location


class Column(Record):
    """A column of a table, or a field within one."""

    name: str
    """Of an element of an array ``_element``; of a map's keys and values ``_key`` and ``_value``."""
    type: str
    """Delta's name: ``string``, ``long``, ``decimal(10,2)``, ``struct``, ``array``, ``map``, …"""
    description: str = ""
    """The column's comment; empty if it has none."""
    fields: tuple[Column, ...] = ()
    """What a struct, an array or a map is made of."""


class Added(Record):
    """What a commit has added to its table."""

    rows: int | None
    """None if the log does not say it of each file."""
    size: int
    """Of the files, in bytes."""
    files: int


class TableUse(Record):
    """A table at a version that a step has read or made, as its log describes it."""

    uri: str
    version: int
    columns: tuple[Column, ...]
    rows_read: int | None = None
    """Rows that the step has worked on; None if it did not say, or was reused."""
    added: Added | None = None
    """What the step has added; None if the version's commit is not its own, or the step was reused."""


def columns_of(ref: TableRef | DatasetRef) -> tuple[Column, ...]:
    """Return the columns of a table, at its version, in their order; see ``open_table`` for errors."""
    schema = json.loads(open_table(ref.uri, version=ref.version).schema().to_json())
    return tuple(map(_column, schema["fields"]))


def added_by(ref: TableRef | DatasetRef, step_key: str) -> Added | None:
    """Return what a step has added with the commit of a table's version.

    :param ref: the table.
    :param step_key: the step key: the application transactions of a step's commits begin with it.
    :return: None if the commit is another's, or the log no longer has it.
    :raises TableError: if the commit's file is damaged.
    """
    actions = commit_actions(table_location(ref.uri), ref.version)
    own = [action["txn"]["appId"] for action in actions or () if "txn" in action]
    if actions is None or not any(name.startswith(step_key) for name in own):
        return None
    files = [action["add"] for action in actions if "add" in action]
    return Added(rows=_rows(files), size=sum(file["size"] for file in files), files=len(files))


def _rows(files: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the rows of files; ``stats`` of Delta's ``add`` action is JSON in a text, or left out."""
    counts = [json.loads(file.get("stats") or "{}").get("numRecords") for file in files]
    return None if None in counts else sum(counts)


def _column(field: Mapping[str, Any]) -> Column:
    comment = str((field.get("metadata") or {}).get("comment") or "")
    return _typed(str(field["name"]), field["type"], comment)


def _typed(name: str, kind: str | Mapping[str, Any], description: str = "") -> Column:
    """Return a column by its type, as the Delta protocol's schema serialization writes it."""
    if isinstance(kind, str):
        return Column(name=name, type=kind, description=description)
    parts: tuple[Column, ...] = ()
    if kind["type"] == "struct":
        parts = tuple(map(_column, kind["fields"]))
    elif kind["type"] == "array":
        parts = (_typed("_element", kind["elementType"]),)
    elif kind["type"] == "map":
        parts = (_typed("_key", kind["keyType"]), _typed("_value", kind["valueType"]))
    return Column(name=name, type=kind["type"], description=description, fields=parts)
