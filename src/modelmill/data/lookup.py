"""Looking rows up in a result that is small beside the table: each worker reads it once, and nothing is shuffled."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

LOOKUP_ROWS = 4_000_000
"""Rows of a result that workers hold in memory; larger ones are joined by the engine."""


@dataclass(frozen=True)
class Lookup:
    """A result in Parquet files, by a column of distinct 64-bit integers."""

    place: str
    """Directory of a table."""
    paths: tuple[str, ...]
    """The files, relative to it."""
    key: str

    def find(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where keys are in the result.

        :param keys: ``(rows,)``.
        :return: place of each key in :meth:`table`, -1 where it is not there.
        """
        known = _keys(self)
        if not len(known):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[places] == keys, places, -1)

    def table(self) -> pa.Table:
        """Return the result, in the order of its keys."""
        return _table(self)

    def joined(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with the result's columns: a left join.

        :param rows: rows with the key column.
        :return: the rows, nulls where the result has no such key.
        """
        import pyarrow as pa

        keys = np.asarray(rows.column(self.key), np.int64)
        places = self.find(keys)
        table = self.table()
        chosen = pa.array(places, mask=places < 0)
        names = [name for name in table.schema.names if name != self.key]
        arrays = [table.column(name).take(chosen).combine_chunks() for name in names]
        return pa.RecordBatch.from_arrays([*rows.columns, *arrays], names=[*rows.schema.names, *names])


@functools.lru_cache(maxsize=4)
def _table(lookup: Lookup) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from modelmill.data.tables import table_files

    files = table_files(lookup.place)
    tables = [pq.read_table(path, filesystem=files) for path in lookup.paths]
    return pa.concat_tables(tables).sort_by(lookup.key).combine_chunks()


@functools.lru_cache(maxsize=4)
def _keys(lookup: Lookup) -> npt.NDArray[np.int64]:
    return np.asarray(_table(lookup).column(lookup.key), np.int64)
