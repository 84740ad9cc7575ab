"""What a rule set decided on videos, with what shows it: the rows, their evidence and their pictures.

All of it is bounded: so many rows of each rule, so many in all, so many bytes of pictures. What is left out
is counted.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modelmill.artifacts import TableRef
from modelmill.monitoring.unread_videos import UnreadVideo, short, unread_videos
from modelmill.monitoring.video_report_options import VideoReportOptions
from modelmill.monitoring.video_thumbnails import Thumbnail, Wanted, thumbnails
from modelmill.redaction import redacted
from modelmill.rules.evaluation.decisions import EXPLANATION_COLUMN
from modelmill.rules.explanation.rendering import explanation_html
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns, scan_arrow

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 2_000
_SEVERITIES = ("critical", "high", "medium", "low", "info", None)
_MOST_DETAILS = 20_000
"""Characters of an explanation that are shown."""
_MOST_SEEN = 5
"""Places of evidence that a row names."""


@dataclass(frozen=True)
class ShownVideo:
    """A video that a rule decided on."""

    key: str
    path: str
    reason: str
    """In the rule's words; empty if it has none."""
    seconds: float | None
    """When the evidence of the rule is seen; None: it has no time."""
    seen: tuple[str, ...]
    """Places of the evidence, in words."""
    explanation: str
    """HTML of the explanation, escaped; empty if the row has none, or it is too long."""
    link: str
    """Where the moment is played; empty without ``link``."""
    picture: Thumbnail


@dataclass(frozen=True)
class RuleRows:
    """The rows of a rule and a decision."""

    rule: str
    """Empty: no rule fires, and the default decides."""
    decision: str
    severity: str | None
    unknown: bool
    """Whether the condition of the rule is unknown on these rows."""
    rows: int
    """How many there are."""
    shown: tuple[ShownVideo, ...]
    """Some of them, by key."""


@dataclass(frozen=True)
class VideoReport:
    """Decisions over videos."""

    source: str
    """The table of decisions and its version."""
    rule_set: str
    rows: int
    decisions: tuple[tuple[str, int], ...]
    """Rows by decision, in the order of ``rules``, then by number."""
    rules: tuple[RuleRows, ...]
    """What is shown, the worst first."""
    others: tuple[RuleRows, ...]
    """What is counted alone: decisions that were not asked for."""
    unread: tuple[tuple[str, int], ...]
    """Videos that could not be read by reason; a video that two steps refused for one reason counts once."""
    unread_shown: tuple[UnreadVideo, ...]

    @property
    def shown(self) -> int:
        """How many rows are shown."""
        return sum(len(one.shown) for one in self.rules)

    @property
    def not_shown(self) -> int:
        """How many rows of the rules that are shown are left out."""
        return sum(one.rows for one in self.rules) - self.shown

    @property
    def without_picture(self) -> int:
        """How many rows that are shown have no picture."""
        return sum(video.picture.jpeg is None for one in self.rules for video in one.shown)

    def figures(self) -> dict[str, Any]:
        """Return the counts, as JSON."""
        parts = [
            {"rule": one.rule, "decision": one.decision, "unknown": one.unknown, "rows": one.rows}
            for one in (*self.rules, *self.others)
        ]
        return {
            "source": self.source,
            "rule_set": self.rule_set,
            "rows": self.rows,
            "decisions": dict(self.decisions),
            "rules": parts,
            "shown": self.shown,
            "not_shown": self.not_shown,
            "without_picture": self.without_picture,
            "unread": dict(self.unread),
        }


def report_videos_of(
    decisions: TableRef, frames: TableRef, unread: Sequence[TableRef], options: VideoReportOptions
) -> VideoReport:
    """Collect what a page on decisions over videos shows.

    :param decisions: the table that ``decide`` wrote.
    :param frames: the table that ``extract_frames`` wrote, with the same keys.
    :param unread: quarantines of the steps that read the videos.
    :param options: what is shown, and how much.
    :return: the report.
    :raises TableError: if a column is missing.
    """
    names = table_schema(decisions).names
    wanted = [options.key, "decision", "rule", "severity", "because", "reason", "rule_set"]
    check_columns(names, [*wanted, *options.boxes.values()], place=decisions.uri)
    found = _counted(decisions, options)
    order = _order(found.counts, options)
    chosen = _chosen(found, order, options)
    videos = _videos(
        decisions, names, {key: group for group, keys in chosen.items() for key in keys}, options
    )
    pictures = thumbnails(
        frames,
        {key: video.wanted for key, video in videos.items()},
        width=options.thumbnail_width,
        most_bytes=int(options.megabytes * 1_000_000),
    )
    rules = []
    for group in order.shown:
        shown = tuple(videos[key].shown(key, pictures[key], options) for key in chosen[group])
        rules.append(_rows(group, found.counts[group], shown))
    reasons, examples = unread_videos(unread, of_a_reason=options.rows_per_rule, most=options.rows)
    by_decision = Counter[str]()
    for group, count in found.counts.items():
        by_decision[group.decision] += count
    return VideoReport(
        source=str(decisions),
        rule_set=found.rule_set,
        rows=sum(by_decision.values()),
        decisions=tuple(by_decision.most_common()),
        rules=tuple(rules),
        others=tuple(_rows(group, found.counts[group], ()) for group in order.counted),
        unread=reasons,
        unread_shown=examples,
    )


@dataclass(frozen=True)
class _Group:
    rule: str
    decision: str
    severity: str | None
    because: str


@dataclass
class _Counted:
    counts: Counter[_Group]
    first: dict[_Group, list[str]]
    """The first keys of each group."""
    rule_set: str


