"""What the Spark jobs over tables of videos are asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.jobs import JobResult
from modelmill.options import Options
from modelmill.tables.storage import TableLocation
from modelmill.tables.table_request import TableRequest
from modelmill.videos.defect_kinds import AnyDefect
from modelmill.videos.limits import VideoLimits
from modelmill.videos.tasks import TASKS, VideoTask


class VideoOptions(Options):
    """Which videos are worked on, how, and what each of them may cost."""

    key: str = Field("key", description="Column with the key of a video; each stands once.")
    path: str | None = Field(
        "path", description="Column with the path of the file; empty: the videos are in the column content."
    )
    content: str | None = Field(
        None, description="Column with the video itself, up to 16 MB; where it is NULL, the path is read."
    )
    digest: str | None = Field(
        None,
        description="Column with the SHA-256 of the file, 64 hexadecimal digits: it is checked. Empty: it is "
        "computed.",
    )
    keep: tuple[str, ...] = Field((), description="Columns to carry along.")
    limits: VideoLimits = Field(VideoLimits(), description="What each video may cost, and may be.")
    processes: int = Field(2, ge=1, le=256, description="Videos that are worked on at the same time.")
    videos_per_commit: int = Field(
        64, ge=1, description="Videos whose rows are written together: what a killed run does again at most."
    )


class VideoJobResult(JobResult):
    """What became of the videos of a table."""

    table: TableRef
    """Rows of the videos that were read; one for each, or several."""
    quarantine: TableRef
    """A row for each video that was refused, with the reason."""
    videos: int
    """Videos in the table that was read."""
    worked_on: int
    """Videos that this run worked on; the others had their rows already."""
    refused: dict[str, int]
    """Videos in the quarantine by reason."""
    rows: int
    """Rows in the table."""


class OnlyOptions(Options):
    """Which videos are worked on: those that the rules before have not settled."""

    only: dict[str, tuple[str, ...]] = Field(
        {},
        description="Columns, each with values: only videos that have one of them there are worked on, such "
        "as decision: [keep, review]. Empty: all are.",
    )

    @property
    def chosen(self) -> Mapping[str, tuple[str, ...]]:
        """See :attr:`VideoRequest.chosen`."""
        return self.only


class VideoRequest(VideoOptions, TableRequest[VideoJobResult]):
    """Base of requests for jobs over a table of videos."""

    task_name: ClassVar[str]
    carries_content: ClassVar[bool] = False
    """Whether the rows have the videos' bytes, if they are in a column."""

    quarantine: TableLocation = Field(description="Table to write refused videos to, each with the reason.")

    @property
    def task(self) -> VideoTask:
        """What is done with each video."""
        return TASKS[self.task_name]

    @property
    def task_options(self) -> dict[str, Any]:
        """Options of the task, JSON: what this request has beside what all have."""
        shared = {*VideoRequest.model_fields, *OnlyOptions.model_fields}
        return self.model_dump(mode="json", include=type(self).model_fields.keys() - shared)

    @property
    def chosen(self) -> Mapping[str, tuple[str, ...]]:
        """Columns with the values of which a video has one in each; empty: all videos are worked on."""
        return {}


class ProbeVideosRequest(VideoRequest):
    """Read what the videos of a table say of themselves."""

    job = "probe_videos"
    task_name = "probe"
    carries_content = True

    sidecars: bool = Field(
        True, description="Whether files of subtitles beside a video are read: same name, .srt, .vtt or .ass."
    )


Measures = Literal["exposure", "colour", "motion", "text", "detail", "blocks", "borders", "overlay", "hashes"]
"""Groups of measures: see :data:`modelmill.videos.measuring.GROUPS`."""


