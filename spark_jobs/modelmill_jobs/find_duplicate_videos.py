"""Find near-duplicate videos: candidates by buckets of their hashes, compared, joined into groups.

As an application: ``python -m modelmill_jobs.find_duplicate_videos --table '{"uri": "/tables/measured",
"version": 0}' --to /tables/unique``. Nothing that grows with the rows is held by the driver; one worker holds
the pairs of near-duplicates, and no other pairs.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, TableError, TransientError
from modelmill.jobs import run_as_application
from modelmill.tables.commits import committed_version
from modelmill.tables.reading import check_columns
from modelmill.videos.duplicate_request import (
    DISTANCE,
    GROUP,
    RELATION,
    TWIN,
    DuplicateVideosResult,
    FindDuplicateVideosRequest,
)
from modelmill.videos.fingerprints import CROPS
from modelmill_jobs.columns import quoted
from modelmill_jobs.reading import read_table
from modelmill_jobs.staging import Stage, join
from modelmill_jobs.video_pairs import (
    CANDIDATES,
    ID,
    SETTLED,
    bucket_entries,
    bucket_pairs,
    compared,
    identified,
    settled,
)
from modelmill_jobs.writing import checked_rows, make_directory, remove_folder, write_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ENTRIES_EACH = 3_500_000
"""Entries of buckets that one worker sorts at a time: about 100 MB."""
_PRINT_BYTES = 256 << 20
"""Size of the files of fingerprints, compressed, up to which each worker holds them all."""


def main(request: FindDuplicateVideosRequest, spark: SparkSession) -> DuplicateVideosResult:
    """Find near-duplicates, and write all rows with what they are to each other.

    :param request: the table, when two videos are near-duplicates, and the place.
    :param spark: session to use.
    :return: the table, and how many duplicates there are.
    :raises ConfigError: if the table has a column with the name of one that is added.
    :raises TableError: if a column is missing, or keys are not unique; nothing is written.
    """
    source = read_table(spark, request.table)
    _check_names(source, request)
    # An attempt that was killed has left its folder under the same name: this one removes it.
    stage = Stage(spark, request.to, f"_stage-{uuid.uuid5(uuid.NAMESPACE_OID, request.transaction).hex}")
    remove_folder(request.to, stage.folder)
    if committed_version(request.to, request.transaction) is None:
        made = make_directory(request.to)
        try:
            rows, total = _found(source, stage, request)
            about = {"operation": "find_duplicate_videos", "source": str(request.table)}
            _, written = write_table(
                rows, request.to, mode="overwrite", transaction=request.transaction, metadata=about
            )
            checked_rows(total, written, what=request.to)
        finally:
            remove_folder(request.to, stage.folder, made=made)
    return _result(request, spark)


def _check_names(source: DataFrame, request: FindDuplicateVideosRequest) -> None:
    wanted = [request.key, request.times, request.hashes, *request.prefer]
    check_columns(source.columns, wanted, place=request.table.uri)
    added = {GROUP, TWIN, DISTANCE, RELATION, ID}
    taken = sorted(name for name in source.columns if name.lower() in added)
    if taken:
        raise ConfigError(
            f"a column that is added has a name of its own ({request.table})",
            got=", ".join(taken),
            remedy="find duplicates in the table that measure_videos wrote, or drop these columns",
        )


def _found(source: DataFrame, stage: Stage, request: FindDuplicateVideosRequest) -> tuple[DataFrame, int]:
    """Return all rows with the columns that are added, and how many there are."""
    total = _checked_keys(identified(source.select(quoted(request.key)), request.key), request)
    prints = stage.write(_prints(source, request), "prints")
    entries = stage.write(bucket_entries(prints), "entries")
    count = stage.rows("entries")
    pairs = stage.by_parts(
        entries, "bucket", "pairs", bucket_pairs, CANDIDATES, count=count, each=_ENTRIES_EACH
    )
    pairs = stage.write(pairs.distinct(), "candidates") if count else pairs
    lookup = stage.lookup("prints", ID, most_bytes=_PRINT_BYTES)
    near = compared(pairs, prints, lookup, most=request.distance, share=request.share)
    near = stage.write(near, "near")
    count = stage.rows("near")
    twins = stage.by_parts(near, "_mm_first", "twins", settled, SETTLED, count=count, each=max(count, 1))
    rows = join(identified(source, request.key), twins, stage.lookup("twins", ID), ID)
    return _completed(rows, request.key), total


def _checked_keys(ids: DataFrame, request: FindDuplicateVideosRequest) -> int:
    """Return the number of rows, after their keys have been found to be there and unique."""
    from pyspark.sql import functions as sql

    total, present, different = ids.agg(
        sql.count(sql.lit(1)), sql.count(ID), sql.countDistinct(ID)
    ).collect()[0]
    if different < total:
        raise TableError(
            f"each video has a key of its own ({request.key} in {request.table})",
            got=f"{total - present:,} without a key, {present - different:,} keys that stand twice",
            remedy="make a column of unique keys, or remove what stands twice",
        )
    return int(total)


def _prints(source: DataFrame, request: FindDuplicateVideosRequest) -> DataFrame:
    """Return the fingerprints of the videos that have one."""
    from pyspark.sql import functions as sql

    times, hashes = quoted(request.times), quoted(request.hashes)
    wrong = source.where(sql.length(hashes) != sql.size(times) * (8 * len(CROPS)))
    if wrong.limit(1).count():
        raise TableError(
            f"hashes are those that measure_videos wrote, {8 * len(CROPS)} bytes for each of the times",
            got=f"{request.hashes} and {request.times} in {request.table}",
            remedy="measure the videos again with this version of modelmill",
        )
    prefer = [quoted(name).cast("double") for name in request.prefer] or [sql.lit(0.0)]
    rows = identified(source, request.key).where(sql.length(hashes) > 0)
    return rows.select(
        ID,
        quoted(request.key).cast("string").alias("key"),
        times.alias("times"),
        hashes.alias("hashes"),
        sql.array(*prefer).alias("prefer"),
    )


def _completed(rows: DataFrame, key: str) -> DataFrame:
    """Make each video without a twin a group of its own."""
    from pyspark.sql import functions as sql

    group = sql.coalesce(sql.col(GROUP), quoted(key).cast("string"))
    return rows.withColumn(GROUP, group).drop(ID)


def _result(request: FindDuplicateVideosRequest, spark: SparkSession) -> DuplicateVideosResult:
    """Count what is in the table."""
    from pyspark.sql import functions as sql

    version = committed_version(request.to, request.transaction)
    if version is None:
        raise TransientError("what was committed is there", got=request.to, remedy="try again")
    table = TableRef(uri=request.to, version=version)
    rows = read_table(spark, table)
    hashed = sql.length(quoted(request.hashes)) > 0
    videos, compared_ones, duplicates = rows.agg(
        sql.count(sql.lit(1)), sql.count(sql.when(hashed, 1)), sql.count(TWIN)
    ).collect()[0]
    groups = rows.where(sql.col(TWIN).isNotNull()).agg(sql.countDistinct(GROUP)).collect()[0][0]
    relations = rows.where(sql.col(RELATION).isNotNull()).groupBy(RELATION).count().collect()
    return DuplicateVideosResult(
        table=table,
        videos=videos,
        without_hashes=videos - compared_ones,
        duplicates=duplicates,
        groups=groups,
        relations={name: int(count) for name, count in sorted(map(tuple, relations))},
    )


if __name__ == "__main__":
    run_as_application(FindDuplicateVideosRequest, main)
