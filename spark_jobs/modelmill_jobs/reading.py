"""Reading Delta tables in Spark jobs, alike on every engine: the log by delta-rs, the files by Spark."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError
from modelmill.spark import scratch_folder
from modelmill.tables.files import ActiveFile
from modelmill.tables.opening import open_table
from modelmill.tables.protocol import needs_scan, reader_features
from modelmill.tables.reading import check_rows, checked_files, read_batches
from modelmill_jobs.columns import quoted
from modelmill_jobs.paths import GLOB_CHARACTERS, plain_path

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession

_MAX_PARTITIONS = 1000


def read_table(spark: SparkSession, ref: TableRef | DatasetRef) -> DataFrame:
    """Read a table at its version.

    delta-rs reads the log, Spark the files. No engine's own ``delta`` format is used: Sail 0.7.2 takes the
    values of a constant column from the statistics, where decimals are floats, and replays compacted logs
    wrongly. A table whose files alone are not its rows is staged: copied by
    :func:`~modelmill.tables.reading.read_batches` into the session's scratch folder. An engine on another
    machine does not see that folder, and refuses.

    :param spark: the session.
    :param ref: the table.
    :return: its rows.
    :raises TableError: see :func:`modelmill.tables.opening.open_table`; or a file is missing or damaged; or
        the table has to be staged and the engine is on another machine.
    """
    from pyspark.errors import PySparkException

    table = open_table(ref.uri, version=ref.version)
    files = checked_files(table, ref)
    if _read_by_spark(table, ref.uri, files):
        rows = _read_files(spark, table, ref.uri, files)
        # Sail plans no scan over files that differ in how they spell a type (Utf8 and LargeUtf8).
        with contextlib.suppress(PySparkException):
            rows.limit(0).collect()
            return rows
    return _read_staged(spark, table, ref, files)


def _read_by_spark(table: DeltaTable, place: str, files: Sequence[ActiveFile]) -> bool:
    """Return whether the files alone are the table's rows, and have names that Spark takes literally."""
    partitions = {tuple(file.partition.values()) for file in files}
    names = "".join(file.path for file in files)
    return (
        not needs_scan(table)
        and not GLOB_CHARACTERS & {*names, *place}
        and len(partitions) <= _MAX_PARTITIONS
    )


def _read_files(spark: SparkSession, table: DeltaTable, place: str, files: Sequence[ActiveFile]) -> DataFrame:
    from pyspark.sql import functions as sql
    from pyspark.sql.types import StructType

    schema = StructType.fromJson(_plain_types(json.loads(table.schema().to_json())))
    partitions = table.metadata().partition_columns
    stored = StructType([field for field in schema.fields if field.name not in partitions])
    # An empty string and null are both null in a partition, so the values tell the groups apart.
    groups: dict[tuple[Any, ...], list[str]] = {}
    percent = not _is_embedded(spark)
    for file in files:
        path = plain_path(_for_engine(f"{place}/{file.path}", percent=percent), percent=True)
        groups.setdefault(tuple(file.partition.values()), []).append(path)
    if not groups:
        return spark.createDataFrame([], schema)
    parts = []
    for values, paths in groups.items():
        part = spark.read.schema(stored).parquet(*paths)
        for name, value in zip(partitions, values, strict=True):
            part = part.withColumn(name, sql.lit(value).cast(schema[name].dataType))
        parts.append(part.select(*(quoted(name) for name in schema.names)))
    return reduce(lambda one, other: one.unionByName(other), parts)


def _plain_types(kind: Any) -> Any:
    """Return a schema of Spark's JSON form with every field nullable and without metadata, at any depth.

    Column metadata is Delta's own, and Sail cannot parse it. "Never null" is the writer's promise: an engine
    that relies on it may fail at an old file without the column.
    """
    if isinstance(kind, list):
        return [_plain_types(item) for item in kind]
    if not isinstance(kind, dict):
        return kind
    plain = {name: _plain_types(value) for name, value in kind.items() if name != "metadata"}
    for promise in ("nullable", "containsNull", "valueContainsNull"):
        if promise in plain:
            plain[promise] = True
    return plain | {"metadata": {}} if "nullable" in plain else plain


def _is_embedded(spark: SparkSession) -> bool:
    """Return whether the engine is Sail, which gives its own version; it decodes ``%`` in paths."""
    return str(spark.sql("SELECT version()").collect()[0][0]).partition(" ")[0] != spark.version


def _for_engine(path: str, *, percent: bool) -> str:
    return path if percent else path.replace("%", "%25")


def _read_staged(
    spark: SparkSession, table: DeltaTable, ref: TableRef | DatasetRef, files: Sequence[ActiveFile]
) -> DataFrame:
    import pyarrow.parquet as pq
    from pyspark.errors import PySparkException

    folder = scratch_folder(spark) / uuid.uuid4().hex
    folder.mkdir()
    count = 0
    with (
        read_batches(table, ref, files) as batches,
        pq.ParquetWriter(folder / "rows.parquet", batches.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    check_rows(count, table, files, shown=str(ref))
    try:
        rows = spark.read.parquet(f"file://{folder}/rows.parquet")
        rows.schema  # noqa: B018 (asks the engine whether it sees the file)
    except PySparkException as error:
        what = ", ".join(sorted(reader_features(table))) or "special characters in file names"
        raise TableError(
            f"an engine on another machine reads no table with {what} ({' '.join(str(error).split())[:200]})",
            got=str(ref),
            remedy="read it on the embedded engine, or hand in a copy without",
        ) from error
    return rows
