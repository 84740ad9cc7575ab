"""Writing a changed document back into the text it was read from.

Only the characters of what has changed are replaced: comments, order, quotes and spacing of everything else
stay as they are, to the byte. The places come from the parser itself, so what is written is what was read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml

from modelmill.documents.parsing import parse_document
from modelmill.errors import ConfigError, PipelineError, Problem

Document = Mapping[str, Any]

_WIDTH = 100
_NEVER = 1_000_000


@dataclass(frozen=True)
class _Edit:
    """Characters to replace: ``text[start:end]``."""

    start: int
    end: int
    new: str


def read_document(text: str) -> Any:
    """Return what a text says, as JSON can say it: a date becomes text, a number that is none null.

    :param text: YAML or JSON.
    :return: the document.
    :raises PipelineError: if the text is no YAML, or its aliases stand for more than can be written out.
    """
    # Parsed within bounds first: plain() writes aliases out.
    return flat(parse_document(text, source="pipeline", error=PipelineError).content)


def flat(content: Any) -> Any:
    """Return what YAML gave as JSON can say it.

    :param content: of a document that was parsed.
    :return: the document.
    :raises PipelineError: if it is too deep.
    """
    try:
        return plain(content)
    except RecursionError as error:
        raise PipelineError([Problem(0, 0, "", "a document is not that deep; flatten it")]) from error


def plain(value: Any) -> Any:
    """Return a value as JSON can say it.

    :param value: what YAML gave.
    :return: dictionaries with text keys, lists, text, numbers, truth values and None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def write_document(text: str, document: Document) -> str:
    """Return a text that says a document, as close to the given text as can be.

    :param text: YAML or JSON that said an earlier state; empty for none. What is JSON stays JSON.
    :param document: what it has to say.
    :return: the text itself where nothing has changed; where it cannot be edited in place (anchors, merge
        keys, no YAML), a new text without its comments.
    :raises ConfigError: if the document is nothing that YAML can say.
    """
    wanted = plain(document)
    try:
        if text.strip() and read_document(text) == wanted:
            return text
        if _is_json(text):
            return json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
        edited = _applied(text, list(_edits(text, wanted)))
        if _says(edited, wanted):
            return edited
    except (PipelineError, yaml.YAMLError, ValueError, RecursionError, _NotInPlaceError):
        pass  # what is there is no text to edit
    fresh = _block(wanted)
    if not _says(fresh, wanted):
        raise ConfigError("a pipeline's document must be what YAML can say", got=document)
    return fresh


class _NotInPlaceError(Exception):
    """The text has parts that stand for several places."""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _says(text: str, wanted: Any) -> bool:
    found = plain(yaml.safe_load(text))
    return bool(found == wanted) and json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _edits(text: str, wanted: Any) -> Iterator[_Edit]:
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
        raise _NotInPlaceError
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode) or not isinstance(wanted, dict):
        raise _NotInPlaceError
    yield from _mapping_edits(text, node, wanted)


def _value_edits(text: str, node: yaml.Node, wanted: Any, *, indent: int, flow: bool) -> Iterator[_Edit]:
    old = _constructed(node)
    if old == wanted and type(old) is type(wanted):
        return
    if (
        isinstance(node, yaml.MappingNode)
        and isinstance(wanted, dict)
        and wanted
        and _stands_free(text, node)
    ):
        yield from _mapping_edits(text, node, wanted)
        return
    if isinstance(node, yaml.SequenceNode) and isinstance(wanted, list) and len(node.value) == len(wanted):
        within = flow or bool(node.flow_style)
        for item, new in zip(node.value, wanted, strict=True):
            yield from _value_edits(text, item, new, indent=item.start_mark.column, flow=within)
        return
    yield _replacement(text, node, wanted, indent=indent, flow=flow)


def _replacement(text: str, node: yaml.Node, wanted: Any, *, indent: int, flow: bool) -> _Edit:
    start, end = node.start_mark.index, _end(text, node)
    new = _flow(wanted) if flow or _short(wanted) else _nested(wanted, indent)
    before = text[:start].rstrip()
    if not flow and before.endswith(":"):  # the value goes beside its key, or to lines of its own
        return _Edit(len(before), end, new if new.startswith("\n") else f" {new}")
    if new.startswith("\n"):
        return _Edit(len(before), end, new)
    return _Edit(start, end, new if text[start - 1] in " \t\n[{," else f" {new}")


def _stands_free(text: str, node: yaml.MappingNode) -> bool:
    """Return whether each of a mapping's keys is on a line of its own, or all are in one flow mapping."""
    starts = [key.start_mark.index for key, _ in node.value]
    return bool(node.flow_style) or all(not text[text.rfind("\n", 0, at) + 1 : at].strip() for at in starts)


