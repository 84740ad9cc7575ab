"""The images of a dataset's rows, outside memory: those of a split may be far larger than a machine has.

One pass over the table copies the files of the images, batch by batch, into a file without a name. From there
each is read when it is needed. The disk holds the split's images once more; memory holds a batch.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.tables.reading import scan_arrow
from modelmill.tokens.images import IMAGES_AT_ONCE

if TYPE_CHECKING:
    import pyarrow as pa

_NONE = -1
"""Length of an image that is null."""


class _Spool:
    """A file without a name, gone with the last that reads it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)
        self._end = 0
        weakref.finalize(self, self._file.close)

    def add(self, content: bytes | None) -> tuple[int, int]:
        """Append an image; return where it begins, and its length."""
        if content is None:
            return self._end, _NONE
        self._file.write(content)
        begin, self._end = self._end, self._end + len(content)
        return begin, len(content)

    def written(self) -> None:
        """Say that all are there."""
        self._file.flush()

    def read(self, begin: int, length: int) -> bytes | None:
        """Return an image."""
        return None if length == _NONE else os.pread(self._file.fileno(), length, begin)


class StoredImages(Sequence[bytes | None]):
    """Files of images, read one by one.

    :param parts: where they lie: a spool each, with begin and length of its images, ``(images, 2)``.
    """

    def __init__(self, parts: Sequence[tuple[_Spool, npt.NDArray[np.int64]]]) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([len(places) for _, places in self._parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, place: int) -> bytes | None: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes | None]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes | None] | None:
        """Read an image, or some.

        :param place: which.
        :return: the file; None if the row has none. Of a slice, a list of them.
        """
        if isinstance(place, slice):
            return [self[row] for row in range(*place.indices(len(self)))]
        row = int(place) + (len(self) if place < 0 else 0)
        if not 0 <= row < len(self):
            raise IndexError(place)
        part = int(np.searchsorted(self._ends, row, side="right"))
        spool, places = self._parts[part]
        begin, length = places[row - (int(self._ends[part - 1]) if part else 0)].tolist()
        return spool.read(begin, length)

    def __add__(self, others: StoredImages) -> StoredImages:
        """Return these, and others after them."""
        return StoredImages([*self._parts, *others._parts])

    def keep(self, kept: npt.NDArray[np.bool_]) -> StoredImages:
        """Return some of them.

        :param kept: which, ``(images,)``.
        :return: those, in their order.
        """
        parts = np.split(kept, self._ends[:-1]) if len(self._ends) else []
        return StoredImages(
            [(spool, places[part]) for (spool, places), part in zip(self._parts, parts, strict=True)]
        )


def stored_images(dataset: DatasetRef, split: str) -> StoredImages:
    """Copy the images of a split out of a dataset's table.

    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :return: the images, in the order of the rows' keys.
    :raises TableError: if the table cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    spool, keys, places = _Spool(), [], [np.zeros((0, 2), np.int64)]
    for batch in _batches(dataset, split):
        column = batch.column(dataset.image_column)
        found = [spool.add(image.as_py()) for image in column]
        places.append(np.array(found, np.int64).reshape(-1, 2))
        keys.append(batch.column(dataset.key))
    spool.written()
    # As modelmill.tables.reading.read_arrow sorts them.
    order = pc.sort_indices(pa.chunked_array(keys)).to_numpy() if keys else np.zeros(0, np.int64)
    return StoredImages([(spool, np.concatenate(places)[order])])


def _batches(dataset: DatasetRef, split: str) -> Iterable[pa.RecordBatch]:
    import pyarrow.compute as pc

    columns = list(dict.fromkeys([dataset.key, dataset.split, dataset.image_column]))
    for batch in scan_arrow(dataset, columns=columns, batch_rows=IMAGES_AT_ONCE):
        yield batch.filter(pc.equal(batch.column(dataset.split), split))
