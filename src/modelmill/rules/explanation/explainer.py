"""Explains settled rows: a struct for each row, which Arrow and Parquet can hold."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from modelmill.options import Options
from modelmill.rules.evaluation.decisions import python_values, shown
from modelmill.rules.evaluation.rule_program import RuleProgram
from modelmill.rules.evaluation.staged_evaluation import SettledChunk
from modelmill.rules.explanation.search import ExplanationSearch, FoundReasons
from modelmill.rules.language.program import reached
from modelmill.signals.groups import EVIDENCE, Mask, SignalGroup
from modelmill.signals.values import OPAQUE, STORED, Kind

VALUE_FIELDS = {"boolean": "truth", "integer": "integer", "float": "number", "text": "text", "time": "time"}
"""Field of an explained signal that holds its value, by the signal's kind."""
_VALUE = [
    pa.field("truth", pa.bool_()),  # the value is in the field of its kind
    pa.field("integer", pa.int64()),
    pa.field("number", pa.float64()),
    pa.field("text", pa.string()),
    pa.field("time", STORED["time"]),
    pa.field(
        "region", pa.string()
    ),  # between which thresholds of the rules it is; null if it is all that is said
]
_SIGNAL = pa.struct(
    [
        pa.field("signal", pa.string()),
        *_VALUE,
        pa.field("unknown", pa.string()),  # why it is NULL
        pa.field("version", pa.string()),  # of what computed it
        pa.field("sufficient", pa.bool_()),  # whether it is in the smallest sufficient set
        pa.field("in_rule", pa.bool_()),  # whether the condition of the rule that decided reads it
    ]
)
_CHANGE = pa.struct(
    [
        pa.field("signal", pa.string()),
        pa.field("old", pa.string()),
        pa.field("new", pa.string()),  # for people: the region, or the value
        *_VALUE,  # the new value
    ]
)
_EVIDENCE = pa.struct([pa.field("signal", pa.string()), *EVIDENCE.value_type])
EXPLANATION = pa.struct(
    [
        pa.field("signals", pa.list_(_SIGNAL)),  # those that were needed, in the order of the rule set
        pa.field("not_needed", pa.list_(pa.string())),
        pa.field("minimal", pa.bool_()),  # whether it is proved that no smaller set is sufficient
        pa.field("other_decision", pa.string()),  # of the nearest counterfactual; null if none was found
        pa.field("changes", pa.list_(_CHANGE)),
        pa.field("evidence", pa.list_(_EVIDENCE)),
    ]
)
"""Arrow type of an explanation."""


class Explained(Options):
    """Which decisions are explained: all, or some."""

    decisions: tuple[str, ...] = Field((), description="Only these decisions; empty: all.")
    share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Only such a share of the rows. A hash of the key says which.",
    )

    def rows(self, keys: pa.Array, decisions: pa.Array) -> Mask:
        """Return a mask of the rows that are explained, by the key and the decision of each."""
        found = np.ones(len(keys), np.bool_)
        if self.decisions:
            found &= np.isin(np.array(decisions.to_pylist(), object), self.decisions)
        if self.share < 1:
            hashes = [zlib.crc32(str(key).encode(errors="replace")) for key in python_values(keys)]
            found &= np.array(hashes, np.float64) < self.share * 2**32
        return found


