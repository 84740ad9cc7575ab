"""The gate's report: JSON for machines, a page for people, a few lines for whoever has to approve."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from modelmill.registry.comparison import NotJudged, Unit
from modelmill.registry.learnt_rows import LeftOut
from modelmill.registry.verdict import PARTS, CheckResult, apart, shown, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:75em}td,th{padding:.3em .8em;text-align:left;"
    "border-bottom:1px solid #ccc}dt{font-weight:bold}.refused{color:#b00}.passed{color:#070}"
    ".warning{color:#850}img{max-width:100%}"
)
_HEADS = (
    "Check",
    "Compared with",
    "Verdict",
    "Measured",
    "Challenger",
    "Other",
    "Difference",
    "Interval",
    "Limit",
)
_MOST_REASONS = 8
_MOST_NAMED = 10


class ChainLink(BaseModel):
    """A model of the challenger's chain, and what the step to it cost on the judged rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str
    uri: str
    metric: str
    unit: Unit
    value: float
    low: float
    high: float
    cost: float | None
    """How much worse than the model before; None for the first one."""
    cost_low: float | None
    cost_high: float | None

    @property
    def sentence(self) -> str:
        """All of it in words."""
        text = f"{self.role} `{self.uri}`: {self.metric} {shown(self.value, self.unit)} "
        text += f"({shown(self.low, self.unit)} to {shown(self.high, self.unit)})"
        if self.cost is None or self.cost_low is None or self.cost_high is None:
            return text
        way = "costs" if self.cost >= 0 else "gains"
        return (
            f"{text}; this step {way} {apart(abs(self.cost), self.unit)} "
            f"({span(self.cost_low, self.cost_high, self.unit)})"
        )


