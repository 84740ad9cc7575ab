"""Rows cut into parts of which each fits into one worker's memory.

Workers cut the rows piece by piece, and write what a piece has of each part as a batch of its own, so that to
read a part costs no more the more parts there are. An engine's Parquet files cannot do that: their row groups
are larger than what a piece has of a part, and each part would read most of the others. To sort all rows, or
to send them from worker to worker, costs more.
"""

from __future__ import annotations

import io
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.tables.storage import is_local, table_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    from pyspark.sql import DataFrame

Work = Callable[["pa.Table"], "pa.Table"]
Cut = Callable[["pa.RecordBatch"], Iterable["pa.RecordBatch"]]
"""Yields what a piece has of each part, in their order, empty batches too. All batches have one schema."""
OnBatches = Callable[[Iterator[Any]], Iterator[Any]]

_PIECE_BYTES = 8 << 20
"""Size of the pieces that are cut."""
_BUFFER_BYTES = 1 << 20
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
    def of(cls, rows: DataFrame, cut: Cut, place: str, folder: str, parts: int) -> CutRows:
        """Cut rows into parts.

        :param rows: the rows.
        :param cut: how, see :func:`by_key`.
        :param place: a table's directory.
        :param folder: a new folder in it.
        :param parts: number of parts.
        :return: the parts. Files of tasks that failed are in the folder, too, and are not read.
        """
        names = rows.columns
        on_batches = _cutting(place, folder, names, cut)
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


def by_key(key: str, parts: int) -> Cut:
    """Return a function that cuts pieces.

    :param key: column of whole numbers; rows with the same number come into the same part.
    :param parts: number of parts.
    :return: the function.
    """

    def cut(piece: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        order, ends = by_part(np.asarray(piece.column(key), np.int64), parts)
        found = piece.take(pa.array(order))
        return (found.slice(start, end - start) for start, end in itertools.pairwise(ends))

    return cut


def by_part(numbers: npt.NDArray[np.integer[Any]], parts: int) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Sort whole numbers by the part that they are in.

    :param numbers: the numbers.
    :param parts: number of parts.
    :return: the places of the numbers, part by part; where each part begins, and the end of the last one.
    """
    import numpy as np

    part = numbers - numbers // parts * parts  # NumPy's remainder takes three times as long
    # Whole numbers of 8 or 16 bits are sorted in one or two passes.
    order = np.argsort(part.astype(np.min_scalar_type(parts)), kind="stable")
    return order, np.append(0, np.cumsum(np.bincount(part, minlength=parts))).tolist()


def one_batch(rows: pa.Table) -> pa.RecordBatch:
    """Return the rows of a table that has some, and is small, as one batch."""
    return rows.combine_chunks().to_batches()[0]


def _cutting(place: str, folder: str, names: Sequence[str], cut: Cut) -> OnBatches:
    """Return a function that writes a task's rows into a file, and yields its path."""

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        path = f"{folder}/{uuid.uuid4().hex}.arrow"
        pieces = (piece.rename_columns(names) for piece in _pieces(batches))
        found = (batch for piece in pieces for batch in cut(piece))
        first = next(found, None)
        if first is None:
            return
        if is_local(place):
            Path(place, folder).mkdir(parents=True, exist_ok=True)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            table_files(place).open_output_stream(path, buffer_size=_BUFFER_BYTES) as stream,
            pa.ipc.new_file(
                stream if is_local(place) else _InShortWrites(stream), first.schema, options=options
            ) as writer,
        ):
            for batch in itertools.chain([first], found):
                writer.write_batch(batch)
        yield pa.RecordBatch.from_pydict({"path": [path]})

    return on_batches


class _InShortWrites(io.RawIOBase):
    """A buffered stream to a store: that of delta-rs takes bytes, which only Arrow's buffer gives it."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes, few enough at a time for the buffer; return how many there were."""
        whole = memoryview(data).cast("B")
        for start in range(0, len(whole), _BUFFER_BYTES // 2):
            self._stream.write(whole[start : start + _BUFFER_BYTES // 2])
        return len(whole)


def _pieces(batches: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    """Gather batches into larger ones."""
    import pyarrow as pa

    held: list[Any] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _PIECE_BYTES:
            yield one_batch(pa.Table.from_batches(held))
            held, size = [], 0
    if size:
        yield one_batch(pa.Table.from_batches(held))
