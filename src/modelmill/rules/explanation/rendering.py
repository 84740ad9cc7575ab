"""Renders an explained decision as text and as HTML.

A decision is a row of :meth:`~modelmill.rules.engine.Engine.decide`, from ``to_pylist`` or from pandas, where
lists are arrays.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.rules.evaluation.decisions import shown
from modelmill.rules.explanation.explainer import VALUE_FIELDS


def explanation_text(decision: Mapping[str, Any]) -> str:
    """Render an explained decision as lines of text."""
    explanation = decision["explanation"]
    lines = [_headline(decision)]
    for signal in explanation["signals"]:
        mark = "*" if signal["sufficient"] else " "
        lines.append(f"  {mark} {signal['signal']} = {_value(signal)}{_remarks(signal)}")
    proof = "" if explanation["minimal"] else " (perhaps not the smallest set)"
    lines.append(f"  * settles the decision, whatever the others are{proof}")
    if len(explanation["not_needed"]):
        lines.append(f"  not needed: {', '.join(explanation['not_needed'])}")
    if len(explanation["changes"]):
        lines.append(f"  {explanation['other_decision']}, if {_changes(explanation['changes'])}")
    lines += [f"  seen: {_seen(one)}" for one in explanation["evidence"]]
    return "\n".join(lines)


def explanation_html(decision: Mapping[str, Any]) -> str:
    """Render an explained decision as HTML: one ``section``, everything escaped, no script and no style."""
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
    if len(explanation["changes"]):
        text = f"{explanation['other_decision']}, if {_changes(explanation['changes'])}"
        parts.append(f'<p class="counterfactual">{html.escape(text)}</p>')
    if len(explanation["not_needed"]):
        parts.append(f'<p class="not-needed">{html.escape(", ".join(explanation["not_needed"]))}</p>')
    if len(explanation["evidence"]):
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
    value = next((signal[name] for name in VALUE_FIELDS.values() if signal[name] is not None), None)
    return shown(value)


def _remarks(signal: Mapping[str, Any]) -> str:
    """Return the remarks on a value: its region, why it is unknown, and what computed it."""
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
