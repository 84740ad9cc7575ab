"""The index of a dataset: the prepared rows of its source, and decisions on those that share something."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.datasets.build_record import INDEX, Build, IndexFile
from modelmill.datasets.deduplication import SET
from modelmill.datasets.minhash import CROWDED, unpacked
from modelmill.datasets.prepared_columns import BUCKETS, CONTENT, IDENTITY, ROW
from modelmill.tables.files import file_digests
from modelmill.tables.storage import is_local, table_files

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 65_536
_READ = 16_384  # rows at a time: larger pieces take more time for fresh memory than for reading
_SIEVE = 1 << 21  # places, a power of two
_AT_WORK_SECONDS = 24 * 3600


class FullBuildNeededError(Exception):
    """The changes cannot be processed by themselves: it ends an update, and is caught there."""


class Index:
    """The index of one build.

    :param place: the dataset's table.
    :param build: the build.
    """

    def __init__(self, place: str, build: Build) -> None:
        self.place = place
        self.build = build

    def verify(self) -> None:
        """Make sure that the files are as they were written.

        :raises FullBuildNeededError: if one is missing or damaged.
        """
        for file in (*self.build.index, *self.build.decisions):
            try:
                digest = file_digests(self.place, [file.path])[file.path]
            except OSError as error:
                raise FullBuildNeededError(f"{file.path} cannot be read") from error
            if digest != file.sha256:
                raise FullBuildNeededError(f"{file.path} is not as it was written")

    def decisions(self, schema: pa.Schema) -> pa.Table:
        """Return all decisions."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        files = table_files(self.place)
        tables = [pq.read_table(file.path, filesystem=files).cast(schema) for file in self.build.decisions]
        return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()

    def touched(self, came: pa.Table, went: pa.Table, *, unique_key: bool) -> np.ndarray:
        """Find the rows that share content, key or a bucket with rows that changed.

        :param came: prepared rows that came.
        :param went: prepared rows that went; they are in the index.
        :param unique_key: whether a shared key matters.
        :return: ids of the rows, went included.
        :raises FullBuildNeededError: if a bucket becomes crowded.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        changed = pa.concat_tables([came, went])
        contents, keys = _distinct(changed.column(CONTENT[0])), _distinct(changed.column(IDENTITY[0]))
        fresh = unpacked(came.column(BUCKETS).combine_chunks())[0]
        buckets = np.unique(fresh)
        sieve = np.zeros(_SIEVE, bool)
        sieve[buckets & (_SIEVE - 1)] = True
        found, shared = [], [fresh]
        for batch in self._batches([ROW, CONTENT[0], IDENTITY[0], BUCKETS]):
            hit = np.asarray(pc.is_in(batch.column(CONTENT[0]), value_set=contents))
            if unique_key:
                hit = hit | np.asarray(pc.is_in(batch.column(IDENTITY[0]), value_set=keys))
            if len(buckets):
                entries, owners = unpacked(batch.column(BUCKETS))
                # The sieve drops most buckets at a tenth of the cost of looking each up.
                near = np.flatnonzero(sieve[entries & (_SIEVE - 1)])
                near = near[
                    buckets.take(np.searchsorted(buckets, entries[near]), mode="clip") == entries[near]
                ]
                hit[owners[near]] = True
                shared.append(entries[near])
            if hit.any():
                found.append(np.asarray(batch.column(ROW))[hit])
        counts = np.unique(np.concatenate(shared), return_counts=True)[1]
        if counts.max(initial=0) > CROWDED:
            raise FullBuildNeededError("very many texts are alike")
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def rows(self, ids: np.ndarray, schema: pa.Schema) -> pa.Table:
        """Return rows by their ids.

        :param ids: distinct ids.
        :param schema: columns of the index.
        :return: the rows that there are, all columns.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not len(ids):
            return schema.empty_table()
        wanted, found = pa.array(ids), []
        for batch in self._batches(None):
            hit = pc.is_in(batch.column(ROW), value_set=wanted)
            if pc.any(hit).as_py():
                found.append(pa.Table.from_batches([batch]).filter(hit).cast(schema))
        return pa.concat_tables([schema.empty_table(), *found]).combine_chunks()

    def write_next(
        self, came: pa.Table, gone: np.ndarray, decisions: pa.Table
    ) -> tuple[tuple[IndexFile, ...], tuple[IndexFile, ...]]:
        """Write the next index beside this one.

        :param came: prepared rows that came.
        :param gone: ids of rows that went.
        :param decisions: all decisions.
        :return: files of the rows and of the decisions; those without a change are this index's own.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        folder = f"{INDEX}/{uuid.uuid4().hex}"
        kept: list[IndexFile] = []
        if len(gone):
            files = table_files(self.place)
            for file in self.build.index:
                rows = pq.read_table(file.path, filesystem=files)
                stays = pc.invert(pc.is_in(rows.column(ROW), value_set=pa.array(gone)))
                left = rows.filter(stays)
                if left.num_rows == rows.num_rows:
                    kept.append(file)
                elif left.num_rows:
                    kept.append(self._write(left, f"{folder}/rows"))
        else:
            kept.extend(self.build.index)
        if came.num_rows:
            kept.append(self._write(came, f"{folder}/rows"))
        decided = (self._write(decisions, f"{folder}/decisions"),) if decisions.num_rows else ()
        return tuple(kept), decided

    def _write(self, rows: pa.Table, folder: str) -> IndexFile:
        import pyarrow.parquet as pq

        path = f"{folder}/{uuid.uuid4().hex}.parquet"
        if is_local(self.place):
            Path(self.place, folder).mkdir(parents=True, exist_ok=True)
        pq.write_table(
            rows, path, filesystem=table_files(self.place), row_group_size=_BATCH, compression="zstd"
        )
        return IndexFile(path=path, rows=rows.num_rows, sha256=file_digests(self.place, [path])[path])

    def _batches(self, columns: Sequence[str] | None) -> Any:
        import pyarrow.parquet as pq

        files = table_files(self.place)
        for file in self.build.index:
            with files.open_input_file(file.path) as source:
                parquet = pq.ParquetFile(source, pre_buffer=False)
                yield from parquet.iter_batches(_READ, columns=columns)


def sweep(place: str, build: Build, *, own: str) -> None:
    """Remove from the folder of indexes what killed builds and earlier ones have left.

    Another folder may belong to a build that is still running, so only those go that are a day old.

    :param place: the dataset's table.
    :param build: its newest build, whose files stay.
    :param own: folder of the build that has just ended, relative to the table's directory.
    """
    from pyarrow.fs import FileSelector, FileType

    files = table_files(place)
    needed = {path for file in (*build.index, *build.decisions) for path in _with_parents(file.path)}
    newest: dict[str, float] = {}
    with contextlib.suppress(OSError):  # the build is committed already
        for info in files.get_file_info(FileSelector(INDEX, allow_not_found=True, recursive=True)):
            depth = 3 if info.path.startswith(f"{own}/") else 2
            folder = "/".join(info.path.split("/")[:depth])
            changed = info.mtime.timestamp() if info.mtime else 0.0
            newest[folder] = max(newest.get(folder, 0.0), changed)
        for folder, changed in newest.items():
            at_work = not folder.startswith(own) and changed > time.time() - _AT_WORK_SECONDS
            if folder not in needed and not at_work:
                kind = files.get_file_info(folder).type
                if kind == FileType.File:
                    files.delete_file(folder)
                elif kind == FileType.Directory:
                    files.delete_dir(folder)


def _with_parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts) + 1))


def closure(ids: np.ndarray, decisions: pa.Table) -> np.ndarray:
    """Return rows with all rows of their closed sets."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, sets = decisions.column(ROW), decisions.column(SET)
    mine = sets.filter(pc.is_in(rows, value_set=pa.array(ids))).unique()
    more = rows.filter(
        pc.is_in(sets, value_set=mine.combine_chunks() if hasattr(mine, "combine_chunks") else mine)
    )
    return np.unique(np.concatenate([ids, np.asarray(more, np.int64)]))


def _distinct(column: pa.ChunkedArray) -> pa.Array:
    values = column.unique()
    return values.combine_chunks() if hasattr(values, "combine_chunks") else values
