"""Decisions as rows: what an outcome is called, and the columns that a decision has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from modelmill.errors import ConfigError
from modelmill.rules.evaluation.partial_evaluation import Partial
from modelmill.rules.evaluation.possible_values import FALSE, NULL, TRUE, Uncertain
from modelmill.rules.evaluation.staged_evaluation import Settlement
from modelmill.rules.rule_set import Rule
from modelmill.signals.groups import EVIDENCE, Evaluation
from modelmill.signals.values import STORED, summary

if TYPE_CHECKING:
    from modelmill.rules.engine import Engine


@dataclass(frozen=True)
class Chunk:
    """Rows that have been settled."""

    rows: pa.RecordBatch
    settlement: Settlement
    evaluations: dict[str, Evaluation]
    """The work of each group on these rows, by the group's name: it can show evidence."""


EXPLANATION = pa.struct(
    [
        pa.field(
            "signals",  # those that were needed, in the order of the rule set
            pa.list_(
                pa.struct(
                    [
                        pa.field("signal", pa.string()),
                        pa.field("truth", pa.bool_()),  # the value is in the column of its kind
                        pa.field("integer", pa.int64()),
                        pa.field("number", pa.float64()),
                        pa.field("text", pa.string()),
                        pa.field("time", STORED["time"]),
                        pa.field("region", pa.string()),  # between which thresholds of the rules it is
                        pa.field("unknown", pa.string()),  # why it is NULL
                        pa.field("version", pa.string()),  # what computed it
                        pa.field("sufficient", pa.bool_()),  # whether it is in the smallest sufficient set
                    ]
                )
            ),
        ),
        pa.field("not_needed", pa.list_(pa.string())),
        pa.field("minimal", pa.bool_()),  # whether it is proved that no smaller set is sufficient
        pa.field("other_decision", pa.string()),  # the nearest counterfactual; null where none was found
        pa.field(
            "changes",
            pa.list_(
                pa.struct(
                    [
                        pa.field("signal", pa.string()),
                        pa.field("old", pa.string()),
                        pa.field("new", pa.string()),
                    ]
                )
            ),
        ),
        pa.field(
            "evidence",
            pa.list_(pa.struct([pa.field("signal", pa.string()), *EVIDENCE.value_type])),
        ),
    ]
)
"""Arrow type of an explanation."""


def decision_schema(key: pa.Field, *, explain: bool = False) -> pa.Schema:
    """Return the columns of decisions.

    :param key: the input's key.
    :param explain: whether there is a column ``explanation`` of type :data:`EXPLANATION`.
    :return: the key; ``decision``; ``rule`` and ``severity``, null where no rule fires; ``reason``, null
        where the rule gives none; ``because``: ``rule``, ``default``, or ``unknown`` where the condition of
        ``rule`` is NULL; ``rule_set``: name and the first 12 characters of its digest.
    :raises ConfigError: if the key has the name of another column.
    """
    names = ("decision", "rule", "severity", "reason", "because", "rule_set")
    if key.name in (*names, "explanation"):
        raise ConfigError(
            "the key must not have the name of a column of decisions",
            got=key.name,
            remedy="rename the column when the table is made",
        )
    more = [pa.field("explanation", EXPLANATION)] if explain else []
    return pa.schema([key, *(pa.field(name, pa.string()) for name in names), *more])


def decided(engine: Engine, chunk: Chunk) -> pa.RecordBatch:
    """Return the decisions of a chunk.

    :param engine: what settled it.
    :param chunk: the rows.
    :return: see :func:`decision_schema`.
    """
    compiled, outcomes = engine.compiled, chunk.settlement.outcomes
    kinds, which = np.unique(outcomes, return_inverse=True)
    columns: list[list[str | None]] = [[], [], [], []]
    for outcome in kinds.tolist():
        number = compiled.rule_of(outcome)
        rule = None if number is None else engine.rule_set.rules[number]
        fires = outcome < compiled.no_rule
        columns[0].append(compiled.decision(outcome))
        columns[1].append(rule.name if rule else None)
        columns[2].append(rule.severity if rule and fires else None)
        columns[3].append("rule" if fires else "default" if rule is None else "unknown")
    decision, rule_name, severity, because = (
        pa.array(column, pa.string()).take(pa.array(which)) for column in columns
    )
    reason = pa.array(_reasons(engine, chunk), pa.string())
    origin = pa.repeat(f"{engine.rule_set.rule_set}@{engine.digest[:12]}", len(outcomes))
    key = chunk.rows.column(engine.rule_set.key)
    schema = decision_schema(engine.schema.field(engine.rule_set.key))
    return pa.RecordBatch.from_arrays(
        [key, decision, rule_name, severity, reason, because, origin.cast(pa.string())], schema=schema
    )


