"""What changed in a table between two versions, read from its change data feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelmill.datasets.preparation import prepare
from modelmill.datasets.prepared_columns import HASH, Preparation
from modelmill.tables.opening import open_table
from modelmill.tables.row_hash import matched

if TYPE_CHECKING:
    import pyarrow as pa

_TYPE = "_change_type"
_GONE = ("delete", "update_preimage")


def read_changes(uri: str, plan: Preparation, *, after: int, until: int) -> tuple[pa.Table, pa.Table] | None:
    """Return the rows that came and the rows that went, prepared.

    A row that came and went again, or went and came again unchanged, is in neither.

    :param uri: the table.
    :param plan: how rows are prepared.
    :param after: version after which changes count.
    :param until: version until which they count, inclusive.
    :return: both, with the table's columns and the prepared ones; None if the feed does not reach back.
    :raises TableError: see :func:`~modelmill.tables.opening.open_table`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake.exceptions import DeltaError

    table = open_table(uri, version=until)
    try:
        feed = pa.table(table.load_cdf(starting_version=after + 1, ending_version=until).read_all())
    except (DeltaError, OSError, ValueError, pa.ArrowException):
        return None  # cleaned up, or switched on later
    gone = pc.is_in(feed.column(_TYPE).cast(pa.string()), value_set=pa.array(_GONE))
    rows = feed.select(plan.schema.names).cast(plan.schema)
    came, went = _prepared(rows.filter(pc.invert(gone)), plan), _prepared(rows.filter(gone), plan)
    both = _in_both(came, went)
    return came.filter(pa.array(~both[0])), went.filter(pa.array(~both[1]))


def _prepared(rows: pa.Table, plan: Preparation) -> pa.Table:
    import pyarrow as pa

    batches = [prepare(batch, plan) for batch in rows.to_batches(max_chunksize=8192) if batch.num_rows]
    schema = pa.schema([*plan.schema, *plan.added])
    return pa.Table.from_batches(batches, schema).combine_chunks() if batches else schema.empty_table()


def _in_both(one: pa.Table, other: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows cancel each other out: copies are counted."""
    first, second = (np.asarray(table.column(HASH), np.int64) for table in (one, other))
    return matched(first, second), matched(second, first)
