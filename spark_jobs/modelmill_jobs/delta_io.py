"""Reading and writing Delta tables in Spark jobs, alike on every engine.

Read: the log by delta-rs and the data by Spark's Parquet reader. Written: Parquet files by Spark, staged in
the table's directory, and one commit by delta-rs.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError, TransientError
from modelmill.spark import scratch_folder
from modelmill.tables.commits import DataFile, commit_files, committed_version, is_committed
from modelmill.tables.files import MANIFEST, ActiveFile, file_digests
from modelmill.tables.opening import open_table
from modelmill.tables.protocol import needs_scan, reader_features
from modelmill.tables.reading import check_rows, checked_files, read_batches
from modelmill.tables.storage import is_local, table_files, table_location
from modelmill.tables.write_checks import not_writable, spark_schema_to_delta

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import Column, DataFrame, SparkSession

GLOB_CHARACTERS = frozenset("*?[]{}\\")
"""Spark's readers take every path as a pattern: a file named ``b[1].json`` would silently give no rows."""

_MAX_PARTITIONS = 1000

COMPRESSION = "zstd"
"""Codec of files that Spark writes. The embedded engine takes it at level 1: a third less work than level 3,
its default, for files that are a quarter larger."""


def read_table(spark: SparkSession, ref: TableRef | DatasetRef) -> DataFrame:
    """Read a table at its version.

    The log is delta-rs's to read, the files are Spark's. No engine's own ``delta`` format is used: Sail 0.7.2
    takes a column that statistics call constant out of them, decimals as floats, and replays compacted logs
    wrongly. A table that its files by themselves are not is staged: copied by
    :func:`~modelmill.tables.reading.read_batches` into the session's scratch folder, which an engine on
    another machine does not see, and then refuses.

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
    """Return whether the files are the table, and have names that Spark takes as they are."""
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

    Column metadata is Delta's own (Sail cannot parse it), and that a value is never null is the writer's
    promise: an engine that relies on it may turn an old file's absent column into an error.
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


def plain_path(path: str, *, percent: bool = False) -> str:
    """Return a path for Spark's readers, which would take some characters as a pattern.

    :param path: absolute path or URI.
    :param percent: whether the engine takes ``%`` as it stands: a JVM Spark does, Sail decodes it.
    :return: the path, with a scheme: a cluster's default file system may be another one.
    :raises TableError: if a reader would not take it as it stands.
    """
    found = sorted(GLOB_CHARACTERS & set(path)) + (["%"] if "%" in path and not percent else [])
    if found:
        raise TableError(
            f"a file that Spark reads has none of {' '.join(sorted(GLOB_CHARACTERS))} % in its path",
            got=path,
            remedy="rename it",
        )
    return f"file://{path}" if is_local(path) else path


def write_table(
    rows: DataFrame,
    uri: str,
    *,
    mode: Literal["append", "overwrite"],
    transaction: str,
    parts: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    manifest: bool = False,
    properties: Mapping[str, str] | None = None,
) -> tuple[TableRef, int | None]:
    """Write rows to a table, in one transaction that happens once.

    :param rows: what to write.
    :param uri: the table; made if there is none.
    :param mode: whether the rows that the table has stay.
    :param transaction: application transaction id (see :func:`modelmill.tables.commits.commit_files`).
    :param parts: further transaction ids that this commit settles.
    :param metadata: what else the commit says of itself, JSON.
    :param manifest: whether the commit names the SHA-256 of each file, which readers then check.
    :param properties: properties of a table that is made.
    :return: the table at the version of that transaction, and the number of rows written; None if an earlier
        attempt had written them.
    """
    place = table_location(uri)
    before = committed_version(place, transaction)
    if before is not None:
        return TableRef(uri=place, version=before), None
    schema = spark_schema_to_delta(rows.schema.json())
    with staged(rows, place) as files:
        count = sum(file.rows for file in files)
        about = {"rows": count, **(metadata or {})}
        if manifest:
            about[MANIFEST] = file_digests(place, [file.path for file in files])
        version = commit_files(
            place,
            files,
            schema=schema,
            mode=mode,
            transaction=transaction,
            parts=parts,
            metadata=about,
            properties=properties,
        )
    return TableRef(uri=place, version=version), count


@contextlib.contextmanager
def staged(rows: DataFrame, place: str) -> Iterator[list[DataFile]]:
    """Write rows as Parquet files into a new folder of a table, which goes away again if anything fails.

    It stays if it has become part of the table by then: what fails may be what comes after the commit.

    :param rows: what to write.
    :param place: the table's directory.
    :yields: the files, for a commit.
    """
    made = make_directory(place)
    folder = f"part-{uuid.uuid4().hex}"
    try:
        rows.write.parquet(plain_path(f"{place}/{folder}"), compression=COMPRESSION)
        yield data_files(place, folder)
    except BaseException:
        if not is_committed(place, folder):
            remove_folder(place, folder, made=made)
        raise


def make_directory(place: str) -> bool:
    """Make a table's directory, and make sure that it is writable.

    :param place: the directory.
    :return: whether it is new.
    :raises TableError: if it is not writable.
    """
    if not is_local(place):
        return False
    new = not Path(place).exists()
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        probe = Path(place) / f".probe-{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise not_writable(place, error.strerror) from error
    return new


def data_files(place: str, folder: str, *, recursive: bool = False) -> list[DataFile]:
    """Return the Parquet files of a folder.

    :param place: a table's directory.
    :param folder: the folder, relative to it; none such: no files.
    :param recursive: whether files in folders below count.
    :return: the files, in the order of their names.
    """
    import pyarrow.parquet as pq
    from pyarrow.fs import FileSelector

    files = table_files(place)
    found = []
    for info in files.get_file_info(FileSelector(folder, allow_not_found=True, recursive=recursive)):
        if info.base_name.endswith(".parquet"):
            rows = pq.ParquetFile(files.open_input_file(info.path)).metadata.num_rows
            modified = int(info.mtime.timestamp() * 1000) if info.mtime else 0
            found.append(DataFile(path=info.path, size=info.size, rows=rows, modified=modified))
    return sorted(found, key=lambda file: file.path)


def remove_folder(place: str, folder: str, *, made: bool = False) -> None:
    """Remove a folder of a table.

    :param place: the table's directory.
    :param folder: the folder, relative to it.
    :param made: whether the directory goes too, if nothing else is in it.
    """
    if is_local(place):
        shutil.rmtree(Path(place) / folder, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                Path(place).rmdir()  # unless another writer has put something there
    else:
        with contextlib.suppress(OSError):
            table_files(place).delete_dir(folder)


def quoted(name: str) -> Column:
    """Return a column by its exact name, whatever characters it has.

    :param name: the name.
    :return: the column.
    """
    from pyspark.sql import functions as sql

    return sql.col(f"`{name.replace('`', '``')}`")


def checked_rows(expected: int, written: int | None, *, what: str) -> None:
    """Make sure that a pass wrote what another pass counted.

    :param expected: rows counted.
    :param written: rows written; None: by an earlier attempt.
    :param what: the table, for the message.
    :raises TransientError: if the numbers differ: the source changed under the job, or the engine lost rows.
    """
    if written is not None and written != expected:
        raise TransientError(
            f"{what}: the rows written must be the rows counted", got=f"{written:,} of {expected:,}"
        )
