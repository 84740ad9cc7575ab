"""Taking rows out of a Delta table and putting others in, in one commit.

delta-rs's ``merge`` is not used: it matches rows by a condition, so of equal rows it takes out all or none,
and its commit cannot name the files' digests.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.artifacts import TableRef
from modelmill.tables.commits import commit_files, committed_version, is_committed
from modelmill.tables.opening import open_table
from modelmill.tables.reading import scan_arrow
from modelmill.tables.row_hash import int64_of_digests, matched, row_strings, sha256_rows
from modelmill.tables.staged_files import DataFile
from modelmill.tables.storage import is_local, table_files

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

    Rows that are on both sides stay as they are. If none is taken out, files are only added; else the table
    is rewritten, batch by batch.

    :param place: the table.
    :param version: its newest version when the caller read it.
    :param gone: rows to take out; each is in the table.
    :param came: rows to put in.
    :param transaction: id under which that is committed once.
    :param metadata: more metadata of the commit, JSON.
    :param key: column that tells the rows to take out from others; None: there is none.
    :param always: whether there is a commit even if nothing changes.
    :return: the new version, or the old one if nothing changes; None if the table has another version or
        lacks rows that should be taken out.
    :raises TransientError: if another writer was faster.
    """
    import pyarrow as pa

    before = committed_version(place, transaction)
    if before is not None:
        return before
    table = open_table(place)
    if table.version() != version:
        return None
    out, into = _digests(gone), _digests(came)
    gone = gone.filter(pa.array(~matched(out, into)))
    came = came.filter(pa.array(~matched(into, out)))
    if not gone.num_rows and not came.num_rows and not always:
        return version
    removal = _Removal(gone, key)
    rows = iter(came.to_batches(max_chunksize=_BATCH))
    if gone.num_rows:
        rows = itertools.chain(removal.rest(TableRef(uri=place, version=version), came.schema), rows)
    folder = f"part-{uuid.uuid4().hex}"
    try:
        files = _written(rows, came.schema, place, folder)
        if removal.done:
            return commit_files(
                place,
                files,
                schema=table.schema(),
                mode="overwrite" if gone.num_rows else "append",
                transaction=transaction,
                metadata=metadata,
            )
    except BaseException:
        if not is_committed(place, folder):
            _remove(place, folder)
        raise
    _remove(place, folder)
    return None


class _Removal:
    """Rows to take out of a table.

    :param gone: the rows.
    :param key: column that tells them from other rows; None: there is none.
    """

    def __init__(self, gone: pa.Table, key: str | None) -> None:
        self._key = key
        self._keys = gone.column(key).unique() if key is not None else None
        self._left = _digests(gone)

    @property
    def done(self) -> bool:
        """Whether all of them have been found."""
        return not len(self._left)

    def rest(self, ref: TableRef, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a table without them, with the columns of ``schema``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for batch in scan_arrow(ref, columns=schema.names, batch_rows=_BATCH):
            rows = batch.cast(schema)
            asked = np.ones(len(rows), bool)
            if self._key is not None:
                asked = np.asarray(pc.is_in(rows.column(self._key), value_set=self._keys))
            digests = _digests(rows.filter(pa.array(asked)))
            found = matched(digests, self._left)
            self._left = self._left[~matched(self._left, digests[found])]
            taken = np.zeros(len(rows), bool)
            taken[np.flatnonzero(asked)[found]] = True
            yield rows.filter(pa.array(~taken))


def _written(rows: Iterator[pa.RecordBatch], schema: pa.Schema, place: str, folder: str) -> list[DataFile]:
    """Write rows to a file in a new folder of the table; no file if there are no rows."""
    import pyarrow.parquet as pq

    path, count = f"{folder}/part-0.parquet", 0
    if is_local(place):
        Path(place, folder).mkdir()
    files = table_files(place)
    with pq.ParquetWriter(path, schema, filesystem=files, compression="snappy") as writer:
        for batch in rows:
            count += batch.num_rows
            writer.write_batch(batch)
    if not count:
        _remove(place, folder)
        return []
    info = files.get_file_info(path)
    modified = int(info.mtime.timestamp() * 1000) if info.mtime else 0
    return [DataFile(path=path, size=info.size, rows=count, modified=modified)]


def _remove(place: str, folder: str) -> None:
    with contextlib.suppress(OSError):
        table_files(place).delete_dir(folder)


def _digests(rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    if not rows.num_rows:
        return np.empty(0, np.int64)
    columns = [rows.column(name) for name in sorted(rows.schema.names)]
    whole = [column.combine_chunks() if hasattr(column, "combine_chunks") else column for column in columns]
    return np.asarray(int64_of_digests(sha256_rows(row_strings(whole)), 0))
