"""Token ids of many texts, or pixels of many images, one after the other in one buffer.

A cache maps the buffer from its file, and each batch is gathered straight from there: no text has a Python
object of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """Rows of token ids; a row is a slice of the buffer."""

    values: npt.NDArray[np.unsignedinteger]
    """Ids of all rows, in any order of the rows, ``(tokens,)``."""
    starts: Places
    """Where each row begins in ``values``, ``(rows,)``."""
    lengths: Places
    """Tokens of each row, ``(rows,)``."""

    @classmethod
    def of(cls, rows: Iterable[npt.ArrayLike]) -> Tokens:
        """Put rows one after the other."""
        arrays = [np.asarray(row, dtype=np.uint32) for row in rows]
        values = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.uint32)
        return cls.packed(values, np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays)))

    @classmethod
    def packed(cls, values: npt.NDArray[np.unsignedinteger], lengths: Places) -> Tokens:
        """Return rows that stand one after the other.

        :param values: ids of all rows, ``(tokens,)``.
        :param lengths: tokens of each row, ``(rows,)``.
        :return: the rows.
        """
        return cls(values, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def joined(cls, first: Tokens, second: Tokens) -> Tokens:
        """Return the rows of two, the first's before the second's; the ids are copied."""
        return cls.packed(
            np.concatenate([first.flat(), second.flat()]), np.concatenate([first.lengths, second.lengths])
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Ids:
        start = self.starts[row]
        return self.values[start : start + self.lengths[row]].astype(np.int64)

    def raw(self, row: int) -> npt.NDArray[np.unsignedinteger]:
        """Return a row as it is stored, without a copy, ``(tokens,)``."""
        start = self.starts[row]
        return self.values[start : start + self.lengths[row]]

    def __iter__(self) -> Iterator[Ids]:
        return (self[row] for row in range(len(self)))

    def take(self, rows: Places | slice) -> Tokens:
        """Return some of the rows; the ids are not copied.

        :param rows: their places.
        :return: the rows, in that order.
        """
        return Tokens(self.values, self.starts[rows], self.lengths[rows])

    def cut(self, tokens: int) -> Tokens:
        """Return the first tokens of each row; the ids are not copied."""
        return Tokens(self.values, self.starts, np.minimum(self.lengths, tokens))

    def flat(self) -> npt.NDArray[np.unsignedinteger]:
        """Return the ids of all rows, one row after the other, ``(tokens,)``."""
        shift = self.starts - (np.cumsum(self.lengths) - self.lengths)
        places = np.repeat(shift, self.lengths)
        places += np.arange(len(places))
        return self.values.take(places)

    def padded(self, rows: Places | slice) -> tuple[Ids, Ids]:
        """Gather a batch, padded with zeros to its longest row.

        :param rows: places of the rows.
        :return: ids, and a mask that is 1 where there is a token, both ``(batch, tokens)``.
        """
        lengths = self.lengths[rows]
        columns = np.arange(int(lengths.max()))
        mask = columns < lengths[:, None]  # (batch, tokens)
        ids = np.zeros(mask.shape, dtype=np.int64)
        # Where the padding of the last row would lie beyond the buffer, any id will do: it is masked.
        found = self.values.take(self.starts[rows][:, None] + columns, mode="clip")
        np.copyto(ids, found, where=mask)
        return ids, mask.astype(np.int64)
