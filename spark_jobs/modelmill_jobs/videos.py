"""What all jobs over a table of videos share: which videos are new, the work on them, the tables.

The rows of some videos at a time are written by commits of their own, so that a run that is killed goes on
where it was.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.errors import TransientError
from modelmill.tables.reading import read_arrow
from modelmill.videos.batches import IDENTIFIED, WORKED, identified_batches, worked_batches
from modelmill.videos.containers import libav
from modelmill.videos.requests import VideoJobResult, VideoRequest
from modelmill.videos.rows import (
    Kept,
    Video,
    kept_columns,
    quarantine_schema,
    result_schema,
    split_answers,
)
from modelmill.videos.store import VideoTable
from modelmill.workspace import report, report_progress
from modelmill_jobs.columns import quoted
from modelmill_jobs.reading import read_table

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession


def work_on_videos(request: VideoRequest, spark: SparkSession) -> VideoJobResult:
    """Work on the videos of a table that have no rows yet.

    :param request: the table, the task and the places.
    :param spark: session to use.
    :return: the tables, and what became of the videos.
    :raises ConfigError: if PyAV, or what the task needs beside it, is not installed, or columns collide.
    :raises TableError: if a table cannot be read or written, or keys are not unique.
    :raises TransientError: if another writer was faster.
    """
    libav()
    request.task.check()
    kept = kept_columns(request)
    source = _source(read_table(spark, request.table), request)
    videos = _videos(source, request, kept)
    read = VideoTable(request.to, result_schema(request, kept))
    refused = VideoTable(request.quarantine, quarantine_schema(kept))
    for table in (read, refused):
        table.begin(transaction=request.transaction)  # there is a table even if no video is for it
    done = read.identities() | refused.identities()
    new = [video for video in videos if done.isdisjoint((video.identity, video.refusal(video.reason)))]
    report(f"{len(new):,} of {len(videos):,} videos are new or have changed")
    reasons = {video.key: video.reason for video in videos}
    unreadable = [video.refused(video.reason, video.detail, kept) for video in new if video.reason]
    refused.append(_arrow(unreadable, refused.schema))
    worked_on = len(unreadable)
    for chunk in _chunks([video for video in new if video.reason is None], request.videos_per_commit):
        answers = _answers(spark, source, chunk, request)
        rows, no_rows = split_answers(answers, chunk, kept)
        content = _content(source, rows, read.schema)
        read.append(_arrow([{**row, **content.get(row["key"], {})} for row in rows], read.schema))
        refused.append(_arrow(no_rows, refused.schema))
        reasons |= {row["key"]: row["reason"] for row in no_rows}
        worked_on += len(chunk)
        report_progress(worked_on, len(new), what="videos")
    return _result(request, videos, len(new), reasons, (read, refused))


def _source(rows: DataFrame, request: VideoRequest) -> DataFrame:
    from pyspark.sql import functions as sql

    def column(name: str | None, type_: str) -> Any:
        return sql.lit(None).cast(type_) if name is None else quoted(name).cast(type_)

    for name, values in request.chosen.items():
        rows = rows.where(quoted(name).cast("string").isin(list(values)))
    return rows.select(
        quoted(request.key).cast("string").alias("key"),
        column(request.path or None, "string").alias("path"),
        column(request.content, "binary").alias("content"),
        column(request.digest, "string").alias("digest"),
    )


def _videos(source: DataFrame, request: VideoRequest, kept: Kept) -> list[Video]:
    work = functools.partial(identified_batches, request=request)
    found = source.repartition(request.processes).mapInArrow(work, IDENTIFIED).toArrow().to_pylist()
    recipe = request.task.recipe(request.task_options)
    limits = request.limits.model_dump_json()
    videos = [
        Video(
            key=row["key"],
            path=row["path"],
            identity=(
                row["key"],
                row["digest"],
                kept.recipe(row["key"], recipe, row["path"], row["beside"]),
            ),
            reason=row["reason"],
            detail=row["detail"],
            limits=limits,
        )
        for row in sorted(found, key=lambda row: row["key"])
    ]
    if len(videos) != len(kept.values):
        raise TransientError(
            "every video is looked at", got=f"{len(videos):,} of {len(kept.values):,}", remedy="try again"
        )
    return videos


def _chunks(videos: Sequence[Video], size: int) -> Iterator[Mapping[str, Video]]:
    for start in range(0, len(videos), size):
        yield {video.key: video for video in videos[start : start + size]}


def _answers(
    spark: SparkSession, source: DataFrame, videos: Mapping[str, Video], request: VideoRequest
) -> list[dict[str, Any]]:
    """Work on videos in Spark's workers, and return their answers."""
    from pyspark.sql import functions as sql

    named = [(key, video.path, video.identity[1]) for key, video in videos.items()]
    rows = spark.createDataFrame(named, "key string, path string, digest string")
    content = sql.lit(None).cast("binary").alias("content")
    if request.content:
        theirs = source.where(sql.col("key").isin(list(videos))).select("key", "content")
        rows, content = rows.join(theirs, "key"), sql.col("content")
    asked = rows.select("key", "path", content, "digest").repartition(min(request.processes, len(named)))
    work = functools.partial(worked_batches, request=request)
    answers: list[dict[str, Any]] = asked.mapInArrow(work, WORKED).toArrow().to_pylist()
    lost = videos.keys() - {answer["key"] for answer in answers}
    if lost:
        raise TransientError(
            "every video is answered for", got=", ".join(sorted(lost)[:5]), remedy="try again"
        )
    return answers


def _content(
    source: DataFrame, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> dict[str, dict[str, Any]]:
    """Return the bytes of videos by key, if the rows have them."""
    from pyspark.sql import functions as sql

    if "content" not in schema.names or not rows:
        return {}
    keys = sorted({row["key"] for row in rows})
    found = source.where(sql.col("key").isin(keys)).select("key", "content").toArrow().to_pylist()
    return {row["key"]: {"content": row["content"]} for row in found}


def _arrow(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def _result(
    request: VideoRequest,
    videos: Sequence[Video],
    worked_on: int,
    reasons: Mapping[str, str | None],
    tables: tuple[VideoTable, VideoTable],
) -> VideoJobResult:
    """Take out what is gone, and count what is there."""
    read, refused = tables
    rows = read.keep_only({video.identity for video in videos}, transaction=request.transaction)
    there = read.identities()
    left = {video.refusal(reasons[video.key]) for video in videos if video.identity not in there}
    quarantine = refused.keep_only(left, transaction=request.transaction)
    found = read_arrow(quarantine, columns=["reason"]).column("reason").to_pylist()
    return VideoJobResult(
        table=rows,
        quarantine=quarantine,
        videos=len(videos),
        worked_on=worked_on,
        refused=dict(sorted(Counter(found).items())),
        rows=read_arrow(rows, columns=["key"]).num_rows,
    )