class Explainer:
    """Explains rows that one rule set has settled."""

    def __init__(self, program: RuleProgram, groups: Iterable[SignalGroup]) -> None:
        self._program = program
        self._groups = list(groups)
        self._infos = {name: info for group in self._groups for name, info in group.signals.items()}

    @functools.cached_property
    def _search(self) -> ExplanationSearch:
        return ExplanationSearch(self._program)

    def explain(self, chunk: SettledChunk, wanted: Mask | None = None) -> pa.Array:
        """Explain the rows of a chunk.

        :param chunk: the rows.
        :param wanted: those to explain; None for all.
        :return: an explanation for each row, of type :data:`EXPLANATION`; null where it is not wanted.
        """
        count = chunk.rows.num_rows
        rows = np.arange(count) if wanted is None else np.flatnonzero(wanted)
        found = self._explained(chunk, rows)
        if len(rows) == count:
            return found
        place = np.full(count, -1, np.int64)
        place[rows] = np.arange(len(rows))
        return found.take(pa.array(place, mask=place < 0))

    def _explained(self, chunk: SettledChunk, rows: npt.NDArray[np.int64]) -> pa.Array:
        settlement = chunk.settlement
        every = len(rows) == chunk.rows.num_rows
        values = {name: one if every else one.take(pa.array(rows)) for name, one in settlement.values.items()}
        known = {name: mask[rows] for name, mask in settlement.computed.items()}
        reasons = self._search.explain_rows(values, known, len(rows))
        failures = {
            name: {place: one[row] for place, row in enumerate(rows.tolist()) if row in one}
            for name, one in settlement.failures.items()
        }
        columns = [
            self._signals(values, known, reasons, failures, settlement.outcomes[rows]),
            self._not_needed(known, len(rows)),
            pa.array(reasons.minimal),
            pa.array(reasons.changes.decisions, pa.string()),
            self._changes(values, known, reasons),
            self._evidence(chunk, reasons, rows),
        ]
        return pa.StructArray.from_arrays(columns, fields=list(EXPLANATION))

    def _signals(
        self,
        values: dict[str, pa.Array],
        known: dict[str, Mask],
        reasons: FoundReasons,
        failures: dict[str, dict[int, str]],
        outcomes: npt.NDArray[np.int32],
    ) -> pa.Array:
        parts, owners = [], []
        read = self._read_by_rules()
        rule = np.array([self._rule_of(outcome) for outcome in outcomes.tolist()], np.int64)
        for name in self._program.compiled.base:
            if name not in known or not known[name].any():
                continue
            rows = np.flatnonzero(known[name])
            taken = values[name] if len(rows) == len(known[name]) else values[name].take(pa.array(rows))
            info, place = self._infos[name], self._search.table.place[name]
            unknown = pa.nulls(len(rows), pa.string())
            if taken.null_count:
                why = failures.get(name, {})
                null = taken.is_null().to_numpy(zero_copy_only=False).tolist()
                unknown = pa.array(
                    [
                        why.get(row, "NULL") if one else None
                        for row, one in zip(rows.tolist(), null, strict=True)
                    ],
                    pa.string(),
                )
            columns = {
                "signal": _repeated(name, len(rows)),
                "region": self._regions(name, taken),
                "unknown": unknown,
                "version": _repeated(info.version or None, len(rows)),
                "sufficient": pa.array(reasons.sufficient[rows, place]),
                "in_rule": pa.array(read[place][rule[rows]]),
                **_typed(info.kind, taken),
            }
            parts.append(_struct(_SIGNAL, columns, len(rows)))
            owners.append(rows)
        return _lists(parts, owners, len(rule), _SIGNAL)

    def _regions(self, name: str, values: pa.Array) -> pa.Array:
        domain = self._search.domains[name]
        if not domain.exact or domain.kind == "boolean":
            return pa.nulls(len(values), pa.string())
        names = pa.array([*domain.regions.named, None], pa.string())
        return names.take(pa.array(domain.regions.of(values)))

    def _rule_of(self, outcome: int) -> int:
        """Return the number of the rule that decided; that after the last one for the default."""
        rule = self._program.compiled.rule_of(outcome)
        return self._program.compiled.no_rule if rule is None else rule

    def _read_by_rules(self) -> npt.NDArray[np.bool_]:
        """Return whether the condition of each rule reads each signal, ``(signals, rules + 1)``."""
        return self._read

    @functools.cached_property
    def _read(self) -> npt.NDArray[np.bool_]:
        compiled, table = self._program.compiled, self._search.table
        found = np.zeros((table.width, compiled.no_rule + 1), np.bool_)
        for number, root in enumerate(compiled.roots):
            for step in reached(compiled.steps, [root]):
                place = table.place.get(compiled.steps[step].column or "")
                if place is not None:
                    found[place, number] = True
        return found

    def _not_needed(self, known: dict[str, Mask], count: int) -> pa.Array:
        base = self._program.compiled.base
        names, owners = [], []
        for name in base:
            rows = np.flatnonzero(~known[name]) if name in known else np.arange(count)
            names.append(_repeated(name, len(rows)))
            owners.append(rows)
        return _lists(names, owners, count, pa.string())

    def _changes(
        self, values: dict[str, pa.Array], known: dict[str, Mask], reasons: FoundReasons
    ) -> pa.Array:
        parts, owners = [], []
        for one in reasons.changes.signals:
            name, count = reasons.changes.names[one.place], len(one.rows)
            kind = self._search.domains[name].kind
            there = known[name][one.rows] if name in known else np.zeros(count, np.bool_)
            old = values[name].take(pa.array(one.rows)) if name in values else pa.nulls(count, STORED[kind])
            texts = [
                shown(value) if told else "not needed"
                for value, told in zip(python_values(old), there.tolist(), strict=True)
            ]
            # The float after 0.9 says less than "above 0.9"; the integer after 9 says more.
            said = one.regions if kind not in ("integer", "time") else [None] * count
            new = [
                shown(value) if region is None else region
                for value, region in zip(python_values(one.values), said, strict=True)
            ]
            columns = {
                "signal": _repeated(name, count),
                "old": pa.array(texts, pa.string()),
                "new": pa.array(new, pa.string()),
                "region": pa.array(one.regions, pa.string()),
                **({} if kind in OPAQUE else _typed(kind, one.values)),
            }
            parts.append(_struct(_CHANGE, columns, count))
            owners.append(one.rows)
        return _lists(parts, owners, len(reasons.minimal), _CHANGE)

    def _evidence(
        self, chunk: SettledChunk, reasons: FoundReasons, wanted: npt.NDArray[np.int64]
    ) -> pa.Array:
        """Return the evidence for each row: where the signals of its sufficient set were seen."""
        parts, owners = [], []
        settlement, table = chunk.settlement, self._search.table
        for group in self._groups:
            for name in self._program.compiled.base:
                if name not in group.signals or name not in settlement.values:
                    continue
                # What is not there was not seen anywhere.
                there = _seen(settlement.values[name])
                failed = settlement.failures.get(name, {})
                explained = np.flatnonzero(reasons.sufficient[:, table.place[name]] & there[wanted])
                if failed:
                    explained = explained[[row not in failed for row in wanted[explained].tolist()]]
                if len(explained) == 0:
                    continue
                spans = chunk.evaluations[group.name].evidence([name], wanted[explained]).get(name)
                if spans is None:
                    continue
                spans = spans.cast(EVIDENCE) if spans.type != EVIDENCE else spans
                lengths = pc.fill_null(pc.list_value_length(spans), 0).to_numpy(zero_copy_only=False)
                flat = spans.flatten()
                arrays = [_repeated(name, len(flat)), *flat.flatten()]
                parts.append(pa.StructArray.from_arrays(arrays, fields=list(_EVIDENCE)))
                owners.append(np.repeat(explained, lengths))
        return _lists(parts, owners, len(wanted), _EVIDENCE)


