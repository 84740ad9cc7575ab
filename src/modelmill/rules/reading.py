"""Reads a rule set from text, and lists all its problems, each with its position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.parsing import (
    Finding,
    Path,
    ShownFinding,
    fields_at,
    parse_document,
    read_text,
    shape_message,
)
from modelmill.errors import RuleSetError, SignalError, bounded_remedies, did_you_mean, shorten
from modelmill.rules.evaluation.compiled_rule_set import rule_set_mistakes
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.registry import kind_of, signal_kinds
from modelmill.signals.values import Kind

MAX_BYTES = 16_000_000
"""Room for ten thousand rules and as many phrases."""

_ANY_COLUMN = "\0"
"""Column of the signals that replace those of the wrong shape."""


def load_rule_set(url: str, *, schema: pa.Schema | None = None) -> RuleSet:
    """Read and check a rule set.

    :param url: path or fsspec URL of a YAML or JSON file.
    :param schema: columns of the input; None: only names and syntax are checked in expressions over columns.
    :return: the rule set.
    :raises RuleSetError: if it cannot be read or is not valid; all problems are listed.
    """
    text = read_text(url, what="a rule set", most_bytes=MAX_BYTES, error=RuleSetError)
    return parse_rule_set(text, source=url, schema=schema)


def parse_rule_set(text: str, *, source: str = "rule set", schema: pa.Schema | None = None) -> RuleSet:
    """Parse and check a rule set's text.

    :param text: YAML or JSON.
    :param source: name of the text, for messages.
    :param schema: columns of the input; None: only names and syntax are checked in expressions over columns.
    :return: the rule set.
    :raises RuleSetError: if it is not valid; all problems are listed.
    """
    document = parse_document(text, source=source, error=RuleSetError)
    with bounded_remedies():
        rule_set, findings = _checked(document.content, schema)
        problems = document.problems(findings)
    if problems or rule_set is None:
        raise RuleSetError(problems, source=source)
    return rule_set


def _checked(
    content: Any, schema: pa.Schema | None
) -> tuple[RuleSet | None, Iterable[Finding | ShownFinding]]:
    if not isinstance(content, Mapping):
        return None, [((), f"a rule set is a mapping; got {shorten(content)}")]
    try:
        rule_set = RuleSet.model_validate(content)
    except ValidationError as error:
        shape = [(_path(detail), _message(detail)) for detail in error.errors(include_url=False)]
        salvaged = _salvaged(content, error)
        # Parts of the right shape are checked all the same, so that all problems are listed at once.
        return None, [*shape, *(_findings(salvaged, schema) if salvaged else ())]
    return rule_set, _findings(rule_set, schema)


def _findings(rule_set: RuleSet, schema: pa.Schema | None) -> Iterator[Finding | ShownFinding]:
    """Yield what is wrong with a rule set of the right shape."""
    if schema is not None:
        yield from _column_findings(rule_set, schema)
    kinds: dict[str, Kind] = {}
    for name, signal in rule_set.signals.items():
        kind = kind_of(signal).result(name, signal, schema)
        kinds |= {name: kind} if kind else {}
    yield from rule_set_mistakes(rule_set, kinds)


def _column_findings(rule_set: RuleSet, schema: pa.Schema) -> Iterator[Finding]:
    if rule_set.key not in schema.names:
        remedy = did_you_mean(rule_set.key, schema.names)
        yield ("key",), f"the key must be a column of the input; got {rule_set.key!r}; {remedy}"
    for name, signal in rule_set.signals.items():
        for operand in kind_of(signal).operands(name, signal):
            if operand.column != _ANY_COLUMN:
                try:
                    operand.check(name, schema)
                except SignalError as error:
                    yield ("signals", name), str(error)


def _salvaged(content: Mapping[Any, Any], error: ValidationError) -> RuleSet | None:
    """Return the rule set without its parts of the wrong shape, if that is possible.

    Signals that are left out keep their names, so that conditions which read them are not reported, too.
    """
    signals, rules = content.get("signals"), content.get("rules")
    if not isinstance(signals, Mapping) or not isinstance(rules, list):
        return None
    left: dict[Any, Any] = {**content, "signals": dict(signals), "rules": list(rules)}
    wrong_rules: set[Any] = set()
    for detail in error.errors(include_url=False):
        place = detail["loc"]
        if place[0] == "signals" and len(place) > 1 and place[1] in left["signals"]:
            left["signals"][place[1]] = {"kind": "column", "column": _ANY_COLUMN}
        elif place[0] == "rules" and len(place) > 1:
            wrong_rules.add(place[1])
        elif place[0] not in ("signals", "rules"):
            left.pop(place[0], None)
    if wrong_rules:  # their places in the text would be wrong
        return None
    try:
        return RuleSet.model_validate({"rule_set": "salvaged", "key": "key", "default": "none", **left})
    except ValidationError:
        return None


def _path(detail: Any) -> Path:
    """Return the path of a problem without what pydantic adds: the kind of a signal, ``[key]``."""
    place: Path = detail["loc"]
    if len(place) > 2 and place[0] == "signals" and place[2] in (*signal_kinds(), "[key]"):
        place = (*place[:2], *place[3:])
    return tuple(part for part in place if part != "[key]")


def _message(detail: Any) -> str:
    place: Path = detail["loc"]
    if detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
        given = detail["input"].get("kind") if isinstance(detail["input"], Mapping) else detail["input"]
        if given is None:
            return f"a signal has a kind; add one of {', '.join(signal_kinds())}"
        return f"a signal's kind must be known; got {given!r}; {did_you_mean(str(given), signal_kinds())}"
    if NAME_PATTERN in detail["msg"]:
        rule = "a name has at most 63 of a-z, 0-9 and _, and begins with a letter"
        return f"{rule}; got {shorten(detail['input'])}"
    if len(place) > 2 and place[0] == "signals" and place[2] in signal_kinds():
        return shape_message(detail, fields_at(signal_kinds()[str(place[2])].config, place[3:-1]))
    return shape_message(detail, fields_at(RuleSet, place[:-1]))
