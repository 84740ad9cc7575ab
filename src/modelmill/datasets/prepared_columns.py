"""The columns that a preparation adds to the rows of a source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from modelmill.datasets.options import BuildOptions, LabelKind

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "_mm_"
"""Columns that a preparation adds begin with it."""
ROW, HASH, ORDER, KEY, REASON = "_mm_row", "_mm_hash", "_mm_order", "_mm_example_key", "_mm_reason"
SHIPPED, CARVED, GROUP, BUCKETS = "_mm_shipped", "_mm_carved", "_mm_group", "_mm_buckets"
CONTENT, IDENTITY = ("_mm_content", "_mm_content_more"), ("_mm_key", "_mm_key_more")
"""128 bits each of the SHA-256 of a row's content, and of its key."""

TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Preparation:
    """How rows are prepared."""

    options: BuildOptions
    schema: pa.Schema
    """The source's columns, with the Arrow types of its Delta schema; an engine's may differ."""

    @cached_property
    def kinds(self) -> tuple[LabelKind, ...]:
        """What each label column holds."""
        return tuple(
            self.options.label_kinds.get(name) or _kind(self.schema.field(name).type)
            for name in self.options.labels
        )

    @cached_property
    def label_types(self) -> tuple[pa.DataType, ...]:
        """Type of each label column in the dataset."""
        return tuple(label_type(kind) for kind in self.kinds)

    @cached_property
    def added(self) -> pa.Schema:
        """The columns that a preparation adds."""
        import pyarrow as pa

        numbers = (HASH, ORDER, *CONTENT, *IDENTITY)
        return pa.schema(
            [
                pa.field(ROW, pa.int64()),
                *(pa.field(name, pa.int64()) for name in numbers),
                pa.field(KEY, pa.string()),
                pa.field(SHIPPED, pa.int8()),
                pa.field(CARVED, pa.int8()),
                pa.field(GROUP, pa.int64()),
                pa.field(REASON, pa.string()),
                *(pa.field(label_column(i), type_) for i, type_ in enumerate(self.label_types)),
                pa.field(BUCKETS, pa.binary()),
            ]
        )


def label_column(index: int) -> str:
    """Return the name of a label's column among the prepared ones."""
    return f"_mm_label_{index}"


def label_type(kind: LabelKind) -> pa.DataType:
    """Return the type of a label column in a dataset.

    :param kind: what it holds.
    :return: string, list of strings, or double.
    """
    import pyarrow as pa

    return {"class": pa.string(), "classes": pa.list_(pa.string()), "number": pa.float64()}[kind]


def _kind(type_: pa.DataType) -> LabelKind:
    import pyarrow.types as types

    if types.is_list(type_) or types.is_large_list(type_):
        return "classes"
    return "number" if types.is_floating(type_) or types.is_decimal(type_) else "class"
