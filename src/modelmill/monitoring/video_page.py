"""The page on decisions over videos: one file without scripts, in light and dark."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelmill.monitoring.video_report import RuleRows, ShownVideo, VideoReport

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ report.rule_set or "Decisions" }}: {{ headline }}</title>
<style>
:root { color-scheme: light dark; --text: #1a202c; --back: #fff; --line: #cbd5e0; --quiet: #4a5568;
  --card: #f7fafc; --bad: #9b2c2c; --link: #2b6cb0; }
@media (prefers-color-scheme: dark) { :root { --text: #e2e8f0; --back: #171923; --line: #4a5568;
  --quiet: #a0aec0; --card: #1f2430; --bad: #feb2b2; --link: #90cdf4; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: var(--text); background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 0; }
a { color: var(--link); } .quiet { color: var(--quiet); } .bad { color: var(--bad); }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line);
  padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
ul.videos { display: grid; grid-template-columns: repeat(auto-fill, minmax({{ width }}px, 1fr)); gap: 1rem;
  list-style: none; padding: 0; align-items: start; }
ul.videos > li { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem; }
ul.videos img { display: block; max-width: 100%; height: auto; margin-bottom: .4rem; }
ul.videos p { margin: .25rem 0; } .none { border: 1px dashed var(--line); padding: 1.2rem .6rem; }
details { font-size: .85rem; } details table { font-size: .8rem; }
</style></head><body>
<h1>{{ headline }}</h1>
<p class="quiet">{{ "{:,}".format(report.rows) }} videos decided on by {{ report.rule_set or "no rule set" }};
{{ report.source }}</p>
<div class="tables">
<table><caption class="quiet">By decision</caption><thead><tr><th scope="col">decision</th>
<th scope="col" class="number">videos</th></tr></thead><tbody>
{% for decision, count in report.decisions %}<tr><td>{{ decision }}</td>
<td class="number">{{ "{:,}".format(count) }}</td></tr>
{% endfor %}</tbody></table>
<table><caption class="quiet">By rule</caption>
<thead><tr><th scope="col">rule</th><th scope="col">decision</th>
<th scope="col">severity</th><th scope="col" class="number">videos</th>
<th scope="col" class="number">shown</th></tr></thead><tbody>
{% for one in report.rules %}<tr><td><a href="#rule-{{ loop.index }}">{{ name(one) }}</a></td>
<td>{{ one.decision }}</td><td>{{ one.severity or "" }}</td>
<td class="number">{{ "{:,}".format(one.rows) }}</td><td class="number">{{ one.shown | length }}</td></tr>
{% endfor %}{% for one in report.others %}<tr><td>{{ name(one) }}</td><td>{{ one.decision }}</td>
<td>{{ one.severity or "" }}</td><td class="number">{{ "{:,}".format(one.rows) }}</td>
<td class="number">counted</td></tr>
{% endfor %}</tbody></table>
{% if report.unread %}<table><caption class="quiet">Could not be read</caption><thead><tr>
<th scope="col">reason</th><th scope="col" class="number">videos</th></tr></thead><tbody>
{% for reason, count in report.unread %}<tr><td><a href="#unread">{{ reason }}</a></td>
<td class="number">{{ "{:,}".format(count) }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
</div>
{% if report.not_shown %}<p class="bad" role="note">
{{ "{:,}".format(report.not_shown) }} videos of these rules are counted and not shown;
the decisions table has them all.</p>{% endif %}
{% if report.without_picture %}<p class="quiet">
{{ report.without_picture }} of the videos that are shown have no picture; each says why.</p>{% endif %}
{% for one in report.rules %}
<h2 id="rule-{{ loop.index }}">{{ one.decision }}: {{ name(one) }}</h2>
<p class="quiet">{{ "{:,}".format(one.rows) }} videos
{%- if one.severity %}, severity {{ one.severity }}{% endif %};
{% if one.shown | length < one.rows %}{{ one.shown | length }} of them are shown, by key.
{%- else %}all are shown, by key.{% endif %}</p>
<ul class="videos">{% for video in one.shown %}<li>
{% if video.picture.jpeg is not none %}<img alt="{{ alt(video) }}" src="{{ data(video) }}">
{% else %}<p class="none quiet">No picture: {{ video.picture.without }}</p>{% endif %}
<h3>{% if video.link %}<a href="{{ video.link }}" rel="noreferrer">{{ video.key }}</a>
{%- else %}{{ video.key }}{% endif %}</h3>
<p>{{ video.reason or "the rule gives no reason" }}</p>
{% if video.seen %}<p>seen: {{ video.seen | join("; ") }}</p>
{% elif not video.explanation %}<p class="quiet">no explanation of this decision is shown</p>
{% else %}<p class="quiet">no moment of its own</p>{% endif %}
{% if video.picture.jpeg is not none %}<p class="quiet">
frame at {{ "%.2f" | format(video.picture.seconds) }} s
{%- if video.picture.without %}; {{ video.picture.without }}{% endif %}</p>{% endif %}
{% if video.path %}<p class="quiet">{{ video.path }}</p>{% endif %}
{% if video.explanation %}<details><summary>why</summary>{{ markup(video.explanation) }}</details>{% endif %}
</li>{% endfor %}</ul>
{% else %}<p class="quiet">No decision to show.</p>
{% endfor %}
{% if report.unread_shown %}<h2 id="unread">Could not be read</h2>
<table><thead><tr><th scope="col">video</th><th scope="col">reason</th><th scope="col">detail</th>
<th scope="col">path</th></tr></thead><tbody>
{% for one in report.unread_shown %}<tr><td>{{ one.key }}</td><td>{{ one.reason }}</td>
<td>{{ one.detail }}</td><td>{{ one.path }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
</body></html>
"""
"""The page. Everything that is put into it is escaped; its policy lets a browser run and fetch nothing."""


def as_html(report: VideoReport, *, thumbnail_width: int) -> str:
    """Return the report as a page that needs no other file.

    :param report: the report.
    :param thumbnail_width: of the pictures, in pixels.
    :return: HTML without scripts.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
    return page.render(
        report=report,
        headline=headline(report),
        width=thumbnail_width,
        name=_name,
        alt=_alt,
        data=_data,
        # The explanation has escaped whatever came from data.
        markup=Markup,
    )


def headline(report: VideoReport) -> str:
    """Return the counts in one line."""
    unread = sum(count for _, count in report.unread)
    parts = [f"{decision} {count:,}" for decision, count in report.decisions]
    return ", ".join([*parts, *([f"could not be read {unread:,}"] if unread else [])]) or "no videos"


def _name(one: RuleRows) -> str:
    if not one.rule:
        return "no rule fires"
    return f"{one.rule} (its condition is unknown)" if one.unknown else one.rule


def _alt(video: ShownVideo) -> str:
    return f"Frame of {video.key} at {video.picture.seconds or 0.0:.2f} s"


def _data(video: ShownVideo) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(video.picture.jpeg or b"").decode()
