"""Delta tables without Spark: opening them, reading them into Arrow, committing files to them.

delta-rs reads what it understands and, in a few cases, silently misreads the rest: an empty commit file (what
a power loss leaves) counts as a commit without rows. So every table passes :func:`open_table`, which accepts
the reader features of a short list and refuses every other one by its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import InputError, TableError, TransientError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from deltalake import DeltaTable, Schema
    from pyarrow.fs import FileSystem

READER_FEATURES = frozenset({"timestampNtz", "vacuumProtocolCheck"})
"""Reader features that every path of ours reads correctly: seen in tests, not taken from a list."""

COMMIT_KEY = "modelmill"
"""Under which a commit of ours says what it is, in its ``commitInfo``."""
MANIFEST = "sha256"
"""Under which it names the SHA-256 of each file."""

_READ_BYTES = 1 << 20
"""Read from a column of a file at a time, where it is read batch by batch."""

_LOG_FILE = re.compile(r"\d{20}\.")
_COMMIT_FILE = re.compile(r"(\d{20})\.json")


def table_location(uri: str) -> str:
    """Return the one spelling of a table's place that references use.

    :param uri: path or URI.
    :return: an absolute path for a local table, else the URI without a slash at its end.
    :raises TableError: if it is empty.
    """
    if not uri.strip():
        raise TableError("a table's path must not be empty", remedy="name the table's directory")
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    return uri.rstrip("/") if "://" in uri else os.path.abspath(uri)  # noqa: PTH100 (keeps links as they are)


def is_local(uri: str) -> bool:
    """Return whether a table's place is a path on this machine.

    :param uri: as :func:`table_location` gives it.
    :return: False for ``s3://…`` and the like.
    """
    return "://" not in uri


def table_exists(uri: str) -> bool:
    """Return whether there is a Delta log at a place.

    :param uri: path or URI.
    :return: True if a Delta table was begun there, readable or not.
    """
    place = table_location(uri)
    if is_local(place):
        # A writer that is just beginning a table has made the folder, and no commit yet.
        return any(_LOG_FILE.match(path.name) for path in Path(place, "_delta_log").glob("*"))
    from deltalake import DeltaTable

    return bool(DeltaTable.is_deltatable(place))


def open_table(uri: str, *, version: int | None = None) -> DeltaTable:
    """Open a Delta table, and make sure that what is read is what was written.

    :param uri: path or URI.
    :param version: version to read; None: the newest.
    :return: the table at that version.
    :raises TableError: if it is missing, no Delta table, has no such version, needs a reader feature that we
        do not read, or its log is damaged.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    place = table_location(uri)
    _check_exists(place)
    try:
        table = DeltaTable(place, version=version)
    except (DeltaError, OSError, ValueError) as error:
        raise _open_error(place, version, error) from error
    if table.version() < 0:  # a log without a commit
        raise _no_table(place)
    _check_features(table, place)
    _check_log(table, place)
    return table


def _check_exists(place: str) -> None:
    if not is_local(place):
        return
    if not Path(place).is_dir():
        raise TableError("the table must exist", got=place, remedy="check the path, or write the table first")
    if not (Path(place) / "_delta_log").is_dir():
        raise TableError(
            "the directory must be a Delta table (it has no _delta_log)",
            got=place,
            remedy="name a Delta table's directory, or load plain files with the component ingest",
        )


def _no_table(place: str) -> TableError:
    return TableError("the table must be a readable Delta table", got=place, remedy="check the path")


def _open_error(place: str, version: int | None, error: Exception) -> TableError:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    if isinstance(error, TableNotFoundError):
        return _no_table(place)
    if version is not None:
        try:
            newest = DeltaTable(place).version()
        except (DeltaError, OSError, ValueError):
            pass
        else:
            return TableError(
                f"the table must have the version that is asked for ({place})",
                got=version,
                remedy=f"its newest version is {newest}; old ones may have been cleaned up",
            )
    reason = " ".join(str(error).split())[:300]
    return TableError(
        f"the table's log must be readable ({reason})",
        got=place,
        remedy="restore its _delta_log, or read a version before the damage",
    )


def _check_features(table: DeltaTable, place: str) -> None:
    protocol = table.protocol()
    used = set(protocol.reader_features or ())
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        used.add("columnMapping")
    elif protocol.min_reader_version == 2:
        used.discard("columnMapping")  # allowed by the protocol's version, but not in use
    refused = sorted(used - READER_FEATURES)
    if refused or protocol.min_reader_version > 3:
        what = ", ".join(refused) or f"reader version {protocol.min_reader_version}"
        raise TableError(
            f"the table must be readable without features that are not supported ({place})",
            got=what,
            remedy=f"rewrite the table without {what}, or hand in a copy",
        )


