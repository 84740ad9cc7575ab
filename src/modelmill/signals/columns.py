"""The columns that signals read."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from modelmill.errors import SignalError, did_you_mean
from modelmill.signals.values import Kind, column_kind


def check_operand(signal: str, column: str, kinds: Collection[Kind], schema: pa.Schema) -> None:
    """Check that the input has a column of a kind.

    :param signal: who reads it, for the message.
    :param column: its name.
    :param kinds: kinds that will do. A column without a type, all of it NULL, always does.
    :param schema: the input's columns.
    :raises SignalError: if there is none.
    """
    if schema.names.count(column) != 1:
        raise SignalError(
            f"the column of signal {signal!r} must be in the input, once",
            got=column,
            remedy=did_you_mean(column, schema.names),
        )
    kind = column_kind(schema.field(column).type)
    if kind not in (*kinds, "null"):
        raise SignalError(
            f"the column of signal {signal!r} must be of kind {' or '.join(kinds)}",
            got=f"{column}: {schema.field(column).type}",
            remedy="name another column, or cast it when the table is made",
        )
