"""Explains settled rows: a struct for each row, which Arrow and Parquet can hold."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.decisions import shown
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import SettledChunk
from modelmill.rules.explanation.search import ExplanationSearch, RowExplanation, SignalChange
from modelmill.signals.groups import EVIDENCE, SignalGroup
from modelmill.signals.values import OPAQUE, STORED, Kind

EXPLANATION = pa.struct(
    [
        pa.field(
            "signals",  # those that were needed, in the order of the rule set
            pa.list_(
                pa.struct(
                    [
                        pa.field("signal", pa.string()),
                        pa.field("truth", pa.bool_()),  # the value is in the field of its kind
                        pa.field("integer", pa.int64()),
                        pa.field("number", pa.float64()),
                        pa.field("text", pa.string()),
                        pa.field("time", STORED["time"]),
                        pa.field("region", pa.string()),  # between which thresholds of the rules it is
                        pa.field("unknown", pa.string()),  # why it is NULL
                        pa.field("version", pa.string()),  # of what computed it
                        pa.field("sufficient", pa.bool_()),  # whether it is in the smallest sufficient set
                    ]
                )
            ),
        ),
        pa.field("not_needed", pa.list_(pa.string())),
        pa.field("minimal", pa.bool_()),  # whether it is proved that no smaller set is sufficient
        pa.field("other_decision", pa.string()),  # of the nearest counterfactual; null if none was found
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

VALUE_FIELDS = {"boolean": "truth", "integer": "integer", "float": "number", "text": "text", "time": "time"}
"""Field of an explained signal that holds its value, by the signal's kind."""


class Explainer:
    """Explains rows that one rule set has settled.

    :param program: the rules.
    :param groups: the groups of its signals.
    """

    def __init__(self, program: RuleProgram, groups: Iterable[SignalGroup]) -> None:
        self._program = program
        self._groups = list(groups)
        self._infos = {name: info for group in self._groups for name, info in group.signals.items()}

    @functools.cached_property
    def _search(self) -> ExplanationSearch:
        return ExplanationSearch(self._program)

    def explain(self, chunk: SettledChunk) -> pa.Array:
        """Explain the rows of a chunk.

        :param chunk: the rows.
        :return: an explanation for each row, of type :data:`EXPLANATION`.
        """
        settlement = chunk.settlement
        columns = {name: values.to_pylist() for name, values in settlement.values.items()}
        found: list[RowExplanation] = []
        items: list[dict[str, Any]] = []
        for row in range(chunk.rows.num_rows):
            values = {name: columns[name][row] for name in columns if settlement.computed[name][row]}
            explanation = self._search.explain(values)
            failures = {name: rows[row] for name, rows in settlement.failures.items() if row in rows}
            found.append(explanation)
            items.append(self._item(values, explanation, failures))
        for item, evidence in zip(items, self._evidence(chunk, found), strict=True):
            item["evidence"] = evidence
        return pa.array(items, EXPLANATION)

    def _item(
        self, values: Mapping[str, Any], found: RowExplanation, failures: Mapping[str, str]
    ) -> dict[str, Any]:
        base = self._program.compiled.base
        signals = []
        for name in base:
            if name not in values:
                continue
            value, info = values[name], self._infos[name]
            signals.append(
                {
                    "signal": name,
                    **_typed(info.kind, value),
                    "region": self._search.domains[name].described(value),
                    "unknown": failures.get(name, "NULL") if value is None else None,
                    "version": info.version or None,
                    "sufficient": name in found.sufficient,
                }
            )
        return {
            "signals": signals,
            "not_needed": [name for name in base if name not in values],
            "minimal": found.minimal,
            "other_decision": found.other_decision,
            "changes": [
                {"signal": change.signal, "old": _old(change, values), "new": _new(change)}
                for change in found.changes
            ],
        }

    def _evidence(self, chunk: SettledChunk, found: Sequence[RowExplanation]) -> list[list[dict[str, Any]]]:
        """Return the evidence for each row: where the signals of its sufficient set were seen."""
        places: list[list[dict[str, Any]]] = [[] for _ in found]
        for group in self._groups:
            for name in self._program.compiled.base:
                if name not in group.signals:
                    continue
                failed = chunk.settlement.failures.get(name, {})  # nothing was seen there
                explained = (row for row, one in enumerate(found) if name in one.sufficient)
                rows = np.array([row for row in explained if row not in failed], np.int64)
                if len(rows) == 0:
                    continue
                spans = chunk.evaluations[group.name].evidence([name], rows).get(name)
                for row, span in zip(rows, spans.to_pylist() if spans is not None else [], strict=False):
                    places[row] += [{"signal": name, **one} for one in span or []]
        return places


def _typed(kind: Kind, value: Any) -> dict[str, Any]:
    """Return a value in the field of its kind."""
    if kind in OPAQUE:
        return {"text": None if value is None else shown(value)}
    return {VALUE_FIELDS[kind]: value} if kind in VALUE_FIELDS else {}


def _old(change: SignalChange, values: Mapping[str, Any]) -> str:
    return shown(change.old) if change.signal in values else "not needed"


def _new(change: SignalChange) -> str:
    """Return the region if the value itself says less: the float after 0.9 would be shown as 0.9 too."""
    return change.region if isinstance(change.new, float | str | bytes | tuple) else shown(change.new)
