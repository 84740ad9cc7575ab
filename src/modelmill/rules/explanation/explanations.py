"""Explanations: what settled a row, what would have changed it, where to look; as columns, text, HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from modelmill.rules.evaluation.decisions import EXPLANATION, Chunk, shown
from modelmill.rules.explanation.sufficient_sets import Change, Findings
from modelmill.signals.values import OPAQUE, Kind

if TYPE_CHECKING:
    from modelmill.rules.engine import Engine

_COLUMN_OF = {"boolean": "truth", "integer": "integer", "float": "number", "text": "text", "time": "time"}


def explained(engine: Engine, chunk: Chunk, rows: Sequence[int] | None = None) -> pa.Array:
    """Explain rows of a chunk.

    :param engine: what settled it.
    :param chunk: the rows.
    :param rows: numbers of the ones to explain; None: all.
    :return: one explanation for each, of type ``EXPLANATION``.
    """
    numbers = list(range(chunk.rows.num_rows)) if rows is None else list(rows)
    taken = pa.array(numbers, pa.int64())
    settlement = chunk.settlement
    columns = {name: settlement.values[name].take(taken).to_pylist() for name in settlement.values}
    needed = {name: mask[numbers] for name, mask in settlement.computed.items()}
    found: list[Findings] = []
    items: list[dict[str, Any]] = []
    for place, row in enumerate(numbers):
        values = {name: columns[name][place] for name in columns if needed[name][place]}
        findings = engine.search.explain(values)
        found.append(findings)
        items.append(_item(engine, values, findings, settlement.failures, row))
    for place, evidence in enumerate(_evidence(engine, chunk, numbers, found)):
        items[place]["evidence"] = evidence
    return pa.array(items, EXPLANATION)


def _item(
    engine: Engine,
    values: Mapping[str, Any],
    findings: Findings,
    failures: Mapping[str, Mapping[int, str]],
    row: int,
) -> dict[str, Any]:
    signals = []
    for name in engine.compiled.base:
        if name not in values:
            continue
        value, info = values[name], engine.signals[name]
        signals.append(
            {
                "signal": name,
                **_typed(info.kind, value),
                "region": engine.search.domains[name].described(value),
                "unknown": failures.get(name, {}).get(row, "NULL") if value is None else None,
                "version": info.version or None,
                "sufficient": name in findings.sufficient,
            }
        )
    return {
        "signals": signals,
        "not_needed": [name for name in engine.compiled.base if name not in values],
        "minimal": findings.minimal,
        "other_decision": findings.decision,
        "changes": [
            {"signal": change.signal, "old": _old(change, values), "new": _new(change)}
            for change in findings.changes
        ],
    }


def _typed(kind: Kind, value: Any) -> dict[str, Any]:
    """Return a value in the column of its kind."""
    if kind in OPAQUE:
        return {"text": None if value is None else shown(value)}
    return {_COLUMN_OF[kind]: value} if kind in _COLUMN_OF else {}


def _old(change: Change, values: Mapping[str, Any]) -> str:
    return shown(change.old) if change.signal in values else "not needed"


def _new(change: Change) -> str:
    """Name the region where the value itself says less: the next number above 0.9 is shown as 0.9 too."""
    return change.region if isinstance(change.new, float | str | bytes | tuple) else shown(change.new)


def _evidence(
    engine: Engine, chunk: Chunk, numbers: Sequence[int], found: Sequence[Findings]
) -> list[list[dict[str, Any]]]:
    """Ask the groups where the signals of the sufficient sets were seen."""
    places: list[list[dict[str, Any]]] = [[] for _ in numbers]
    for group in engine.groups.values():
        for name in engine.compiled.base:
            if name not in group.signals:
                continue
            wanted = [place for place, one in enumerate(found) if name in one.sufficient]
            if not wanted:
                continue
            order = sorted(wanted, key=lambda place: numbers[place])
            rows = np.array([numbers[place] for place in order], np.int64)
            spans = chunk.evaluations[group.name].evidence([name], rows).get(name)
            for place, span in zip(order, spans.to_pylist() if spans is not None else [], strict=False):
                places[place] += [{"signal": name, **one} for one in span or []]
    return places


def explanation_text(decision: Mapping[str, Any]) -> str:
    """Render an explained decision as text.

    :param decision: a row of decisions with its explanation, as ``to_pylist`` gives it.
    :return: lines.
    """
    explanation = decision["explanation"]
    lines = [_headline(decision)]
    for signal in explanation["signals"]:
        mark = "*" if signal["sufficient"] else " "
        lines.append(f"  {mark} {signal['signal']} = {_value(signal)}{_remarks(signal)}")
    proof = "" if explanation["minimal"] else " (perhaps not the smallest set)"
    lines.append(f"  * settles the decision, whatever the others are{proof}")
    if explanation["not_needed"]:
        lines.append(f"  not needed: {', '.join(explanation['not_needed'])}")
    if explanation["changes"]:
        lines.append(f"  {explanation['other_decision']}, if {_changes(explanation['changes'])}")
    lines += [f"  seen: {_seen(one)}" for one in explanation["evidence"]]
    return "\n".join(lines)


def explanation_html(decision: Mapping[str, Any]) -> str:
    """Render an explained decision as HTML: one ``section``, everything escaped, no script and no style.

    :param decision: a row of decisions with its explanation, as ``to_pylist`` gives it.
    :return: HTML.
    """
    explanation = decision["explanation"]
    rows = []
    for signal in explanation["signals"]:
        cells = [signal["signal"], _value(signal), signal["region"], signal["version"] or ""]
        inner = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        rows.append(f'<tr class="{"sufficient" if signal["sufficient"] else "other"}">{inner}</tr>')
    parts = [
        f"<h3>{html.escape(_headline(decision))}</h3>",
        "<table><thead><tr><th>signal</th><th>value</th><th>region</th><th>version</th></tr></thead>",
        f"<tbody>{''.join(rows)}</tbody></table>",
    ]
    if explanation["changes"]:
        text = f"{explanation['other_decision']}, if {_changes(explanation['changes'])}"
        parts.append(f'<p class="counterfactual">{html.escape(text)}</p>')
    if explanation["not_needed"]:
        parts.append(f'<p class="not-needed">{html.escape(", ".join(explanation["not_needed"]))}</p>')
    if explanation["evidence"]:
        seen = "".join(f"<li>{html.escape(_seen(one))}</li>" for one in explanation["evidence"])
        parts.append(f'<ul class="evidence">{seen}</ul>')
    return f'<section class="modelmill-decision">{"".join(parts)}</section>'


def _headline(decision: Mapping[str, Any]) -> str:
    because = {
        "rule": f"rule {decision['rule']}",
        "unknown": f"the condition of rule {decision['rule']} is unknown",
        "default": "no rule fires",
    }[decision["because"]]
    severity = f", {decision['severity']}" if decision["severity"] else ""
    reason = f": {decision['reason']}" if decision["reason"] else ""
    return f"{decision['decision']} ({because}{severity}){reason}"


def _value(signal: Mapping[str, Any]) -> str:
    value = next((signal[name] for name in _COLUMN_OF.values() if signal[name] is not None), None)
    return shown(value)


def _remarks(signal: Mapping[str, Any]) -> str:
    """Return what stands behind a value: its region, why it is unknown, and what computed it."""
    value = _value(signal)
    remarks = [signal["region"]] if signal["region"] not in (value, None) else []
    remarks += [signal["unknown"]] if signal["unknown"] else []
    remarks += [signal["version"]] if signal["version"] else []
    return f" ({'; '.join(remarks)})" if remarks else ""


def _changes(changes: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(f"{one['signal']} were {one['new']} instead of {one['old']}" for one in changes)


def _seen(one: Mapping[str, Any]) -> str:
    where = f"{one['signal']} in {one['column']}"
    if one["start"] is not None:
        where += f" at {one['start']} to {one['end']}"
    if one["time"] is not None:
        where += f" at {one['time']:.2f} s"
    if one["box"] is not None:
        where += f" in box {', '.join(f'{edge:.0f}' for edge in one['box'])}"
    return where + (f": {one['text']!r}" if one["text"] is not None else "")