def _mapping_edits(text: str, node: yaml.MappingNode, wanted: dict[str, Any]) -> Iterator[_Edit]:
    old = {_key(key): (key, value) for key, value in node.value}
    if len(old) != len(node.value) or any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
        raise _NotInPlaceError
    renamed = _renames(list(old), list(wanted))
    names = {renamed.get(name, name): name for name in old}
    flow = bool(node.flow_style)
    indent = node.start_mark.column if not flow else 0
    gone = [name for name in old if renamed.get(name, name) not in wanted]
    if len(gone) == len(old):  # nothing is left to stand beside: written anew
        start, end = node.start_mark.index, _end(text, node)
        nested = _flow(wanted) if flow else _block(wanted, indent).strip()
        yield _Edit(start, end, nested)
        return
    for new_name, name in names.items():
        if new_name in wanted:
            key, value = old[name]
            if new_name != name:
                yield _Edit(key.start_mark.index, key.end_mark.index, _flow(new_name))
            yield from _value_edits(text, value, wanted[new_name], indent=indent, flow=flow)
    yield from _removals(text, node, gone, flow=flow)
    yield from _additions(text, node, wanted, names, indent=indent, flow=flow)


def _renames(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    """Return the keys that have only another name: one is missing, one is new, at the same place."""
    if len(old) != len(new):
        return {}
    pairs = [(before, after) for before, after in zip(old, new, strict=True) if before != after]
    return dict(pairs) if len(pairs) == 1 and pairs[0][1] not in old else {}


def _removals(text: str, node: yaml.MappingNode, gone: Sequence[str], *, flow: bool) -> Iterator[_Edit]:
    places = {_key(key): (key.start_mark.index, _end(text, value)) for key, value in node.value}
    order = list(places)
    for name in gone:
        start, end = places[name]
        if not flow:
            yield _Edit(text.rfind("\n", 0, start) + 1, _line_end(text, end), "")
            continue
        kept_before = [other for other in order[: order.index(name)] if other not in gone]
        following = order[order.index(name) + 1 :]
        if following:
            yield _Edit(start, places[following[0]][0], "")
        elif kept_before:
            yield _Edit(places[order[order.index(name) - 1]][1], end, "")
    if flow and gone and order[-1] in gone:
        # The comma before the last ones goes with them.
        last_kept = max(index for index, name in enumerate(order) if name not in gone)
        if last_kept < len(order) - 2:
            end, start = places[order[last_kept + 1]][0], places[order[last_kept]][1]
            yield _Edit(start, end, "")


def _additions(
    text: str,
    node: yaml.MappingNode,
    wanted: dict[str, Any],
    names: Mapping[str, str],
    *,
    indent: int,
    flow: bool,
) -> Iterator[_Edit]:
    """Put new keys behind the key that they follow in the document."""
    ends = {_key(key): _end(text, value) for key, value in node.value}
    starts = {_key(key): key.start_mark.index for key, _ in node.value}
    before: str | None = None
    together: dict[str | None, list[str]] = {}
    for name in wanted:
        if name in names:
            before = names[name]
        else:
            together.setdefault(before, []).append(name)
    for anchor, fresh in together.items():
        if flow:
            entries = ", ".join(f"{_flow(name)}: {_flow(wanted[name])}" for name in fresh)
            if anchor is None:
                first = min(starts.values())
                yield _Edit(first, first, f"{entries}, ")
            else:
                yield _Edit(ends[anchor], ends[anchor], f", {entries}")
            continue
        lines = "".join(" " * indent + _entry(name, wanted[name], indent) + "\n" for name in fresh)
        if anchor is None:
            at = text.rfind("\n", 0, min(starts.values())) + 1
        else:
            at = _line_end(text, ends[anchor])
            if at and text[at - 1] != "\n":
                lines = f"\n{lines}"
        yield _Edit(at, at, lines)


def _applied(text: str, edits: list[_Edit]) -> str:
    # From the end on; at one place, what is removed goes first, so that nothing new goes with it.
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def _constructed(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return plain(loader.construct_document(node))
    finally:
        loader.dispose()


def _key(node: yaml.Node) -> str:
    return str(_constructed(node))


def _end(text: str, node: yaml.Node) -> int:
    """Return where a node's own text ends: the mark of a block stands before the next token instead."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    end = int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[:end].rstrip("\n"))
    return end


def _line_end(text: str, at: int) -> int:
    """Return where the next line begins."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _short(value: Any) -> bool:
    return not isinstance(value, dict | list) or not value or len(_flow(value)) <= _WIDTH - 20


class _Dumper(yaml.SafeDumper):
    """PyYAML writes Unicode's own line ends into single quotes as they are, and reads them as spaces."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(end in text for end in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represented)


def _flow(value: Any) -> str:
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=_NEVER
    )
    return str(text).removesuffix("...\n").strip()


def _block(value: Any, indent: int = 0) -> str:
    """Return a collection on lines of its own, its short parts on one line each."""
    space = " " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{space}{_entry(name, item, indent)}\n" for name, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{space}- {_flow(item)}\n" for item in value)
    return f"{space}{_flow(value)}\n"


def _nested(value: Any, indent: int) -> str:
    return "\n" + _block(value, indent + 2).rstrip("\n")


def _entry(name: str, value: Any, indent: int) -> str:
    shown = f" {_flow(value)}" if _short(value) else _nested(value, indent)
    return f"{_flow(name)}:{shown}"
