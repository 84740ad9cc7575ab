"""The page on decisions over videos: what it shows, what it counts, and what data cannot do to it."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image
from pydantic import ValidationError

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import TableError
from modelmill.monitoring.video_page import as_html, headline
from modelmill.monitoring.video_report import VideoReport, report_videos_of
from modelmill.monitoring.video_report_options import VideoReportOptions
from modelmill.settings import Settings
from modelmill.steps.decide import DecideConfig, DecideInputs
from modelmill.steps.decide import run as decide
from modelmill.steps.report_videos import ReportVideosConfig, ReportVideosInputs
from modelmill.steps.report_videos import run as report_videos

MARKUP = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>"
RULES = """
rule_set: looks
key: key
signals:
  blur: {kind: video, measure: blur, take: max, box: box}
  border: {kind: column}
  advert: {kind: phrases, column: subtitles, phrases: [order now]}
  read: {kind: phrases, column: text, phrases: [promo code]}
rules:
  - {name: blurred, when: blur > 0.7, then: reject, severity: low, reason: "blur {blur:.2f}"}
  - {name: borders, when: border = 'both', then: crop, severity: high, reason: "{border}"}
  - {name: advertising, when: advert OR read, then: review, reason: "it says {advert}"}
default: keep
"""


def jpeg(level: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.full((90, 160, 3), level, np.uint8)).save(written, "JPEG")
    return written.getvalue()


def videos() -> list[dict[str, object]]:
    calm = {
        "path": "/c/a.mp4",
        "times": [0.0, 1.0, 2.0],
        "blur": [0.1, 0.2, 0.1],
        "box": None,
        "border": "none",
    }
    calm |= {"subtitles": None, "text": None, "width": 640, "height": 360, "inner": [0.0, 80.0, 640.0, 280.0]}
    blurred = {**calm, "blur": [0.1, 0.2, 0.9], "box": [64.0, 36.0, 320.0, 324.0]}
    return [
        *({**blurred, "key": f"blurred {number}"} for number in range(4)),
        {**calm, "key": f"a{MARKUP}", "path": f"/c/{MARKUP}.mp4", "border": "both"},
        {**calm, "key": "says", "subtitles": f"{MARKUP} order now {MARKUP}"},
        {**calm, "key": "shows", "text": f"promo code {MARKUP}"},
        {**calm, "key": "good"},
    ]


@pytest.fixture
def tables(tmp_path: Path, step_context: StepContext) -> tuple[TableRef, TableRef, TableRef]:
    """Return decisions, frames, and a quarantine."""
    rows = videos()
    schema = pa.schema(
        [(name, pa.string()) for name in ("key", "path", "border", "subtitles", "text")]
        + [(name, pa.list_(pa.float64())) for name in ("times", "blur", "box", "inner")]
        + [("width", pa.int64()), ("height", pa.int64())]
    )
    write_deltalake(str(tmp_path / "measured"), pa.Table.from_pylist(rows, schema))
    (tmp_path / "rules.yaml").write_text(RULES)
    keep = ("path", "width", "height", "inner")
    decided = decide(
        DecideConfig(rule_set=str(tmp_path / "rules.yaml"), to=str(tmp_path / "decided"), keep=keep),
        DecideInputs(table=TableRef(uri=str(tmp_path / "measured"), version=0)),
        step_context,
    )
    frames = [
        {"key": row["key"], "time": time, "jpeg": jpeg(round(60 * time) + 60)}
        for row in rows
        for time in (0.2, 1.2, 2.2)
        if row["key"] != "shows"
    ]
    write_deltalake(str(tmp_path / "frames"), pa.Table.from_pylist(frames))
    text = pa.string()
    refused = pa.Table.from_pylist(
        [{"key": f"torn{MARKUP}", "path": None, "reason": "truncated", "detail": MARKUP}],
        pa.schema([("key", text), ("path", text), ("reason", text), ("detail", text)]),
    )
    write_deltalake(str(tmp_path / "refused"), refused)
    places = (str(tmp_path / "frames"), str(tmp_path / "refused"))
    return (decided.table, *(TableRef(uri=place, version=0) for place in places))  # type: ignore[return-value]


def reported(tables: tuple[TableRef, TableRef, TableRef], **options: object) -> VideoReport:
    decided, frames, refused = tables
    made = VideoReportOptions.model_validate({"boxes": {"borders": "inner"}, **options})
    return report_videos_of(decided, frames, [refused, refused], made)


class Elements(HTMLParser):
    """Collects the elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set[str](), list[tuple[str, str | None]](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def red(content: bytes | None) -> np.ndarray:
    """Return where a picture is red."""
    assert content is not None
    pixels = np.asarray(Image.open(io.BytesIO(content)), np.int16)
    return (pixels[..., 0] - pixels[..., 1] > 80) & (pixels[..., 0] > 150)


def test_rules_stand_worst_first_with_the_frame_and_the_box(
    tables: tuple[TableRef, TableRef, TableRef],
) -> None:
    report = reported(tables)
    assert [(one.rule, one.decision, one.rows) for one in report.rules] == [
        ("borders", "crop", 1),
        ("advertising", "review", 2),
        ("blurred", "reject", 4),
    ]
    assert [(one.rule, one.decision, one.rows) for one in report.others] == [("", "keep", 1)]
    assert headline(report) == "reject 4, review 2, crop 1, keep 1, could not be read 1"
    blurred = report.rules[2].shown[0]
    assert (blurred.key, blurred.reason, blurred.seconds) == ("blurred 0", "blur 0.90", 2.0)
    assert blurred.seen == ("blur at 2.00 s",)
    assert (blurred.picture.seconds, blurred.picture.without) == (2.2, "")
    where = red(blurred.picture.jpeg)
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    # 64, 36, 320, 324 of 640 x 360, drawn on 160 x 90.
    assert [columns[0], rows[0], columns[-1], rows[-1]] == pytest.approx([16, 9, 80, 81], abs=1)
    borders = report.rules[0].shown[0]
    assert borders.picture.seconds == 1.2  # no time of its own: the middle frame
    assert red(borders.picture.jpeg).any()  # and the box of the column
    says, shows = report.rules[1].shown
    assert says.seen[0].startswith("advert in subtitles")
    assert not red(says.picture.jpeg).any()
    assert (shows.picture.jpeg, shows.picture.without) == (None, "no frame of it was extracted")
    assert report.without_picture == 1


def test_the_order_of_decisions_can_be_said(tables: tuple[TableRef, TableRef, TableRef]) -> None:
    report = reported(tables, decisions=("reject", "keep"))
    assert [one.decision for one in report.rules] == ["reject", "keep"]
    assert [(one.decision, one.rows) for one in report.others] == [("crop", 1), ("review", 2)]


def test_what_is_left_out_is_counted(tables: tuple[TableRef, TableRef, TableRef]) -> None:
    report = reported(tables, rows_per_rule=2, decisions=("reject", "crop", "review"), rows=3)
    assert [len(one.shown) for one in report.rules] == [2, 1, 0]
    assert (report.rows, report.shown, report.not_shown) == (8, 3, 4)
    page = as_html(report, thumbnail_width=240)
    text = " ".join(Elements(page).text.split())
    assert "4 videos of these rules are counted and not shown" in text
    assert "2 of them are shown" in text
    one = len(reported(tables).rules[2].shown[0].picture.jpeg or b"")
    small = reported(tables, decisions=("reject",), megabytes=(2.5 * one) / 1e6)
    pictures = [video.picture for video in small.rules[0].shown]
    assert [picture.jpeg is not None for picture in pictures] == [True, True, False, False]
    assert pictures[2].without == "the page's limit for pictures is reached"
    assert small.figures()["without_picture"] == 2


def test_data_is_no_markup(tables: tuple[TableRef, TableRef, TableRef]) -> None:
    report = reported(tables, link="https://clips.example.org/{path}")
    page = Elements(as_html(report, thumbnail_width=240))
    known = "html head meta title style body h1 h2 h3 p div table caption thead tbody tr th td a ul li img"
    assert page.tags <= {*known.split(), "details", "summary", "section"}
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")}
    sources = [value or "" for name, value in page.attributes if name == "src"]
    assert len(sources) == 6
    assert all(
        base64.b64decode(one.removeprefix("data:image/jpeg;base64,"), validate=True) for one in sources
    )
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(one.startswith(("#", "https://clips.example.org/c/")) for one in links)
    assert "https://clips.example.org/c/a.mp4#t=2.00" in links
    assert page.text.count(MARKUP) >= 4  # the key and the path of the clip, and what the quarantine says


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "https://a/{other}", "https://a/#{key}", "file:///{path}"]
)
def test_other_links_are_refused(link: str) -> None:
    with pytest.raises(ValidationError, match="a link begins with http"):
        VideoReportOptions(link=link)