def _seen(values: pa.Array) -> Mask:
    """Return where there may be something to see: a model that abstains is unknown, and says why."""
    if pa.types.is_boolean(values.type):
        found: Mask = values.fill_null(True).to_numpy(zero_copy_only=False)
        return found
    if pa.types.is_integer(values.type):
        return np.asarray(values.fill_null(1).to_numpy(zero_copy_only=False) != 0)
    return np.ones(len(values), np.bool_)


def _repeated(value: str | None, count: int) -> pa.Array:
    return pa.nulls(count, pa.string()) if value is None else pa.repeat(pa.scalar(value, pa.string()), count)


def _typed(kind: Kind, values: pa.Array) -> dict[str, pa.Array]:
    """Return values in the field of their kind."""
    if kind in OPAQUE:
        shorter = [None if one is None else shown(one) for one in values.to_pylist()]
        return {"text": pa.array(shorter, pa.string())}
    if kind == "text":
        try:
            values.validate(full=True)
            return {"text": values.cast(pa.string())}
        except pa.ArrowInvalid:
            return {"text": pa.array(python_values(values), pa.string())}
    return {VALUE_FIELDS[kind]: values} if kind in VALUE_FIELDS else {}


def _struct(kind: pa.StructType, columns: dict[str, pa.Array], count: int) -> pa.Array:
    fields = list(kind)
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in fields
    ]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _lists(parts: list[pa.Array], owners: list[Any], count: int, kind: pa.DataType) -> pa.Array:
    """Return lists, of parts each of which has elements of some rows.

    :param parts: elements, in their order within a row.
    :param owners: the row of each.
    :param count: number of rows.
    :param kind: type of the elements.
    :return: a list for each row.
    """
    if not parts:
        return pa.ListArray.from_arrays(pa.array(np.zeros(count + 1, np.int32)), pa.array([], kind))
    rows = np.concatenate(owners)
    order = np.argsort(rows, kind="stable")
    offsets = np.append(0, np.cumsum(np.bincount(rows, minlength=count))).astype(np.int32)
    elements = pa.concat_arrays(parts).take(pa.array(order))
    return pa.ListArray.from_arrays(pa.array(offsets), elements)
