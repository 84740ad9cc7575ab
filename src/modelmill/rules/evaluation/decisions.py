"""Decisions as rows: the columns that a decision has, and the reasons of rules filled with values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.errors import ConfigError
from modelmill.rules.evaluation.partial_evaluation import Partial
from modelmill.rules.evaluation.possible_values import FALSE, NULL, TRUE, Uncertain
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import SettledChunk, Settlement
from modelmill.rules.rule_set import Rule
from modelmill.signals.values import summary

DECISION_COLUMNS = ("decision", "rule", "severity", "reason", "because", "rule_set")
EXPLANATION_COLUMN = "explanation"


def decision_schema(key: pa.Field) -> pa.Schema:
    """Return the columns of decisions.

    :param key: the input's key.
    :return: the key; ``decision``; ``rule`` and ``severity``, null if no rule fires; ``reason``, null if the
        rule gives none; ``because``: ``rule``, ``default``, or ``unknown`` if the condition of ``rule`` is
        NULL; ``rule_set``: its name and the first 12 characters of its digest.
    :raises ConfigError: if the key has the name of another column.
    """
    if key.name in (*DECISION_COLUMNS, EXPLANATION_COLUMN):
        raise ConfigError(
            "the key must not have the name of a column of decisions",
            got=key.name,
            remedy="rename the column when the table is made",
        )
    return pa.schema([key, *(pa.field(name, pa.string()) for name in DECISION_COLUMNS)])


def decision_rows(program: RuleProgram, chunk: SettledChunk, schema: pa.Schema) -> pa.RecordBatch:
    """Return the decisions of settled rows, with the columns of :func:`decision_schema`."""
    compiled, outcomes = program.compiled, chunk.settlement.outcomes
    rule_set = compiled.rule_set
    kinds, which = np.unique(outcomes, return_inverse=True)
    columns: list[list[str | None]] = [[], [], [], []]
    for outcome in kinds.tolist():
        number = compiled.rule_of(outcome)
        rule = None if number is None else rule_set.rules[number]
        fires = outcome < compiled.no_rule
        columns[0].append(compiled.decision(outcome))
        columns[1].append(rule.name if rule else None)
        columns[2].append(rule.severity if rule and fires else None)
        columns[3].append("rule" if fires else "default" if rule is None else "unknown")
    decision, rule_name, severity, because = (
        pa.array(column, pa.string()).take(pa.array(which)) for column in columns
    )
    reason = pa.array(_reasons(program, chunk.settlement), pa.string())
    origin = pa.repeat(f"{rule_set.rule_set}@{compiled.digest[:12]}", len(outcomes)).cast(pa.string())
    key = chunk.rows.column(rule_set.key)
    return pa.RecordBatch.from_arrays(
        [key, decision, rule_name, severity, reason, because, origin], schema=schema
    )


def shown(value: Any, form: str = "") -> str:
    """Return a value as text for people, ``form`` being a format specification of Python."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not form:
        return repr(value).removesuffix(".0")  # every digit that tells it from its neighbours
    if isinstance(value, bytes | list):
        return format(summary(value), form)
    return format(value, form) if isinstance(value, int | float | str) else str(value)


def python_values(values: pa.Array) -> list[Any]:
    """Return values as Python's: bytes that are no UTF-8 replaced, times beyond Python's calendar as text."""
    if pa.types.is_large_string(values.type):
        texts = values.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode(errors="replace") for text in texts]
    try:
        found: list[Any] = values.to_pylist()
    except (ValueError, OverflowError):
        found = values.cast(pa.string()).to_pylist()
    return found


def _reasons(program: RuleProgram, settlement: Settlement) -> list[str | None]:
    compiled = program.compiled
    found: list[str | None] = [None] * len(settlement.outcomes)
    values: _ReasonValues | None = None
    for outcome in np.unique(settlement.outcomes).tolist():
        if outcome >= compiled.no_rule or not compiled.rule_set.rules[outcome].reason:
            continue
        rule = compiled.rule_set.rules[outcome]
        rows = np.flatnonzero(settlement.outcomes == outcome)
        columns: dict[str, list[Any]] = {}
        for _, name, _ in rule.reason_parts():
            if name is not None and name not in columns:
                values = values or _ReasonValues(program, settlement)
                columns[name] = values.of(name, rows)
        for place, row in enumerate(rows.tolist()):
            found[row] = _filled(rule, {name: column[place] for name, column in columns.items()})
    return found


class _NotNeeded:
    """Stands for the value of a signal that the row did not need."""


class _ReasonValues:
    """Values of signals on settled rows, those that are expressions over others included."""

    def __init__(self, program: RuleProgram, settlement: Settlement) -> None:
        self._derived = program.compiled.derived
        self._settlement = settlement
        self._state: Partial = settlement.state(program)

    def of(self, name: str, rows: Any) -> list[Any]:
        """Return a signal's values: Python values, None if unknown, ``_NotNeeded`` if not computed."""
        taken, settlement = pa.array(rows), self._settlement
        if name not in self._derived:
            if name not in settlement.values:
                return [_NotNeeded] * len(rows)
            values = python_values(settlement.values[name].take(taken))
            computed = settlement.computed[name][rows]
            return [value if there else _NotNeeded for value, there in zip(values, computed, strict=True)]
        state = self._state.states[self._derived[name]]
        if state is None:
            return [_NotNeeded] * len(rows)
        if not isinstance(state, Uncertain):
            sets = np.broadcast_to(state, self._state.rows)[rows].tolist()
            return [{TRUE: True, FALSE: False, NULL: None}.get(one, _NotNeeded) for one in sets]
        unknown = np.broadcast_to(state.open, self._state.rows)[rows]
        values = (
            [state.values.as_py()] * len(rows)
            if isinstance(state.values, pa.Scalar)
            else python_values(state.values.take(taken))
        )
        return [_NotNeeded if one else value for one, value in zip(unknown, values, strict=True)]


def _filled(rule: Rule, values: Mapping[str, Any]) -> str:
    parts = []
    for text, name, form in rule.reason_parts():
        parts.append(text)
        if name is not None:
            value = values[name]
            parts.append("not needed" if value is _NotNeeded else shown(value, form))
    return "".join(parts)