@dataclass(frozen=True)
class _Order:
    shown: list[_Group]
    counted: list[_Group]


def _rows(group: _Group, count: int, shown: tuple[ShownVideo, ...]) -> RuleRows:
    return RuleRows(group.rule, group.decision, group.severity, group.because == "unknown", count, shown)


def _counted(decisions: TableRef, options: VideoReportOptions) -> _Counted:
    """Count the groups, and find the first keys of each, in memory that does not grow with the rows."""
    found = _Counted(Counter(), {}, "")
    columns = [options.key, "rule", "decision", "severity", "because", "rule_set"]
    for batch in scan_arrow(decisions, columns=columns, batch_rows=_BATCH_ROWS):
        keys = dict[_Group, list[str]]()
        for key, rule, decision, severity, because, rule_set in _tuples(batch):
            group = _Group(rule or "", decision, severity, because)
            found.counts[group] += 1
            found.rule_set = rule_set
            keys.setdefault(group, []).append(str(key))
        for group, some in keys.items():
            known = found.first.get(group, [])
            found.first[group] = heapq.nsmallest(options.rows_per_rule, [*known, *some])
    return found


def _tuples(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _order(counts: Counter[_Group], options: VideoReportOptions) -> _Order:
    places = {decision: place for place, decision in enumerate(options.decisions)}

    def badness(group: _Group) -> tuple[int, int, int, str]:
        severity = _SEVERITIES.index(group.severity) if group.severity in _SEVERITIES else 0
        return places.get(group.decision, 0), severity, -counts[group], group.rule

    def is_shown(group: _Group) -> bool:
        return group.decision in places if places else group.because != "default"

    groups = sorted(counts, key=badness)
    return _Order([one for one in groups if is_shown(one)], [one for one in groups if not is_shown(one)])


def _chosen(found: _Counted, order: _Order, options: VideoReportOptions) -> dict[_Group, list[str]]:
    left, chosen = options.rows, dict[_Group, list[str]]()
    for group in order.shown:
        chosen[group] = found.first[group][:left]
        left -= len(chosen[group])
    return chosen


@dataclass(frozen=True)
class _Video:
    row: Mapping[str, Any]
    path: str
    seen: tuple[str, ...]
    wanted: Wanted

    def shown(self, key: str, picture: Thumbnail, options: VideoReportOptions) -> ShownVideo:
        time, explanation = self.wanted.seconds, ""
        if self.row.get(EXPLANATION_COLUMN) is not None:
            explanation = explanation_html(_without_secrets(self.row))
        return ShownVideo(
            key=short(key),
            path=short(self.path),
            reason=short(self.row["reason"] or ""),
            seconds=time,
            seen=self.seen,
            explanation=explanation if len(explanation) <= _MOST_DETAILS else "",
            link=_link(options.link, key, self.path, time),
            picture=picture,
        )


def _videos(
    decisions: TableRef,
    names: Sequence[str],
    groups: Mapping[str, _Group],
    options: VideoReportOptions,
) -> dict[str, _Video]:
    import pyarrow as pa
    import pyarrow.compute as pc

    optional = [options.path, options.width, options.height, EXPLANATION_COLUMN, *options.boxes.values()]
    columns = [options.key, "decision", "rule", "severity", "because", "reason"]
    columns += [name for name in dict.fromkeys(optional) if name and name in names and name not in columns]
    found = dict[str, _Video]()
    if not groups:
        return found
    keys = pa.array(groups, pa.string())
    for batch in scan_arrow(decisions, columns=columns, batch_rows=_BATCH_ROWS):
        there = pc.is_in(batch.column(options.key).cast(pa.string()), keys)
        for row in batch.filter(there).to_pylist():
            found[str(row[options.key])] = _video(row, groups[str(row[options.key])], options)
    return found


def _video(row: Mapping[str, Any], group: _Group, options: VideoReportOptions) -> _Video:
    explanation = row.get(EXPLANATION_COLUMN) or {"signals": [], "evidence": []}
    # What the rule reads shows why it fires; the evidence of rules before it shows why these do not.
    own = {one["signal"] for one in explanation["signals"] if one["in_rule"]}
    evidence = [one for one in explanation["evidence"] if one["signal"] in own]
    timed = [one for one in evidence if one["time"] is not None]
    best = max(timed, key=lambda one: one["box"] is not None, default=None)
    box = best["box"] if best is not None else None
    if box is None and group.rule is not None and group.rule in options.boxes:
        box = row[options.boxes[group.rule]]
    size = row.get(options.width), row.get(options.height)
    wanted = Wanted(
        seconds=None if best is None else float(best["time"]),
        box=None if box is None else tuple(map(float, box)),
        size=None if size[0] is None or size[1] is None else (float(size[0]), float(size[1])),
    )
    path = str(row[options.path] or "") if options.path is not None and options.path in row else ""
    return _Video(row, path, tuple(_place(one) for one in evidence[:_MOST_SEEN]), wanted)


def _place(one: Mapping[str, Any]) -> str:
    if one["time"] is not None:
        return f"{one['signal']} at {one['time']:.2f} s"
    return short(f"{one['signal']} in {one['column']}" + (f": “{one['text']}”" if one["text"] else ""))


def _link(template: str | None, key: str, path: str, seconds: float | None) -> str:
    if template is None:
        return ""
    address = template.replace("{key}", quote(key, safe="")).replace("{path}", quote(path.lstrip("/")))
    return address if seconds is None else f"{address}#t={seconds:.2f}"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {name: _without_secrets(one) for name, one in value.items()}
    return [_without_secrets(one) for one in value] if isinstance(value, list) else value
