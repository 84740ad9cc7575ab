"""Taking rows out of a Delta table and putting others in, in one commit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.artifacts import TableRef
from modelmill.data.changes import matched
from modelmill.data.commits import DataFile, commit_files, committed_version
from modelmill.data.hashing import numbers_of, row_strings, sha256_rows
from modelmill.data.tables import MANIFEST, file_digests, is_local, open_table, scan_arrow, table_files

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 65_536


def replace_rows(
    place: str,
    version: int,
    *,
    gone: pa.Table,
    came: pa.Table,
    transaction: str,
    metadata: Mapping[str, Any],
    key: str | None = None,
    always: bool = False,
) -> int | None:
    """Take rows out of a table and put others in.

    Rows that are on both sides stay where they are. If none is taken out, files are only added; else the
    table is written anew, batch by batch.

    :param place: the table.
    :param version: its newest version, as far as the caller knows.
    :param gone: rows to take out; each is in the table.
    :param came: rows to put in.
    :param transaction: id under which that is committed once.
    :param metadata: what else the commit says of itself, JSON.
    :param key: column in which each row that is taken out differs from others; None: there is none.
    :param always: whether there is a commit even if nothing changes.
    :return: the new version, or the old one if nothing changes; None if the table has another version or
        lacks rows that should be taken out.
    :raises TransientError: if another writer was faster.
    """
    before = committed_version(place, transaction)
    if before is not None:
        return before
    table = open_table(place)
    if table.version() != version:
        return None
    out, into = _digests(gone), _digests(came)
    gone = gone.filter(_mask(~matched(out, into)))
    came = came.filter(_mask(~matched(into, out)))
    if not gone.num_rows and not came.num_rows and not always:
        return version
    rows = iter(came.to_batches(max_chunksize=_BATCH))
    left = [_digests(gone)]
    if gone.num_rows:
        some = gone.column(key).unique() if key is not None else None
        rows = _without(TableRef(uri=place, version=version), came.schema, left, rows, key, some)
    files = _written(rows, came.schema, place)
    if len(left[0]):
        return None
    return commit_files(
        place,
        files,
        schema=table.schema(),
        mode="overwrite" if gone.num_rows else "append",
        transaction=transaction,
        metadata={**metadata, MANIFEST: file_digests(place, [file.path for file in files])},
    )


def _without(
    ref: TableRef,
    schema: pa.Schema,
    left: list[np.ndarray],
    then: Iterator[pa.RecordBatch],
    key: str | None,
    some: pa.Array | None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table but some, then others; ``left[0]`` gets what was not found."""
    import pyarrow.compute as pc

    for batch in scan_arrow(ref, columns=schema.names, batch_rows=_BATCH):
        rows = batch.cast(schema)
        asked = np.ones(len(rows), bool)
        if key is not None:
            asked = np.asarray(pc.is_in(rows.column(key), value_set=some))
        digests = _digests(rows.filter(_mask(asked)))
        found = matched(digests, left[0])
        left[0] = left[0][~matched(left[0], digests[found])]
        taken = np.zeros(len(rows), bool)
        taken[np.flatnonzero(asked)[found]] = True
        yield rows.filter(_mask(~taken))
    yield from then


def _written(rows: Iterator[pa.RecordBatch], schema: pa.Schema, place: str) -> list[DataFile]:
    """Write rows to a file in the table's directory; none where there are no rows."""
    import pyarrow.parquet as pq

    folder = f"part-{uuid.uuid4().hex}"
    path, count = f"{folder}/part-0.parquet", 0
    if is_local(place):
        Path(place, folder).mkdir()
    files = table_files(place)
    with pq.ParquetWriter(path, schema, filesystem=files, compression="snappy") as writer:
        for batch in rows:
            count += batch.num_rows
            writer.write_batch(batch)
    if not count:
        files.delete_dir(folder)
        return []
    info = files.get_file_info(path)
    modified = int(info.mtime.timestamp() * 1000) if info.mtime else 0
    return [DataFile(path=path, size=info.size, rows=count, modified=modified)]


def _digests(rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    if not rows.num_rows:
        return np.empty(0, np.int64)
    columns = [rows.column(name) for name in sorted(rows.schema.names)]
    whole = [column.combine_chunks() if hasattr(column, "combine_chunks") else column for column in columns]
    return np.asarray(numbers_of(sha256_rows(row_strings(whole)), 0))


def _mask(chosen: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array(chosen)
