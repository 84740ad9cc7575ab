"""Looking rows up in a result that is small beside the table: workers read it once, nothing is shuffled.

Arrow's own ``join`` does not keep the order of the rows, and builds its hash table anew for each batch.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

LOOKUP_ROWS = 4_000_000
"""Most rows of a result that workers hold in memory; the engine joins larger ones."""


@dataclass(frozen=True)
class Lookup:
    """A result in Parquet files, looked up by a column of distinct 64-bit integers."""

    place: str
    """Directory of a table."""
    paths: tuple[str, ...]
    """The files, relative to it."""
    key: str

    def find(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where keys are in the result.

        :param keys: ``(rows,)``.
        :return: place of each key in :meth:`table`, -1 if it is not there.
        """
        return _places(_keys(self), keys)

    def table(self) -> pa.Table:
        """Return the result, in the order of its keys."""
        return _table(self)

    def keys(self) -> npt.NDArray[np.int64]:
        """Return the keys, sorted."""
        return _keys(self)

    def values(self, name: str) -> pa.Array:
        """Return a column, in the order of the keys."""
        return _array(self.table().column(name))

    def joined(self, rows: pa.RecordBatch, *, inner: bool = False) -> pa.RecordBatch:
        """Return rows with the result's columns.

        :param rows: rows with the key column.
        :param inner: whether rows whose key the result does not have are left out; else they get nulls.
        :return: the rows.
        """
        import pyarrow as pa

        places = self.find(np.asarray(rows.column(self.key), np.int64))
        if inner:
            rows, places = rows.take(pa.array(np.flatnonzero(places >= 0))), places[places >= 0]
        return _joined(rows, self.table(), places, self.key)


def join(rows: pa.Table, others: pa.Table, key: str) -> pa.Table:
    """Return rows with the columns of the others that have the same key (a left join).

    :param rows: rows with the key column, which may be null.
    :param others: rows with distinct keys.
    :param key: column of 64-bit integers from 0 on.
    :return: the rows in their order, nulls where there is no such key.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    others = others.sort_by(key)
    known = np.asarray(others.column(key), np.int64)
    keys = np.asarray(pc.fill_null(rows.column(key), -1), np.int64)
    schema = pa.schema([*rows.schema, *(field for field in others.schema if field.name != key)])
    parts = rows.combine_chunks().to_batches()
    if not parts:
        return schema.empty_table()
    return pa.Table.from_batches([_joined(parts[0], others, _places(known, keys), key)], schema)


def _joined(
    rows: pa.RecordBatch, others: pa.Table, places: npt.NDArray[np.int64], key: str
) -> pa.RecordBatch:
    import pyarrow as pa

    chosen = pa.array(places, mask=places < 0)
    names = [name for name in others.schema.names if name != key]
    arrays = [_array(others.column(name).take(chosen)) for name in names]
    return pa.RecordBatch.from_arrays([*rows.columns, *arrays], names=[*rows.schema.names, *names])


def _array(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if hasattr(whole, "chunk") else whole


def _places(known: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if not len(known):
        return np.full(len(keys), -1)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[places] == keys, places, -1)


_loading = threading.Lock()
"""The embedded engine's workers are threads; without a lock, each would load the same result."""


def _table(lookup: Lookup) -> pa.Table:
    with _loading:
        return _loaded(lookup)


@functools.lru_cache(maxsize=4)
def _loaded(lookup: Lookup) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from modelmill.tables.storage import table_files

    files = table_files(lookup.place)
    tables = [pq.read_table(path, filesystem=files) for path in lookup.paths]
    return pa.concat_tables(tables).sort_by(lookup.key).combine_chunks()


@functools.lru_cache(maxsize=4)
def _keys(lookup: Lookup) -> npt.NDArray[np.int64]:
    return np.asarray(_table(lookup).column(lookup.key), np.int64)