def known_state(engine: Engine, settlement: Settlement) -> Partial:
    """Return what is known of rows that have been settled.

    :param engine: what settled them.
    :param settlement: their outcomes.
    :return: the state with every signal that was needed, on the rows where it was.
    """
    count = len(settlement.outcomes)
    partial = engine.program.begin(count)
    states = {}
    for name, values in settlement.values.items():
        rows = np.flatnonzero(settlement.computed[name])
        states[name] = engine.program.state_of(name, values.take(pa.array(rows)), rows, count)
    partial.set(states)
    return partial


def shown(value: Any, form: str = "") -> str:
    """Return a value for people."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not form:
        return f"{value:.6g}"
    if isinstance(value, bytes | list):
        return format(summary(value), form)
    return format(value, form) if isinstance(value, int | float | str) else str(value)


def _reasons(engine: Engine, chunk: Chunk) -> list[str | None]:
    settlement = chunk.settlement
    found: list[str | None] = [None] * len(settlement.outcomes)
    partial: Partial | None = None
    for outcome in np.unique(settlement.outcomes).tolist():
        if outcome >= engine.compiled.no_rule or not engine.rule_set.rules[outcome].reason:
            continue
        rule = engine.rule_set.rules[outcome]
        rows = np.flatnonzero(settlement.outcomes == outcome)
        columns: dict[str, list[Any]] = {}
        for _, name, _ in rule.reason_parts():
            if name is not None and name not in columns:
                partial = partial or known_state(engine, settlement)
                columns[name] = signal_values(engine, settlement, partial, name, rows)
        for place, row in enumerate(rows.tolist()):
            found[row] = _filled(rule, {name: values[place] for name, values in columns.items()})
    return found


class NotNeeded:
    """Stands for the value of a signal that was not needed."""


def signal_values(
    engine: Engine, settlement: Settlement, partial: Partial, name: str, rows: Any
) -> list[Any]:
    """Return a signal's values, expressions over others included.

    :param engine: what settled the rows.
    :param settlement: their outcomes.
    :param partial: see :func:`known_state`.
    :param name: the signal.
    :param rows: numbers of rows.
    :return: Python values; None is unknown, and :class:`NotNeeded` stands for what was not needed.
    """
    taken = pa.array(rows)
    if name not in engine.compiled.derived:
        if name not in settlement.values:
            return [NotNeeded] * len(rows)
        values = settlement.values[name].take(taken).to_pylist()
        return [
            value if there else NotNeeded
            for value, there in zip(values, settlement.computed[name][rows], strict=True)
        ]
    state = partial.states[engine.compiled.derived[name]]
    if state is None:
        return [NotNeeded] * len(rows)
    if not isinstance(state, Uncertain):
        sets = np.broadcast_to(state, partial.rows)[rows].tolist()
        return [{TRUE: True, FALSE: False, NULL: None}.get(one, NotNeeded) for one in sets]
    unknown = np.broadcast_to(state.open, partial.rows)[rows]
    values = (
        [state.values.as_py()] * len(rows)
        if isinstance(state.values, pa.Scalar)
        else state.values.take(taken).to_pylist()
    )
    return [NotNeeded if one else value for one, value in zip(unknown, values, strict=True)]


def _filled(rule: Rule, values: Mapping[str, Any]) -> str:
    parts = []
    for text, name, form in rule.reason_parts():
        parts.append(text)
        if name is not None:
            value = values[name]
            parts.append("not needed" if value is NotNeeded else shown(value, form))
    return "".join(parts)