def _check_log(table: DeltaTable, place: str) -> None:
    """Refuse a log with an empty commit file: delta-rs would read it as a commit without any rows."""
    from pyarrow.fs import FileSelector

    for info in table_files(place).get_file_info(FileSelector("_delta_log")):
        name = _COMMIT_FILE.fullmatch(info.base_name)
        if name and info.size == 0 and int(name[1]) <= table.version():
            raise TableError(
                f"a commit file must not be empty: rows of that commit would be lost ({place})",
                got=f"_delta_log/{info.base_name}, 0 bytes",
                remedy=f"restore the file, or read version {max(int(name[1]) - 1, 0)}",
            )


def table_files(place: str) -> FileSystem:
    """Return the files below a table's directory, wherever it is.

    :param place: as :func:`table_location` gives it.
    :return: a file system whose paths are relative to the table.
    """
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import LocalFileSystem, PyFileSystem, SubTreeFileSystem

    if is_local(place):
        # Arrow's threads call a file system written in Python while the interpreter ends, and that aborts it.
        return SubTreeFileSystem(place, LocalFileSystem())
    return PyFileSystem(DeltaStorageHandler(place))


def resolve_table(uri: str, *, version: int | None = None) -> TableRef:
    """Return a reference to a table as it stands now.

    :param uri: path or URI.
    :param version: version; None: the newest.
    :return: the reference, absolute.
    :raises TableError: see :func:`open_table`.
    """
    return TableRef(uri=table_location(uri), version=open_table(uri, version=version).version())


def check_columns(known: Sequence[str], wanted: Sequence[str], *, place: str) -> None:
    """Make sure that a table has columns.

    :param known: the table's columns.
    :param wanted: the columns that are needed.
    :param place: the table, for the message.
    :raises TableError: naming the first one that is missing, and the nearest one that exists.
    """
    for name in wanted:
        if name not in known:
            raise TableError(
                f"the table must have the column ({place})", got=name, remedy=did_you_mean(name, known)
            )


