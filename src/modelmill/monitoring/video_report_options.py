"""Options of the report on videos: Airflow's DAG processor imports them."""

from __future__ import annotations

from pydantic import Field, field_validator

from modelmill.options import Options

_PLACES = ("{key}", "{path}")


class VideoReportOptions(Options):
    """What a report on videos shows, and how much of it."""

    key: str = Field("key", description="Column of the decisions with the key of the video.")
    path: str | None = Field("path", description="Column of the decisions with the video's path, if any.")
    width: str = Field(
        "width", description="Column of the decisions with the width of the picture, in pixels."
    )
    height: str = Field("height", description="Column with its height. Without both no box is drawn.")
    decisions: tuple[str, ...] = Field(
        (),
        description="Decisions that are shown, the worst first; empty: all that a rule made, by severity.",
    )
    boxes: dict[str, str] = Field(
        {},
        description="For rules whose evidence has no box: the column of the decisions that has it, such as "
        "borders: border_box.",
    )
    link: str | None = Field(
        None,
        description="http or https address at which a video is played; {key} and {path} stand for its own. "
        "The time of the evidence is added as #t=SECONDS, at which browsers begin.",
    )
    rows_per_rule: int = Field(20, ge=1, le=1_000, description="Rows of each rule that are shown, at most.")
    rows: int = Field(200, ge=1, le=2_000, description="Rows that are shown in all, at most.")
    thumbnail_width: int = Field(240, ge=32, le=640, description="Width of the pictures, in pixels.")
    megabytes: float = Field(4.0, gt=0, le=50, description="Size of all pictures of the page, at most.")

    @field_validator("link")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        rest = value
        for place in _PLACES:
            rest = rest.replace(place, "")
        if not value.startswith(("http://", "https://")) or set("{}#\"'<> ") & set(rest):
            raise ValueError(
                f"a link begins with http:// or https://, and has no other braces than {{key}} and {{path}}, "
                f"and no fragment, got {value!r}: write it as https://clips.example.org/{{path}}"
            )
        return value
