"""What is looked at before anything leaves for a language model: whether it has texts, and gold is of use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import TableError
from modelmill.language_models.plan import gold_texts
from modelmill.tables.reading import scan_arrow

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 65_536
_MOST_NAMED = 5


def check_leaving(schema: pa.Schema, columns: Sequence[str], *, place: str) -> None:
    """Refuse columns of bytes: a language model would be asked, and paid, about their escapes.

    :param schema: of the table.
    :param columns: columns that leave; all are there.
    :param place: of the table, for the error.
    :raises TableError: naming the columns that are bytes, or hold some.
    """
    wrong = [name for name in columns if _has_bytes(schema.field(name).type)]
    if wrong:
        raise TableError(
            f"a column that leaves has texts, numbers or dates ({place})",
            got=", ".join(f"{name}: {schema.field(name).type}" for name in wrong),
            remedy="leave it out of columns; what a picture shows is asked of a model of images",
        )


def _has_bytes(type_: pa.DataType) -> bool:
    import pyarrow.types as kinds

    if kinds.is_binary(type_) or kinds.is_large_binary(type_) or kinds.is_fixed_size_binary(type_):
        return True
    return any(_has_bytes(type_.field(number).type) for number in range(type_.num_fields))


def check_gold(table: TableRef | DatasetRef, column: str, labels: Collection[str], *, needed: bool) -> None:
    """Refuse a gold column that can say nothing of the labels, before these are paid for.

    :param table: the table.
    :param column: its gold column.
    :param labels: what may be answered.
    :param needed: whether labels are given only where gold proves them.
    :raises TableError: if there are gold labels and all are others, or none is there and one is needed.
    """
    found: Counter[str] = Counter()
    for batch in scan_arrow(table, columns=[column], batch_rows=_BATCH_ROWS):
        found.update(text for text in gold_texts(batch.column(0)) if text is not None)
    if found.keys() & set(labels) or not (found or needed):
        return
    named = ", ".join(f"{text!r} on {count:,}" for text, count in found.most_common(_MOST_NAMED))
    some = ", ".join(map(repr, sorted(labels)[:_MOST_NAMED]))
    raise TableError(
        f"gold labels are among the labels, {some} ({column} in {table})",
        got=f"{named} rows" if found else "no row with one",
        remedy="write both alike, name another column under gold"
        + (", or leave out precision" if needed else ""),
    )