def read_arrow(ref: TableRef | DatasetRef, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table at its version into memory.

    The rows of a dataset come in the order of their keys, those of any other table file by file: the same
    version always gives the same order.

    :param ref: the table.
    :param columns: columns to read, in this order; None: all.
    :return: the rows.
    :raises TableError: see :func:`open_table`; or a column is missing; or a file is missing or damaged.
    """
    table = open_table(ref.uri, version=ref.version)
    names = [field.name for field in table.schema().fields]
    wanted = list(columns) if columns is not None else names
    check_columns(names, wanted, place=ref.uri)
    key = ref.key if isinstance(ref, DatasetRef) else None
    read = wanted if key is None or key in wanted else [*wanted, key]
    with _readable(ref):
        rows = _files(table, ref).to_table(columns=read)
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = open_table(ref.uri, version=ref.version)
    fields = pa.schema(table.schema().to_arrow())
    check_columns(fields.names, columns, place=ref.uri)
    schema = pa.schema([fields.field(name) for name in columns])
    with _readable(ref):
        files = _files(table, ref)
        for path in files.files:
            with files.filesystem.open_input_file(path) as source:
                # Arrow's datasets decode a row group, and that may be a whole file, before they give a batch.
                parquet = pq.ParquetFile(source, pre_buffer=False, buffer_size=_READ_BYTES)
                check_columns(parquet.schema_arrow.names, columns, place=f"{ref.uri}/{path}")
                for batch in parquet.iter_batches(batch_rows, columns=list(columns), use_threads=False):
                    yield batch.select(list(columns)).cast(schema)


def table_fingerprint(ref: TableRef | DatasetRef) -> str:
    """Return a digest of what the log says of the files of a version, without reading them.

    A table that was deleted and written again has other files, though its place and version are the same.

    :param ref: the table.
    :return: 64 hexadecimal digits.
    :raises TableError: see :func:`open_table`.
    """
    import pyarrow as pa

    table = open_table(ref.uri, version=ref.version)
    actions = pa.table(table.get_add_actions(flatten=True))
    files = actions.select(["path", "size_bytes", "modification_time"]).sort_by("path").to_pylist()
    content = json.dumps([files, _manifest(table, ref.uri)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _files(table: DeltaTable, ref: TableRef | DatasetRef) -> ds.FileSystemDataset:
    """Return the files of a table in a fixed order, once their digests are checked."""
    import pyarrow.dataset as ds

    _check_manifest(table, str(ref), ref.uri)
    dataset = table.to_pyarrow_dataset(filesystem=table_files(table_location(ref.uri)))
    fragments = sorted(dataset.get_fragments(), key=lambda fragment: _natural(fragment.path))
    return ds.FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)


@contextlib.contextmanager
def _readable(ref: TableRef | DatasetRef) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"the table's files must be readable ({' '.join(str(error).split())[:300]})",
            got=str(ref),
            remedy="restore the file, or use another version of the table",
        ) from error


def _check_manifest(table: DeltaTable, shown: str, place: str) -> None:
    """Compare the files with the digests that their commit names: a flipped bit may well decode."""
    wanted = _manifest(table, place)
    for path, digest in file_digests(place, list(wanted)).items():
        if digest != wanted[path]:
            raise TableError(
                f"a file of the table must be as it was written ({shown})",
                got=path,
                remedy="restore it from a copy, or build the dataset again",
            )


def _manifest(table: DeltaTable, place: str) -> dict[str, str]:
    """Return the SHA-256 of each file that the version's commit names; empty for commits of others."""
    about: dict[str, Any] = {}
    for action in commit_actions(place, table.version()) or ():
        about = action.get("commitInfo", {}).get(COMMIT_KEY) or about
    return dict(about.get(MANIFEST) or {})


def commit_actions(place: str, version: int) -> list[dict[str, Any]] | None:
    """Read the actions of one commit.

    delta-rs's ``history`` counts down from the version that was opened: wrong where there are later ones.

    :param place: as :func:`table_location` gives it.
    :param version: the commit.
    :return: the actions; None if the log no longer has the file.
    """
    try:
        with table_files(place).open_input_stream(f"_delta_log/{version:020d}.json") as stream:
            return [json.loads(line) for line in stream.read().splitlines() if line.strip()]
    except FileNotFoundError:
        return None


def file_digests(place: str, paths: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a table.

    :param place: as :func:`table_location` gives it.
    :param paths: relative to the table's directory.
    :return: 64 hexadecimal digits by path.
    """
    files = table_files(place)
    found = {}
    for path in paths:
        digest = hashlib.sha256()
        with files.open_input_stream(path) as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
        found[path] = digest.hexdigest()
    return found


def _natural(path: str) -> list[int | str]:
    """Sort ``_10`` after ``_9``: engines number their files without leading zeros."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def spark_schema_to_delta(schema_json: str) -> Schema:
    """Return the Delta schema for a Spark schema: every column nullable, no metadata.

    :param schema_json: ``DataFrame.schema.json()``.
    :return: the schema.
    :raises TableError: if Delta has no such type.
    """
    from deltalake import Schema
    from deltalake.exceptions import DeltaError

    content = json.loads(schema_json)
    for field in content["fields"]:
        field |= {"nullable": True, "metadata": {}}
    try:
        return Schema.from_json(json.dumps(content))
    except (DeltaError, ValueError) as error:
        raise TableError(
            f"every column needs a type that Delta has ({error})",
            got=", ".join(f"{field['name']}: {field['type']}" for field in content["fields"]),
            remedy="cast the column",
        ) from error


def write_check(table: DeltaTable, place: str) -> None:
    """Refuse to write to a table whose promises we would break by adding files behind its back.

    :param table: the table.
    :param place: its place, for the message.
    :raises TableError: if it is partitioned or has constraints, generated or identity columns.
    """
    metadata = table.metadata()
    promises = [key for key in metadata.configuration if key.startswith("delta.constraints.")]
    promises += [f"partition column {name}" for name in metadata.partition_columns]
    for field in table.schema().fields:
        promises += [
            f"{key} of column {field.name}"
            for key in field.metadata
            if key.startswith(("delta.invariants", "delta.generationExpression", "delta.identity"))
        ]
        promises += [] if field.nullable else [f"NOT NULL of column {field.name}"]
    if promises:
        raise TableError(
            f"a table that is written to has no partitions and no constraints ({place})",
            got=", ".join(promises),
            remedy="write to another table",
        )


def transient(error: Exception, place: str) -> TransientError | InputError:
    """Return the error for a commit that storage or a conflict stopped.

    :param error: what delta-rs raised.
    :param place: the table.
    :return: an error that can be retried, or one that cannot if the place is not writable.
    """
    text = " ".join(str(error).split())[:300]
    if isinstance(error, PermissionError) or "ermission denied" in text or "ead-only file system" in text:
        return not_writable(place, text)
    return TransientError(f"the commit must go through ({text})", got=place, remedy="try again")


def not_writable(place: str, reason: Any) -> TableError:
    """Return the error for a place that this user may not write.

    :param place: the table.
    :param reason: what the system said.
    :return: the error.
    """
    return TableError(
        f"the table's directory must be writable ({reason})",
        got=place,
        remedy="name another place, or give this user the right to write there",
    )
