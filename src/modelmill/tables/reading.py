"""Reading Delta tables without Spark.

The log is read by delta-rs and the files, once they are checked, by Arrow. Where a file by itself does not
show the table's rows (column mapping, deletion vectors), delta-rs's own scan reads them. It does not read all
tables: a checkpoint may change the order of its rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError, did_you_mean
from modelmill.tables.files import ActiveFile, active_files, check_digests, check_present
from modelmill.tables.first_reads import check_first_reads
from modelmill.tables.opening import open_table
from modelmill.tables.protocol import (
    needs_scan,
)
from modelmill.tables.storage import is_local, one_line, table_files, table_location, unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from deltalake import DeltaTable

_READ_BYTES = 1 << 20
"""Bytes of a column that are read at a time, where a file is read batch by batch."""

_HEAD_ROWS = 10_000
"""Rows of a batch at most, where only the first rows of a table are read."""


def check_columns(known: Sequence[str], wanted: Sequence[str], *, place: str) -> None:
    """Make sure that a table has columns.

    :param known: the table's columns.
    :param wanted: the columns that are needed.
    :param place: the table, for the message.
    :raises TableError: naming every one that is missing, and the nearest one that exists.
    """
    missing = [name for name in dict.fromkeys(wanted) if name not in known]
    if missing:
        what = "the column" if len(missing) == 1 else "the columns"
        raise TableError(
            f"the table must have {what} ({place})",
            got=", ".join(missing),
            remedy=did_you_mean(missing, known),
        )


def read_arrow(ref: TableRef | DatasetRef, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table at its version into memory.

    The rows of a dataset come in the order of their keys, those of any other table file by file: the same
    version always gives the same order. (With column mapping or deletion vectors the files come in the order
    of the log, which a checkpoint may change.)

    :param ref: the table.
    :param columns: columns to read, in this order; None: all.
    :return: the rows.
    :raises TableError: see :func:`open_table`; or a column is missing; or a file is missing or damaged.
    """
    table = open_table(ref.uri, version=ref.version)
    names = [field.name for field in table.schema().fields]
    wanted = list(columns) if columns is not None else names
    key = ref.key if isinstance(ref, DatasetRef) else None
    read = wanted if key is None or key in wanted else [*wanted, key]
    check_columns(names, read, place=ref.uri)
    files = checked_files(table, ref)
    with read_batches(table, ref, files, columns=read) as batches:
        rows = batches.read_all()
    check_rows(rows.num_rows, table, files, shown=str(ref))
    return rows.sort_by(key).select(wanted) if key else rows