class VideoMeasureOptions(OnlyOptions):
    """What is measured."""

    frames_per_second: float = Field(4.0, gt=0, le=60, description="Frames that are measured, in a second.")
    most: int = Field(
        1200,
        ge=1,
        description="Frames of a video that are measured, at most; twice as many of one that is longer than "
        "it says.",
    )
    details: int = Field(
        24, ge=1, description="Of these, frames that are seen at full size: borders, blur, noise, blockiness."
    )
    every_frame: bool = Field(
        True,
        description="Whether cuts, slides, black and frozen stretches are looked for in every frame. false: "
        "in the frames that are measured alone, and what they do not need is not decoded. That takes less "
        "processor time; what begins or ends is found one of these frames late, short stretches may be "
        "missed, and fast motion may count as a cut.",
    )
    sound: bool = Field(True, description="Whether loudness and silence are measured.")
    measures: tuple[Measures, ...] = Field(
        get_args(Measures),
        description="Which measures are taken beside stretches, cuts and shots; the columns of the others "
        "are NULL. Ask for what the rules read that decide next.",
    )
    stills: int = Field(
        0,
        ge=0,
        le=1920,
        description="Width in pixels of the pictures that are kept, one of each shot, in the column stills: "
        "a small video that read_text_in_frames and extract_frames read as content, without decoding the "
        "whole one again. 0: none.",
    )


class MeasureVideosRequest(VideoMeasureOptions, VideoRequest):
    """Measure the pictures and the sound of the videos of a table."""

    job = "measure_videos"
    task_name = "measure"


class ExtractOptions(Options):
    """Which frames are extracted."""

    frames_per_second: float = Field(
        2.0, gt=0, le=60, description="Frames in a second that are looked at: one of them is the nearest."
    )
    every_seconds: float = Field(
        10.0, gt=0, description="A shot has a frame for each so many seconds, one at least."
    )
    most: int = Field(64, ge=1, description="Frames of a video at most.")
    width: int = Field(320, ge=16, le=320, description="Width of the pictures, in pixels.")


class ExtractFramesRequest(ExtractOptions, VideoRequest):
    """Extract frames of the videos of a table: some of each shot."""

    job = "extract_frames"
    task_name = "extract"


READING_LIMITS = VideoLimits(memory_mb=2048, cpu_seconds=600, deadline_seconds=900.0)
"""The models take 0.6 GB of address space beside what decoding takes, and a frame about half a second."""


class ReadTextOptions(OnlyOptions):
    """Which frames are read."""

    frames_per_second: float = Field(
        2.0, gt=0, le=60, description="Frames in a second that are looked at: one of them is the nearest."
    )
    every_seconds: float = Field(
        30.0, gt=0, description="A shot has a frame for each so many seconds, one at least."
    )
    most: int = Field(32, ge=1, description="Frames of a video that are read, at most.")
    width: int = Field(640, ge=64, le=1920, description="Width of the pictures that are read, in pixels.")
    score: float = Field(0.8, ge=0, le=1, description="Confidence of a text, at least.")
    until: tuple[str, ...] = Field(
        (),
        description="Phrases: once one of them is read, the other frames of the video are not. For rules "
        "that ask for nothing else.",
    )


class ReadTextRequest(ReadTextOptions, VideoRequest):
    """Read the text in frames of the videos of a table."""

    job = "read_text_in_frames"
    task_name = "read_text"

    limits: VideoLimits = Field(READING_LIMITS, description="What each video may cost, and may be.")


class DefectOptions(Options):
    """Which defects are made."""

    defects: tuple[AnyDefect, ...] = Field(
        min_length=1, description="Kinds of defect, with the ranges that their parameters are drawn from."
    )
    seed: int = Field(0, ge=0, description="Another seed draws other parameters.")
    seconds: float = Field(6.0, gt=0, le=60, description="Seconds of a clip that are used, from its start.")
    width: int = Field(480, ge=16, le=1920, description="Width of the clips that are made, at most.")
    codec: str = Field(
        "libx264", min_length=1, description="Encoder of libav that writes the clips; see its licence."
    )
    crf: int = Field(23, ge=0, le=63, description="Rate factor of the encoder: lower is better.")


class MakeDefectsRequest(DefectOptions, VideoRequest):
    """Make labelled clips of the clean clips of a table, by known transformations."""

    job = "make_defects"
    task_name = "defects"
