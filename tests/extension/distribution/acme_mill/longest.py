"""The longest texts of a table."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def longest(table: pa.Table, text: str, *, rows: int) -> pa.Table:
    """Return the longest texts, the longest first.

    :param table: the texts, among other columns.
    :param text: column with the text; rows without one are left out.
    :param rows: texts to return.
    :return: the column alone, with at most so many rows.
    """
    texts = table.select([text]).filter(pc.is_valid(table.column(text)))
    order = pc.sort_indices(pc.negate(pc.utf8_length(texts.column(text)).cast(pa.int64())))
    return texts.take(order[:rows])