def scan_arrow(
    ref: TableRef | DatasetRef, *, columns: Sequence[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Read a table at its version batch by batch, in bounded memory.

    The rows come file by file, those of a dataset too: the same version always gives the same order.

    :param ref: the table.
    :param columns: columns to read, in this order.
    :param batch_rows: rows of a batch at most.
    :yield: the batches.
    :raises TableError: see :func:`read_arrow`.
    """
    table = open_table(ref.uri, version=ref.version)
    check_columns([field.name for field in table.schema().fields], columns, place=ref.uri)
    files = checked_files(table, ref)
    rows = 0
    for batch in _pieces(table, ref, files, columns, batch_rows):
        rows += len(batch)
        yield from (batch.slice(start, batch_rows) for start in range(0, len(batch), batch_rows))
    check_rows(rows, table, files, shown=str(ref))


def _pieces(
    table: DeltaTable,
    ref: TableRef | DatasetRef,
    files: Sequence[ActiveFile],
    columns: Sequence[str],
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if needs_scan(table) or table.metadata().partition_columns:
        with read_batches(table, ref, files, columns=columns) as batches:
            yield from batches
    else:
        fields = pa.schema(table.schema().to_arrow())
        with readable(ref):
            schema = pa.schema([fields.field(name) for name in columns])
            yield from _plain_batches(ref, files, schema, batch_rows)


def _plain_batches(
    ref: TableRef | DatasetRef, files: Sequence[ActiveFile], schema: pa.Schema, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Stream rows file by file: Arrow's datasets decode a row group, maybe a whole file, at a time."""
    import pyarrow.parquet as pq

    store = table_files(table_location(ref.uri))
    for file in files:
        with store.open_input_file(file.path) as source:
            parquet = pq.ParquetFile(
                source, pre_buffer=False, buffer_size=_READ_BYTES, coerce_int96_timestamp_unit="us"
            )
            check_columns(parquet.schema_arrow.names, schema.names, place=f"{ref.uri}/{file.path}")
            for batch in parquet.iter_batches(batch_rows, columns=schema.names, use_threads=False):
                yield batch.select(schema.names).cast(schema)


def checked_files(
    table: DeltaTable, ref: TableRef | DatasetRef, *, memory: Path | None = None
) -> list[ActiveFile]:
    """List the data files of a table's version, and make sure that they are as they were written.

    :param table: the table, at its version.
    :param ref: its reference.
    :param memory: see :func:`~modelmill.tables.files.check_digests`.
    :return: the files.
    :raises TableError: if one is missing or damaged.
    """
    place = table_location(ref.uri)
    with readable(ref):
        files = active_files(table, place)
        named = check_digests(table, place, files, shown=str(ref), memory=memory)
        others = [file.path for file in files if file.path not in named]
        check_first_reads(table, place, others, shown=str(ref))
    return files


def check_new_files(table: DeltaTable, ref: TableRef, files: Sequence[ActiveFile], *, since: int) -> None:
    """Make sure that the files which a table got since a version are as they were written.

    Neither other files nor older commits are looked at: what it costs depends on what is new alone.

    :param table: the table, at its version.
    :param ref: its reference.
    :param files: all files that it has now and had not then.
    :param since: the version; -1: all files are new.
    :raises TableError: if one is missing or damaged.
    """
    place = table_location(ref.uri)
    with readable(ref):
        check_present(files, place)
        named = check_digests(table, place, files, shown=str(ref), since=since)
        others = [file.path for file in files if file.path not in named]
        check_first_reads(table, place, others, shown=str(ref))


def check_table(ref: TableRef | DatasetRef, *, memory: Path) -> None:
    """Make sure that a table is there, as it was written.

    :param ref: the table, at a version.
    :param memory: directory in which the digests of files are kept.
    :raises TableError: if it is not there, or a file is missing or damaged.
    """
    checked_files(open_table(ref.uri, version=ref.version), ref, memory=memory)


@contextlib.contextmanager
def read_batches(
    table: DeltaTable,
    ref: TableRef | DatasetRef,
    files: Sequence[ActiveFile],
    *,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatchReader]:
    """Stream a table's rows, batch by batch.

    :param table: the table, at its version.
    :param ref: its reference.
    :param files: its files, see :func:`checked_files`.
    :param columns: columns to read, in this order; None: all.
    :yields: batches with the types of the table's schema.
    :raises TableError: if a file cannot be read.
    """
    names = list(columns) if columns is not None else [field.name for field in table.schema().fields]
    with readable(ref):
        if needs_scan(table):
            yield _scan(table, names)
        else:
            dataset = _file_dataset(table, table_location(ref.uri), files)
            if is_local(table_location(ref.uri)):  # a store would be asked for file after file
                _check_names(table, dataset, names, ref)
            yield dataset.scanner(columns=names).to_reader()


def _check_names(
    table: DeltaTable, dataset: ds.Dataset, columns: Sequence[str], ref: TableRef | DatasetRef
) -> None:
    """Refuse a column that no file has while files have unknown ones: a name in the log was damaged.

    A column that was added later may be missing, too, but leaves none behind. Files may have columns for row
    tracking, which the table's configuration names.
    """
    metadata = table.metadata()
    known = {*(field.name for field in table.schema().fields), *metadata.configuration.values()}
    found = set().union(*(piece.physical_schema.names for piece in dataset.get_fragments()))
    missing, unknown = set(columns) - found - set(metadata.partition_columns), found - known
    if missing and unknown:
        raise TableError(
            f"the columns of the files must be in the table's schema ({ref})",
            got=f"{', '.join(sorted(missing))} instead of {', '.join(sorted(unknown))}",
            remedy="restore the table's log from a copy, or write the table again",
        )


def read_head(
    table: DeltaTable,
    ref: TableRef | DatasetRef,
    files: Sequence[ActiveFile],
    *,
    rows: int,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read the first rows of a table, and little more of its files than what holds them.

    :param table: the table, at its version.
    :param ref: its reference.
    :param files: its files, in their order.
    :param rows: rows at most.
    :param columns: columns to read, in this order; None: all.
    :return: the rows, with the types of the table's schema.
    :raises TableError: if a file cannot be read.
    """
    import pyarrow as pa

    with readable(ref):
        fields = pa.schema(table.schema().to_arrow())
    schema = pa.schema([fields.field(name) for name in columns]) if columns is not None else fields
    taken: list[pa.RecordBatch] = []
    left = rows
    for batch in _head_batches(table, ref, files, schema, min(rows, _HEAD_ROWS)):
        taken.append(batch.slice(0, left))
        left -= taken[-1].num_rows
        if left <= 0:
            break
    return pa.Table.from_batches(taken, schema=taken[0].schema if taken else schema)


def _head_batches(
    table: DeltaTable,
    ref: TableRef | DatasetRef,
    files: Sequence[ActiveFile],
    schema: pa.Schema,
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    if needs_scan(table) or table.metadata().partition_columns:
        with read_batches(table, ref, files, columns=schema.names) as batches:
            yield from batches
        return
    for file in files:
        with readable(ref):
            is_whole = set(schema.names) <= set(_columns_in(ref, file))
            if is_whole:
                yield from _plain_batches(ref, [file], schema, batch_rows)
        if not is_whole:  # written before a column was added, which is null there
            with read_batches(table, ref, [file], columns=schema.names) as batches:
                yield from batches


def _columns_in(ref: TableRef | DatasetRef, file: ActiveFile) -> list[str]:
    import pyarrow.parquet as pq

    with table_files(table_location(ref.uri)).open_input_file(file.path) as source:
        return list(pq.ParquetFile(source).schema_arrow.names)


@contextlib.contextmanager
def readable(ref: TableRef | DatasetRef) -> Iterator[None]:
    """Turn what readers raise into errors that name the table.

    :param ref: the table.
    :yields: nothing.
    :raises TableError: if a file or the schema cannot be read.
    :raises TransientError: if the table's store does not answer.
    """
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (OSError, pa.ArrowException, DeltaError) as error:
        raise unreachable(table_location(ref.uri), error) or TableError(
            f"the table's files must be readable ({one_line(error)})",
            got=str(ref),
            remedy="restore the file, or use another version of the table",
        ) from error


def check_rows(found: int, table: DeltaTable, files: Sequence[ActiveFile], *, shown: str) -> None:
    """Make sure that as many rows were read as the log says there are.

    :param found: rows read.
    :param table: the table, at its version.
    :param files: its files.
    :param shown: the table and version, for the message.
    :raises TableError: if the log gives the rows of every file, and their sum is another number.
    """
    counts = [file.rows for file in files if file.rows is not None]
    if len(counts) == len(files) and sum(counts) != found and not needs_scan(table):
        raise TableError(
            f"the table must have the rows that its log says ({shown})",
            got=f"{found:,} instead of {sum(counts):,}",
            remedy="restore the table's files from a copy",
        )


def _file_dataset(table: DeltaTable, place: str, files: Sequence[ActiveFile]) -> ds.Dataset:
    """Return the files as one Arrow dataset, in their order; no file is skipped by its statistics."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    # Old engines write times as INT96, whose nanoseconds in 64 bits end in 2262: Arrow would wrap round.
    form = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"))
    schema = pa.schema(table.schema().to_arrow())
    store = table_files(place)
    fragments = []
    for file in files:
        condition = ds.scalar(True)
        for name, value in file.partition.items():
            field = ds.field(name)
            same = field.is_null() if value is None else field == pa.scalar(value, schema.field(name).type)
            condition = condition & same
        fragments.append(form.make_fragment(file.path, filesystem=store, partition_expression=condition))
    return ds.FileSystemDataset(fragments, schema, form, store)


_SCAN_SETTINGS = {
    "datafusion.execution.target_partitions": "1",  # else the order of rows differs from run to run
    "datafusion.execution.parquet.coerce_int96": "us",  # see _file_dataset
}


def _scan(table: DeltaTable, columns: Sequence[str]) -> pa.RecordBatchReader:
    """Stream rows through delta-rs's own scan, which applies column mapping and deletion vectors."""
    import pyarrow as pa
    from deltalake import QueryBuilder

    fields = pa.schema(table.schema().to_arrow())
    schema = pa.schema([fields.field(name) for name in columns])
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    query = QueryBuilder(_SCAN_SETTINGS).register("t", table)
    stream = pa.RecordBatchReader.from_stream(query.execute(f"SELECT {quoted} FROM t"))  # noqa: S608 (quoted)
    # The scan gives views of strings, which not every kernel of Arrow takes.
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in stream))
