"""The gate's report: JSON for machines, a page for people, a few lines for whoever has to approve."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from modelmill.options import Record
from modelmill.registry.comparison import NotJudged, Unit
from modelmill.registry.figure_letters import draw_letters
from modelmill.registry.learnt_rows import LeftOut
from modelmill.registry.verdict import PARTS, CheckResult, apart, shown, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_REASONS = 8
_MOST_NAMED = 10
GATE_REPORT = "gate/verdict.json"
"""Path of the report among a run's artifacts."""
TAG_JUDGED = "modelmill.judged"
"""Tag of a gate's run: metric, unit, value and interval of the challenger, as JSON. It is in the report, too;
whoever shows many nights reads it from here."""


class ChainLink(Record):
    """A model of the challenger's chain, and what the step to it cost on the judged rows."""

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


class ClassLine(Record):
    """How well the challenger tells one class from the others."""

    name: str
    rows: int
    precision: float
    recall: float


class WrongTestRow(Record):
    """A test row that the challenger gets wrong."""

    text: str
    """Its beginning."""
    label: str
    answer: str
    score: float
    """Probability of the answer; the number that is answered."""
    key: str = ""
    """The row's key in the dataset, by which it is found there; empty in reports of earlier versions."""


class GateReport(Record):
    """Everything that the gate looked at."""

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
    classes: tuple[ClassLine, ...] = ()
    """Of the challenger; empty unless a row has one class."""
    confusions: tuple[tuple[str, str, int], ...] = ()
    """Label, answer and number of test rows of the most frequent mistakes."""
    mistakes: tuple[WrongTestRow, ...] = ()
    """The rows that it is most sure about and wrong, or, of numbers, farthest from."""


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


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<title>{{ report.name }}: {{ outcome }}</title>
<style>body{font:15px sans-serif;margin:2em;max-width:75em}td,th{padding:.3em .8em;text-align:left;
border-bottom:1px solid #ccc}dt{font-weight:bold}.refused{color:#b00}.passed{color:#070}
.warning{color:#850}img{max-width:100%}.sign td{padding-top:2.5em;min-width:14em}</style>
{%- macro table(checks) %}<table><tr><th>Check</th><th>Compared with</th><th>Verdict</th><th>Measured</th>
<th>Challenger</th><th>Other</th><th>Difference</th><th>Interval</th><th>Accepted</th></tr>
{%- for one in checks %}<tr>{% for cell in cells(one) %}<td>
{%- if loop.index == 3 %}<span class='{{ colour(one) }}'>{{ cell }}</span>{% else %}{{ cell }}{% endif %}</td>
{%- endfor %}</tr>{% endfor %}</table>{% endmacro %}
<h1>{{ report.name }}: <span class='{{ outcome }}'>{{ outcome }}</span></h1>
<dl><dt>Challenger</dt><dd>{{ report.challenger }}</dd>
<dt>Champion</dt><dd>{{ report.champion or "none yet" }}</dd>
<dt>Dataset</dt>
<dd>{{ report.dataset }}, label {{ report.label or "not looked at" }},
{{ report.rows }} test rows</dd>
{% if left_out %}<dt>Left out</dt><dd>{{ left_out }}</dd>{% endif %}
<dt>Confidence</dt><dd>{{ "%.0f" | format(100 * report.confidence) }}%, of all comparisons together</dd></dl>
<p>{{ report.note }}</p>
{% if reasons %}<h2>Why it is refused</h2>
<ul>{% for one in reasons %}<li>{{ one.sentence }}</li>{% endfor %}</ul>
{% endif %}{% if report.chain | length > 1 %}<h2>Made in steps</h2>
<ol>{% for link in report.chain %}<li>{{ link.sentence | replace("`", "") }}</li>{% endfor %}</ol>{% endif %}
{% if told %}<h2>What was compared</h2>{{ table(told) }}{% endif %}
{% if parts %}<details><summary>{{ parts | length }} parts of the rows that passed</summary>
{{ table(parts) }}</details>{% endif %}
{% if report.not_judged %}<h2>Not judged</h2>
<table><tr><th>Check</th><th>Part</th><th>Why</th></tr>
{% for one in report.not_judged %}<tr><td>{{ one.check }}</td><td>{{ one.name }}</td>
<td>{{ one.reason }}</td></tr>
{% endfor %}</table>{% endif %}
{% if report.classes %}<h2>Classes of the challenger</h2>
<table><tr><th>Class</th><th>Test rows</th><th>Right of its rows</th>
<th>Right where answered</th></tr>
{% for one in report.classes %}<tr><td>{{ one.name }}</td><td>{{ one.rows }}</td>
<td>{{ percent(one.recall) }}</td><td>{{ percent(one.precision) }}</td></tr>{% endfor %}</table>{% endif %}
{% if report.confusions %}<h2>Most frequent mistakes</h2>
<table><tr><th>Label</th><th>Answer</th><th>Test rows</th></tr>
{% for label, answer, rows in report.confusions %}
<tr><td>{{ label }}</td><td>{{ answer or "none" }}</td><td>{{ rows }}</td></tr>
{% endfor %}</table>{% endif %}
{% if report.mistakes %}<h2>Worst rows</h2>
<table><tr><th>Key</th><th>Text</th><th>Label</th><th>Answer</th><th>Score</th></tr>
{% for one in report.mistakes %}
<tr><td>{{ one.key }}</td><td>{{ one.text }}</td><td>{{ one.label }}</td>
<td>{{ one.answer or "none" }}</td>
<td>{{ "%.3g" | format(one.score) }}</td></tr>{% endfor %}</table>{% endif %}
{% if image %}<p><img alt="Drops" src="data:image/png;base64,{{ image }}"></p>{% endif %}
<table class="sign"><tr><td>Name</td><td>Date</td><td>Signature</td></tr></table></html>"""
"""The page. Everything that is put into it is escaped."""


def as_html(report: GateReport, figure: Figure | None) -> str:
    """Return the report as a page that a person can read and sign, in one file.

    :param report: the report.
    :param figure: its plot; None if there is none.
    :return: HTML without scripts.
    """
    from jinja2 import Environment, StrictUndefined

    told = [
        check for check in report.checks if check.check not in PARTS or not check.passed or check.too_small
    ]
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    return page.render(
        report=report,
        outcome="passed" if report.passed else "refused",
        left_out=_left_out(report) if report.left_out else "",
        reasons=[check for check in told if not check.passed],
        told=told,
        parts=[check for check in report.checks if check not in told],
        image=_image(figure),
        cells=_cells,
        colour=_colour,
        percent=lambda value: shown(value, "share"),
    )


def _verdict(check: CheckResult) -> str:
    if check.too_small:
        return "too small to judge"
    return "refused" if not check.passed else "warning" if check.warning else "passed"


def _colour(check: CheckResult) -> str:
    return "warning" if check.too_small else _verdict(check)


def _cells(check: CheckResult) -> tuple[str, ...]:
    unit, alone = check.unit, check.other is None
    known = check.low is not None and check.high is not None
    limit = f"at {'least' if check.at_least else 'most'} {shown(check.limit, unit)}"
    return (
        check.check,
        check.name,
        _verdict(check),
        check.metric + (f", {check.rows:,} rows" if check.rows else ""),
        shown(check.challenger, unit),
        "" if check.other is None else shown(check.other, unit),
        "" if alone else f"{apart(abs(check.drop), unit)} {'worse' if check.drop > 0 else 'better'}",
        span(check.low or 0.0, check.high or 0.0, unit) if known else "",
        limit if alone else f"{apart(check.limit, unit)} worse",
    )


def _image(figure: Figure | None) -> str:
    """Return a figure as base64 of its PNG; empty without one."""
    if figure is None:
        return ""
    drawn: list[bytes] = []

    def draw() -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        drawn.append(buffer.getvalue())

    draw_letters(figure, draw)  # the step's log has said of the plot by itself what no font has
    return base64.b64encode(drawn[-1]).decode()
