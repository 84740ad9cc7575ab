"""Rows from all over a table, for plans, trials and learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from modelmill.artifacts import TableRef
from modelmill.rules.frames import one_batch
from modelmill.tables.opening import open_table
from modelmill.tables.reading import checked_files, read_batches


def sample_table(table: TableRef, *, rows: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
    """Return evenly spaced rows of a table: its beginning may be all of one class.

    A larger table is read through. If the log does not count the rows, they are the first ones.

    :param table: the table.
    :param rows: most rows to return.
    :param columns: columns to read; None for all.
    :return: one batch; the same rows for the same version.
    """
    opened = open_table(table.uri, version=table.version)
    files = checked_files(opened, table)
    counts = [file.rows for file in files]
    total = sum(count for count in counts if count is not None) if None not in counts else 0
    wanted = np.arange(rows) if total <= rows else np.arange(rows) * total // rows
    batches: list[pa.RecordBatch] = []
    start = 0
    with read_batches(opened, table, files, columns=columns) as reader:
        for batch in reader:
            end = start + batch.num_rows
            first, last = np.searchsorted(wanted, (start, end))
            batches.append(batch.take(pa.array(wanted[first:last] - start)))
            start = end
            if last == len(wanted):
                break
        return one_batch(pa.Table.from_batches(batches, reader.schema))
