"""The different texts of any number of tables: what an encoder reads on, without labels.

A text is known by a hash of its characters, and the hash alone says whether it is held out and whether it is
among those that fit a budget. So neither depends on the order of rows or tables, and a text that is held out
once is held out for good: no later night learns from it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import TableRef
from modelmill.errors import DatasetError, did_you_mean
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import scan_arrow
from modelmill.tokens.contents import CONTENTS, check_utf8

if TYPE_CHECKING:
    import pyarrow as pa

MOST_HELD_OUT = 2000
"""Texts that are held out at most: more would make a measurement slow, and hardly sharper."""

_CHUNK_ROWS = 8192
_TRAIN = "train"


@dataclass(frozen=True)
class TextCounts:
    """What became of the values that were read; the others add up to ``values``."""

    values: int = 0
    """Values in the columns."""
    null: int = 0
    empty: int = 0
    """Without any character but blanks."""
    duplicate: int = 0
    """Equal to one before."""
    other_split: int = 0
    """Of rows of another split than ``train``."""
    known: int = 0
    """The model has learned from them before."""
    held_out: int = 0
    """Measured on, never learned from."""
    beyond_budget: int = 0
    """Left for another time."""
    learned: int = 0

    def __str__(self) -> str:
        parts = {
            "learned from": self.learned,
            "held out": self.held_out,
            "learned from before": self.known,
            "equal to another": self.duplicate,
            "empty": self.empty,
            "null": self.null,
            "of another split": self.other_split,
            "left for another time": self.beyond_budget,
        }
        found = ", ".join(
            f"{count:,} {what}" for what, count in parts.items() if count or what == "learned from"
        )
        return f"{self.values:,} texts read: {found}"


@dataclass(frozen=True)
class DistinctTexts:
    """Different texts, in the order of their keys."""

    train: Sequence[str]
    keys: npt.NDArray[np.uint64]
    """Keys of the train texts, rising, ``(train texts,)``."""
    held_out: Sequence[str]
    counts: TextCounts


@dataclass(frozen=True)
class TextSource:
    """Which texts of tables are read."""

    columns: tuple[str, ...]
    """Columns with texts; of each table those that it has, at least one."""
    split: str | None = None
    """Column that says a row's split: rows of another one than ``train`` are left out. A table without that
    column is read whole. None: so is each."""
    held_out: float = 0.05
    """Share of the different texts that are held out; 0: none."""
    most: int = 100_000
    """Texts to learn from at most."""


@dataclass
class _Best:
    """The texts with the lowest order, of all that are offered."""

    most: int
    heap: list[tuple[int, int, str]] = field(default_factory=list)

    def offer(self, order: int, key: int, text: str) -> bool:
        """Take a text, and return whether all of them still fit."""
        entry = (-order, key, text)
        if len(self.heap) < self.most:
            heapq.heappush(self.heap, entry)
            return True
        if self.most:
            heapq.heappushpop(self.heap, entry)
        return False

    def sorted(self) -> list[tuple[int, str]]:
        return sorted((key, text) for _, key, text in self.heap)


def distinct_texts(
    tables: Sequence[TableRef], source: TextSource, *, known: Collection[int] = ()
) -> DistinctTexts:
    """Read the different texts of tables.

    :param tables: at least one.
    :param source: which of their texts.
    :param known: keys of texts that were learned from before: they are not learned from again.
    :return: the texts.
    :raises TableError: if a table cannot be read.
    :raises DatasetError: if a table has none of the columns, no table has one of them, or one holds no texts.
    """
    read = _columns(tables, source)
    train, held_out = _Best(source.most), _Best(MOST_HELD_OUT)
    seen: set[int] = set()
    counts = dict.fromkeys(("values", "null", "empty", "duplicate", "other_split", "known"), 0)
    beyond = 0
    learned_before = frozenset(int(key) for key in known)
    for table, columns in zip(tables, read, strict=True):
        for value, other in _values(table, columns, source):
            counts["values"] += 1
            reason = _set_aside(value, other=other)
            if reason or value is None:
                counts[reason or "null"] += 1
                continue
            key, order = text_key(value)
            if key in seen:
                counts["duplicate"] += 1
                continue
            seen.add(key)
            if key < source.held_out * 2**64:
                beyond += not held_out.offer(order, key, value)
            elif key in learned_before:
                counts["known"] += 1
            else:
                beyond += not train.offer(order, key, value)
    found, kept = train.sorted(), held_out.sorted()
    return DistinctTexts(
        train=[text for _, text in found],
        keys=np.array([key for key, _ in found], dtype=np.uint64),
        held_out=[text for _, text in kept],
        counts=TextCounts(**counts, held_out=len(kept), beyond_budget=beyond, learned=len(found)),
    )


def text_key(text: str) -> tuple[int, int]:
    """Return the key of a text, and its place in the order in which texts are taken: 64 bits each."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _set_aside(value: str | None, *, other: bool) -> str | None:
    if other:
        return "other_split"
    if value is None:
        return "null"
    return None if CONTENTS["text"].is_there(value) else "empty"


def _values(table: TableRef, columns: Sequence[str], source: TextSource) -> Iterator[tuple[str | None, bool]]:
    """Yield each value, and whether it is of a row of another split."""
    read = list(dict.fromkeys([*columns, *([source.split] if source.split else [])]))
    names = table_schema(table).names
    split = source.split if source.split in names else None
    read = [name for name in read if name in names]
    for batch in scan_arrow(table, columns=read, batch_rows=_CHUNK_ROWS):
        splits = batch.column(split).to_pylist() if split else [None] * len(batch)
        others = [one is not None and str(one) != _TRAIN for one in splits]
        for name in columns:
            rule, remedy = f"texts must be valid UTF-8 ({table})", "decode the texts when they are loaded"
            check_utf8(batch.column(name), name, rule=rule, error=DatasetError, remedy=remedy)
            yield from zip(batch.column(name).to_pylist(), others, strict=True)


def _columns(tables: Sequence[TableRef], source: TextSource) -> list[list[str]]:
    """Return the columns that are read of each table."""
    found: list[list[str]] = []
    everything: list[str] = []
    for table in tables:
        schema = table_schema(table)
        own = [name for name in source.columns if name in schema.names]
        if not own:
            raise DatasetError(
                f"a table that an encoder reads must have one of the columns ({table})",
                got=", ".join(source.columns),
                remedy=did_you_mean(source.columns, schema.names),
            )
        _check_types(schema, own, table)
        found.append(own)
        everything += schema.names
    missing = [name for name in source.columns if not any(name in own for own in found)]
    if missing:
        raise DatasetError(
            "each column must be one of a table's", got=missing[0], remedy=did_you_mean(missing, everything)
        )
    return found


def _check_types(schema: pa.Schema, columns: Sequence[str], table: TableRef) -> None:
    for name in columns:
        if not CONTENTS["text"].fits(schema.field(name).type):
            raise DatasetError(
                f"a column that an encoder reads must hold strings ({table})",
                got=f"{name}: {schema.field(name).type}",
                remedy="name another column",
            )
