"""What the Spark job that finds near-duplicate videos is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.jobs import JobResult
from modelmill.options import Options
from modelmill.tables.table_request import TableRequest

GROUP, TWIN, DISTANCE, RELATION = (
    "duplicate_group",
    "duplicate_of",
    "duplicate_distance",
    "duplicate_relation",
)
"""Columns that the job adds: the key of the first kept video of a group, a video's own if none is near it;
the key of its nearest kept video, NULL if it is kept itself; the bits of 64 by which their hashes differ, on
average; what it is to that one."""

Relation = Literal["copy", "cropped", "wider"]
"""What a video is to its nearest kept one: the same picture, a part of it, or more than it."""


class DuplicateOptions(Options):
    """When two videos are near-duplicates, and which of them is kept."""

    key: str = Field("key", min_length=1, description="Column with the key of a video; each stands once.")
    times: str = Field(
        "hash_times", min_length=1, description="Column with the times of the hashes, in seconds."
    )
    hashes: str = Field(
        "hashes", min_length=1, description="Column with the hashes, as measure_videos writes them."
    )
    distance: float = Field(
        9.0,
        ge=0,
        le=16,
        description="Bits of 64 by which hashes at the same times differ at most, on average.",
    )
    share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the frames of the shorter video that the other one has, too, at least.",
    )
    prefer: tuple[str, ...] = Field(
        (),
        description="Columns of numbers, the most important first: of near-duplicates that are no crops of "
        "others the one with the largest numbers is kept, and of equal ones that with the first key.",
    )


class DuplicateVideosResult(JobResult):
    """What became of the videos."""

    table: TableRef
    """All rows, with the columns :data:`GROUP`, :data:`TWIN`, :data:`DISTANCE` and :data:`RELATION`."""
    videos: int
    without_hashes: int
    """Videos with nothing to compare: no frame that is not flat."""
    duplicates: int
    """Videos that another one stands for."""
    groups: int
    """Groups of near-duplicates."""
    relations: dict[str, int]
    """Duplicates by relation."""


class FindDuplicateVideosRequest(DuplicateOptions, TableRequest[DuplicateVideosResult]):
    """Find near-duplicate videos by the hashes of their frames."""

    job = "find_duplicate_videos"
