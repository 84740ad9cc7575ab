"""Rows cut into parts of which each fits into one worker's memory.

Workers cut the rows piece by piece, and write what a piece has of each part as a batch of its own, so that to
read a part costs no more the more parts there are. An engine's Parquet files cannot do that: their row groups
are larger than what a piece has of a part, and each part would read most of the others. To sort all rows, or
to send them from worker to worker, costs more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.tables.storage import is_local, table_files

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

Work = Callable[["pa.Table"], "pa.Table"]
OnBatches = Callable[[Iterator[Any]], Iterator[Any]]

_PIECE_BYTES = 8 << 20
"""Size of the pieces that are cut."""
_ROWS_OUT = 65_536


@dataclass(frozen=True)
class CutRows:
    """Files of rows, in which a batch of each part follows that of the part before, again and again."""

    place: str
    """A table's directory."""
    folder: str
    """Of the files, relative to it."""
    paths: tuple[str, ...]
    """The files, relative to the directory: one a task."""
    parts: int

    @classmethod
    def of(cls, rows: DataFrame, key: str, place: str, folder: str, parts: int) -> CutRows:
        """Cut rows into parts.

        :param rows: the rows.
        :param key: column of whole numbers; rows with the same number come into the same part.
        :param place: a table's directory.
        :param folder: a new folder in it.
        :param parts: number of parts.
        :return: the parts. Files of tasks that failed are in the folder, too, and are not read.
        """
        names = rows.columns
        on_batches = _cutting(place, folder, names, names.index(key), parts)
        # Spark Connect selects columns by name, and Sail takes a dot in a name for a field of a struct.
        found = rows.toDF(*(f"c{number}" for number in range(len(names))))
        written = found.mapInArrow(on_batches, "path string").collect()
        return cls(place, folder, tuple(row[0] for row in written), parts)

    def on_part(self, part: int, work: Work) -> OnBatches:
        """Return what a worker does with a part, whatever rows it is given.

        :param part: number of the part.
        :param work: gets its rows; not called for an empty part.
        :return: the function.
        """

        def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
            for _ in batches:
                pass
            yield from on_whole_part(work)(self._batches(part))

        return on_batches

    def _batches(self, part: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        files = table_files(self.place)
        for path in self.paths:
            with files.open_input_file(path) as source, pa.ipc.open_file(source) as reader:
                for number in range(part, reader.num_record_batches, self.parts):
                    yield reader.get_batch(number)


def on_whole_part(work: Work) -> OnBatches:
    """Return a function that gathers batches and applies another one to all of them.

    :param work: gets the rows; not called if there are none.
    :return: the function.
    """

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        held = [batch for batch in batches if batch.num_rows]
        if held:
            yield from work(pa.Table.from_batches(held)).to_batches(max_chunksize=_ROWS_OUT)

    return on_batches


def _cutting(place: str, folder: str, names: Sequence[str], key: int, parts: int) -> OnBatches:
    """Return a function that writes a task's rows into a file, and yields its path."""

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        path = f"{folder}/{uuid.uuid4().hex}.arrow"
        pieces = (piece.rename_columns(names) for piece in _pieces(batches))
        first = next(pieces, None)
        if first is None:
            return
        if is_local(place):
            Path(place, folder).mkdir(parents=True, exist_ok=True)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            table_files(place).open_output_stream(path) as sink,
            pa.ipc.new_file(sink, first.schema, options=options) as writer,
        ):
            for piece in (first, *pieces):
                for batch in _cut(piece, key, parts):
                    writer.write_batch(batch)
        yield pa.RecordBatch.from_pydict({"path": [path]})

    return on_batches


def _cut(piece: pa.RecordBatch, key: int, parts: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of each part."""
    import numpy as np
    import pyarrow as pa

    number = np.asarray(piece.column(key), np.int64)
    part = number - number // parts * parts  # NumPy's remainder takes three times as long
    # Whole numbers of 8 or 16 bits are sorted in one or two passes.
    order = np.argsort(part.astype(np.min_scalar_type(parts)), kind="stable")
    found = piece.take(pa.array(order))
    sizes = np.bincount(part, minlength=parts)
    for start, size in zip((np.cumsum(sizes) - sizes).tolist(), sizes.tolist(), strict=True):
        yield found.slice(start, size)


def _pieces(batches: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    """Gather batches into larger ones."""
    held: list[Any] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _PIECE_BYTES:
            yield _one(held)
            held, size = [], 0
    if size:
        yield _one(held)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
