"""Writing Delta tables in Spark jobs: Spark stages Parquet files, delta-rs commits them."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelmill.artifacts import TableRef
from modelmill.errors import TransientError
from modelmill.tables.commits import commit_files, committed_version, is_committed
from modelmill.tables.staged_files import DataFile
from modelmill.tables.storage import is_local, table_files, table_location
from modelmill.tables.write_checks import not_writable, spark_schema_to_delta
from modelmill_jobs.paths import plain_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

COMPRESSION = "zstd"
"""Codec of files that Spark writes. The embedded engine takes it at level 1: a third less work than level 3,
its default, for files that are a quarter larger."""


def write_table(
    rows: DataFrame | None,
    uri: str,
    *,
    schema: StructType | None = None,
    mode: Literal["append", "overwrite"],
    transaction: str,
    parts: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    properties: Mapping[str, str] | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[TableRef, int | None]:
    """Write rows to a table, in one transaction that happens once.

    :param rows: what to write; None: no rows, for which no engine has to run.
    :param uri: the table; made if there is none.
    :param schema: the columns; None: those of the rows.
    :param mode: whether the rows that the table has stay.
    :param transaction: application transaction id (see :func:`modelmill.tables.commits.commit_files`).
    :param parts: further transaction ids that this commit settles.
    :param metadata: more metadata of the commit, JSON.
    :param properties: properties of a new table.
    :param check: called when the rows are written, and not committed yet; what it raises ends the writing.
    :return: the table at the version of that transaction, and the number of rows written; None if an earlier
        attempt had written them.
    """
    place = table_location(uri)
    before = committed_version(place, transaction)
    if before is not None:
        return TableRef(uri=place, version=before), None
    if schema is None:
        if rows is None:
            raise ValueError("a table without rows needs its columns")
        schema = rows.schema
    columns = spark_schema_to_delta(schema.json())
    with staged(rows, place) as files:
        count = sum(file.rows for file in files)
        about = {"rows": count, **(metadata or {})}
        if check is not None:
            check()
        version = commit_files(
            place,
            files,
            schema=columns,
            mode=mode,
            transaction=transaction,
            parts=parts,
            metadata=about,
            properties=properties,
        )
    return TableRef(uri=place, version=version), count


@contextlib.contextmanager
def staged(rows: DataFrame | None, place: str) -> Iterator[list[DataFile]]:
    """Write rows as Parquet files into a new folder of a table; if anything fails, the folder is removed.

    It stays if a commit has made it part of the table: the failure may come after the commit.

    :param rows: what to write; None: nothing.
    :param place: the table's directory.
    :yields: the files, for a commit.
    """
    made = make_directory(place)
    folder = f"part-{uuid.uuid4().hex}"
    try:
        if rows is not None:
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
