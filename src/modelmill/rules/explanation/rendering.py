"""Renders an explained decision as text and as HTML.

A decision is a row of :meth:`~modelmill.rules.engine.Engine.decide`, from ``to_pylist`` or from pandas, where
lists are arrays.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.rules.evaluation.decisions import shown
from modelmill.rules.explanation.explainer import VALUE_FIELDS

_DIGEST = re.compile("[0-9a-f]{12,64}")


def explanation_text(decision: Mapping[str, Any]) -> str:
    """Render an explained decision as lines of text."""
    explanation = decision["explanation"]
    lines = [_headline(decision)]
    if explanation is None:
        return lines[0]
    for why, signals in _groups(decision):
        lines.append(f"  {why}:")
        lines += [f"    {signal['signal']} = {_value(signal)}{_remarks(signal)}" for signal in signals]
    proof = "" if explanation["minimal"] else "; perhaps fewer would do"
    lines.append(f"  no value of another signal changes the decision{proof}")
    others = [f"{one['signal']} = {_value(one)}" for one in explanation["signals"] if not one["sufficient"]]
    lines += [f"  read as well: {', '.join(others)}"] if others else []
    if len(explanation["not_needed"]):
        lines.append(f"  not needed: {', '.join(explanation['not_needed'])}")
    if len(explanation["changes"]):
        lines.append(f"  {explanation['other_decision']}, if {_changes(explanation['changes'])}")
    lines += [f"  seen: {_seen(one)}" for one in explanation["evidence"]]
    return "\n".join(lines)


def explanation_html(decision: Mapping[str, Any]) -> str:
    """Render an explained decision as HTML: one ``section``, everything escaped, no script and no style."""
    explanation = decision["explanation"]
    parts = [f"<h3>{html.escape(_headline(decision))}</h3>"]
    if explanation is None:
        return f'<section class="modelmill-decision">{parts[0]}</section>'
    others = [one for one in explanation["signals"] if not one["sufficient"]]
    rows = []
    for why, signals in [*_groups(decision), *([("read as well", others)] if others else [])]:
        kind = "other" if signals is others else "sufficient"
        for signal in signals:
            cells = [why, signal["signal"], _value(signal), signal["region"] or "", _version(signal)]
            inner = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
            rows.append(f'<tr class="{kind}">{inner}</tr>')
    heads = "".join(f"<th>{head}</th>" for head in ("", "signal", "value", "region", "version"))
    parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    if len(explanation["changes"]):
        text = f"{explanation['other_decision']}, if {_changes(explanation['changes'])}"
        parts.append(f'<p class="counterfactual">{html.escape(text)}</p>')
    if len(explanation["not_needed"]):
        parts.append(f'<p class="not-needed">{html.escape(", ".join(explanation["not_needed"]))}</p>')
    if len(explanation["evidence"]):
        seen = "".join(f"<li>{html.escape(_seen(one))}</li>" for one in explanation["evidence"])
        parts.append(f'<ul class="evidence">{seen}</ul>')
    return f'<section class="modelmill-decision">{"".join(parts)}</section>'


def _groups(decision: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return the signals of the sufficient set: those of the rule that decided, and those of rules before."""
    settling = [one for one in decision["explanation"]["signals"] if one["sufficient"]]
    if decision["because"] == "default":
        return [("why no rule", settling)] if settling else []
    # Rows that were stored by an earlier release do not say which signals the rule reads.
    own = [one for one in settling if one.get("in_rule", True)]
    before = [one for one in settling if not one.get("in_rule", True)]
    why = "why this rule" if decision["because"] == "rule" else "why its condition is unknown"
    return [group for group in ((why, own), ("why none before it", before)) if group[1]]


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
    remarks += [version] if (version := _version(signal)) else []
    return f" ({'; '.join(remarks)})" if remarks else ""


def _version(signal: Mapping[str, Any]) -> str:
    """Return what computed a value, without digests: they stay in the data."""
    words = str(signal["version"] or "").split()
    return " ".join(word for word in words if not _DIGEST.fullmatch(word))


def _changes(changes: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(map(_change, changes))


def _change(one: Mapping[str, Any]) -> str:
    said = f"{one['signal']} were {one['new']}"
    return said if one["new"].startswith(("not ", "none of ")) else f"{said} instead of {one['old']}"


def _seen(one: Mapping[str, Any]) -> str:
    where = f"{one['signal']} in {one['column']}"
    if one["start"] is not None:
        where += f" at {one['start']} to {one['end']}"
    if one["time"] is not None:
        where += f" at {one['time']:.2f} s"
    if one["box"] is not None:
        where += f" in box {', '.join(f'{edge:.0f}' for edge in one['box'])}"
    return where + (f": {one['text']!r}" if one["text"] is not None else "")
