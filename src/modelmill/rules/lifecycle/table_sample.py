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
    """Return random rows of a table, in its order: its beginning may be all of one class.

    The table is read through, and the rows with the least random numbers are kept (reservoir sampling: J.
    Vitter, 1985; with sort keys: P. Efraimidis and P. Spirakis, 2006).

    :param table: the table.
    :param rows: most rows to return.
    :param columns: columns to read; None for all.
    :return: one batch; the same rows for the same version.
    """
    opened = open_table(table.uri, version=table.version)
    random = np.random.default_rng(0)
    numbers = np.empty(0)
    with read_batches(opened, table, checked_files(opened, table), columns=columns) as reader:
        kept = reader.schema.empty_table()
        for batch in reader:
            numbers = np.concatenate([numbers, random.random(batch.num_rows)])
            kept = pa.concat_tables([kept, pa.Table.from_batches([batch])])
            if len(numbers) > rows:
                places = np.sort(np.argpartition(numbers, rows)[:rows])
                numbers, kept = numbers[places], kept.take(pa.array(places))
        return one_batch(kept)