def test_hostile_frames_are_no_pictures(tables: tuple[TableRef, TableRef, TableRef], tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "PNG")
    contents = {
        "blurred 0": b"\xff\xd8torn",
        "blurred 1": written.getvalue(),
        "blurred 2": b"",
        "blurred 3": None,
    }
    rows = [{"key": key, "time": 1.0, "jpeg": content} for key, content in contents.items()]
    write_deltalake(str(tmp_path / "odd"), pa.Table.from_pylist(rows))
    report = reported((tables[0], TableRef(uri=str(tmp_path / "odd"), version=0), tables[2]))
    without = [video.picture.without for video in report.rules[2].shown]
    assert without[:2] == ["its frame is no JPEG: UnidentifiedImageError"] * 2
    assert without[2:] == ["no frame of it was extracted"] * 2


def test_the_step_logs_the_page(
    tables: tuple[TableRef, TableRef, TableRef], step_context: StepContext, settings: Settings
) -> None:
    decided, frames, refused = tables
    inputs = ReportVideosInputs(table=decided, frames=frames, refused=(refused,))
    outputs = report_videos(ReportVideosConfig(decisions=("reject",)), inputs, step_context)
    run = step_context.run
    place = Path(run.client.download_artifacts(run.run_id, "videos.html"))
    assert "blurred 0" in place.read_text()
    assert outputs.report.uri == f"runs:/{run.run_id}/videos.json"
    config = ReportVideosConfig(boxes={"borders": "no_box"})
    with pytest.raises(TableError, match="no_box"):
        report_videos(config, inputs, step_context)
