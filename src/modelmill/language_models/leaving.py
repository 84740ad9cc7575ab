"""Which columns can leave for a language model: what has a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelmill.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa


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
