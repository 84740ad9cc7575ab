"""The morning page: a night as a text that fits a message, and as a page that needs no other file."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import TypeVar

from modelmill.monitoring.morning import (
    ChampionMove,
    DriftAlarm,
    FailedStep,
    ModelStep,
    Morning,
    PipelineCost,
    RefusedModel,
)
from modelmill.redaction import redacted

Part = TypeVar("Part")

_MOST_IN_TEXT = 20
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1a202c; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 1.8rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #cbd5e0; padding: .35rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
.none { color: #4a5568; } .bad { color: #9b2c2c; }
@media (prefers-color-scheme: dark) {
  body { color: #e2e8f0; background: #171923; } a { color: #90cdf4; } td, th { border-color: #4a5568; }
  .none { color: #a0aec0; } .bad { color: #feb2b2; } }
"""


@dataclass(frozen=True)
class _Row:
    """A row of a table: its cells, and the page that its first cell leads to; empty if there is none."""

    cells: tuple[str, ...]
    url: str = ""


@dataclass(frozen=True)
class _Section:
    """A table of the page, and what stands there if it is empty."""

    title: str
    none: str
    header: tuple[str, ...]
    rows: tuple[_Row, ...]


def _sections(night: Morning) -> list[_Section]:
    """Return what the page has, what needs somebody first."""
    return [
        _Section("Failed", "No step failed.", ("step", "what", "what to do"), _rows(_failed, night.failed)),
        _Section("Drift", "No alarms.", ("step", "alarms"), _rows(_alarm, night.alarms)),
        _Section(
            "Refused", "No model was refused.", ("model", "stays", "why"), _rows(_refused, night.refused)
        ),
        _Section(
            "Promoted",
            "No champion has changed.",
            ("model", "what", "by", "why"),
            _rows(_move, night.promoted),
        ),
        _Section(
            "Trained",
            "Nothing was trained.",
            ("step", "model", "figures", "minutes"),
            _rows(_made, night.trained),
        ),
        _Section(
            "What it cost",
            "No step ran: all results were there already.",
            ("pipeline", "steps that ran", "minutes", "CPU minutes", "most memory, MB"),
            _rows(_cost, night.costs),
        ),
    ]


def _rows(row: Callable[[Part], _Row], parts: Sequence[Part]) -> tuple[_Row, ...]:
    return tuple(row(part) for part in parts)


def _failed(one: FailedStep) -> _Row:
    what = f"{one.how}: {one.error}" if one.error else one.how
    date = f" for {one.logical_date.astimezone(UTC):%Y-%m-%d %H:%M}" if one.logical_date else ""
    return _Row((f"{one.pipeline}.{one.step}{date}", what, one.next), one.url)


def _alarm(one: DriftAlarm) -> _Row:
    return _Row((f"{one.pipeline}.{one.step}", "; ".join(one.alarms)), one.url)


def _refused(one: RefusedModel) -> _Row:
    return _Row((one.model, _version(one.champion), "; ".join(one.reasons) or "no reason was written down"))


def _move(one: ChampionMove) -> _Row:
    what = f"{one.what}: {_version(one.from_version)} to {_version(one.to_version)}"
    return _Row((one.model, what, one.who, "; ".join(one.reasons)))


def _made(one: ModelStep) -> _Row:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in one.figures.items())
    return _Row((f"{one.pipeline}.{one.step}", one.model, figures, f"{one.minutes:.1f}"), one.url)


def _cost(one: PipelineCost) -> _Row:
    cpu = "not measured" if one.cpu_minutes is None else f"{one.cpu_minutes:.1f}"
    memory = "not measured" if one.most_memory_mb is None else f"{one.most_memory_mb:,.0f}"
    return _Row((one.pipeline, str(one.steps), f"{one.minutes:.1f}", cpu, memory))


def _version(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def _span(night: Morning) -> str:
    since, until = (moment.astimezone(UTC) for moment in (night.since, night.until))
    return f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"


def as_text(night: Morning) -> str:
    """Return a night as plain text, for a message or a terminal: of each list at most 20 rows."""
    lines = [f"modelmill, {_span(night)}: {night.headline}"]
    lines += [_line(f"NOT KNOWN: {one}") for one in night.unknown]
    for section in _sections(night):
        lines += ["", f"{section.title}:" if section.rows else f"{section.title}: {section.none}"]
        for row in section.rows[:_MOST_IN_TEXT]:
            cells = zip(section.header[1:], row.cells[1:], strict=True)
            told = "; ".join(f"{name}: {cell}" for name, cell in cells if cell)
            lines.append(f"  {_line(f'{row.cells[0]}: {told}')}")
        if len(section.rows) > _MOST_IN_TEXT:
            lines.append(f"  and {len(section.rows) - _MOST_IN_TEXT} more")
    return "\n".join(lines)


def _line(text: str) -> str:
    """Return a text in one line: what steps say must not look like lines of ours, or steer a terminal."""
    shown = "".join(
        letter if letter.isprintable() or letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return redacted(" ".join(shown.split()))


def as_html(night: Morning) -> str:
    """Return a night as a page: one file of HTML without scripts, in light and dark, texts escaped."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>modelmill: {_escaped(night.headline)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_escaped(night.headline)}</h1><p>{_escaped(_span(night))}</p>",
        *(f'<p class="bad" role="alert">Not known: {_escaped(one)}</p>' for one in night.unknown),
    ]
    for section in _sections(night):
        parts.append(f"<h2>{_escaped(section.title)}</h2>")
        parts += _table(section) if section.rows else [f'<p class="none">{_escaped(section.none)}</p>']
    return "\n".join([*parts, "</body></html>", ""])


def _table(section: _Section) -> list[str]:
    header = "".join(f'<th scope="col">{_escaped(name)}</th>' for name in section.header)
    rows = []
    for row in section.rows:
        first, *others = map(_escaped, row.cells)
        if row.url.startswith(("http://", "https://")):
            first = f'<a href="{_escaped(row.url)}">{first}</a>'
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in (first, *others)) + "</tr>")
    return [f"<table><thead><tr>{header}</tr></thead><tbody>", *rows, "</tbody></table>"]


def _escaped(text: str) -> str:
    return html.escape(redacted(text))