class GateReport(BaseModel):
    """Everything that the gate looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    passed: bool
    challenger: str
    champion: str | None
    dataset: str
    label: str
    """Empty if nothing was compared."""
    rows: int
    """Test rows that were judged on."""
    left_out_rows: int = 0
    """Test rows that were left out because a model has learnt from them."""
    left_out: tuple[LeftOut, ...] = ()
    """By which dataset."""
    confidence: float
    note: str
    chain: tuple[ChainLink, ...] = ()
    """What each step from the start of the chain to the challenger cost."""
    checks: tuple[CheckResult, ...]
    not_judged: tuple[NotJudged, ...] = ()
    """What a check would have looked at, but could not judge."""


def summary(report: GateReport, *, url: str) -> str:
    """Return the report in a few lines of Markdown.

    :param report: the report.
    :param url: page of the MLflow run that has the whole report; empty if there is none.
    :return: the outcome, the figures of the whole test split, and whatever was refused or near it.
    """
    outcome = "passed" if report.passed else "refused"
    champion = report.champion or "none yet"
    lines = [f"**{report.name}: {outcome}.** Challenger `{report.challenger}`, champion `{champion}`."]
    if report.rows:
        lines.append(f"Judged on {report.rows:,} test rows of `{report.dataset}`, label `{report.label}`.")
    lines += [_left_out(report)] if report.left_out else []
    lines += [report.note] if report.note else []
    if len(report.chain) > 1:
        lines.append("Made in steps:\n\n" + "\n".join(f"- {link.sentence}" for link in report.chain))
    told = [check for check in report.checks if not check.passed or check.warning]
    told += [check for check in report.checks if check.passed and not check.warning]
    told = [check for check in told if check.check not in PARTS or not check.passed or check.warning]
    lines.append("\n".join(f"- {check.sentence}" for check in told[:_MOST_REASONS]))
    quiet = len(report.checks) - len(told[:_MOST_REASONS])
    lines += [f"{quiet} more checks are in the report."] if quiet else []
    lines += [_unknown(report)] if _unknown(report) else []
    lines += [f"[The whole report]({url}) is in MLflow, under `gate/verdict.html`."] if url else []
    return "\n\n".join(line for line in lines if line)


def _left_out(report: GateReport) -> str:
    told = "; ".join(one.sentence for one in report.left_out)
    if not report.left_out_rows:
        return f"No test row is left out: {told}."
    rows = report.rows + report.left_out_rows
    return f"{report.left_out_rows:,} of {rows:,} test rows are left out, {report.rows:,} are left: {told}."


def _unknown(report: GateReport) -> str:
    """Return what nobody knows after the gate, in one line; empty if there is nothing."""
    names = [one.sentence for one in report.not_judged]
    names += [f"{check.name}: {check.rows} rows" for check in report.checks if check.too_small]
    more = f"; and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{len(names)} not judged: {'; '.join(names[:_MOST_NAMED])}{more}." if names else ""


def as_html(report: GateReport, figure: Figure | None) -> str:
    """Return the report as a page that a person can read, in one file.

    :param report: the report.
    :param figure: its plot; None if there is none.
    :return: HTML without scripts.
    """
    verdict = "passed" if report.passed else "refused"
    facts = {
        "Challenger": report.challenger,
        "Champion": report.champion or "none yet",
        "Dataset": f"{report.dataset}, label {report.label or 'not looked at'}, {report.rows:,} test rows",
        **({"Left out": _left_out(report)} if report.left_out else {}),
        "Confidence": f"{report.confidence:.0%}, of all comparisons together",
    }
    listed = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items())
    told = [
        check for check in report.checks if check.check not in PARTS or not check.passed or check.too_small
    ]
    parts = [check for check in report.checks if check not in told]
    more = (
        f"<details><summary>{len(parts)} parts of the rows that passed</summary>{_table(parts)}</details>"
        if parts
        else ""
    )
    reasons = "".join(f"<li>{html.escape(check.sentence)}</li>" for check in told if not check.passed)
    return (
        f"<!doctype html><meta charset='utf-8'><title>Gate</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(report.name)}: <span class='{verdict}'>{verdict}</span></h1><dl>{listed}</dl>"
        f"<p>{html.escape(report.note)}</p><ul>{reasons}</ul>{_chain(report.chain)}{_table(told)}{more}{_unknown_list(report)}"
        f"{_image(figure)}"
    )


def _chain(links: Sequence[ChainLink]) -> str:
    rows = "".join(f"<li>{html.escape(link.sentence.replace('`', ''))}</li>" for link in links)
    return f"<h2>Made in steps</h2><ol>{rows}</ol>" if len(links) > 1 else ""


def _unknown_list(report: GateReport) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(one.check)}</td><td>{html.escape(one.name)}</td>"
        f"<td>{html.escape(one.reason)}</td></tr>"
        for one in report.not_judged
    )
    head = "<tr><th>Check</th><th>Part</th><th>Why</th></tr>"
    return f"<h2>Not judged</h2><table>{head}{rows}</table>" if rows else ""


def _table(checks: Sequence[CheckResult]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    return f"<table><tr>{head}</tr>{''.join(map(_row, checks))}</table>" if checks else ""


def _row(check: CheckResult) -> str:
    verdict = "refused" if not check.passed else "warning" if check.warning else "passed"
    shown_verdict = "too small to judge" if check.too_small else verdict
    unit, interval = check.unit, ""
    if check.low is not None and check.high is not None:
        interval = span(check.low, check.high, unit)
    cells = (
        html.escape(check.check),
        html.escape(check.name),
        f"<span class='{'warning' if check.too_small else verdict}'>{shown_verdict}</span>",
        html.escape(check.metric) + (f", {check.rows:,} rows" if check.rows else ""),
        shown(check.challenger, unit),
        "" if check.other is None else shown(check.other, unit),
        _worse(check) if check.other is not None else "",
        interval,
        f"at {'least' if check.at_least else 'most'} {shown(check.limit, unit)}"
        if check.other is None
        else apart(check.limit, unit),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _worse(check: CheckResult) -> str:
    return f"{apart(abs(check.drop), check.unit)} {'worse' if check.drop > 0 else 'better'}"


def _image(figure: Figure | None) -> str:
    if figure is None:
        return ""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return f"<p><img alt='Drops' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
