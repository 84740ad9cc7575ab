"""Parquet files in a table's directory that no commit knows yet."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.system.disk import flush
from modelmill.tables.storage import is_local, table_files
from modelmill.tables.write_checks import not_taken, transient

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake.transaction import AddAction


@dataclass(frozen=True)
class DataFile:
    """One Parquet file in a table's directory that no commit knows yet."""

    path: str
    """Relative to the table's directory."""
    size: int
    """In bytes."""
    rows: int
    modified: int
    """Time of the last change, in milliseconds since 1970."""
    bounds: Mapping[str, Any] = field(default_factory=dict)
    """Statistics of columns as Delta's log has them: ``minValues``, ``maxValues``, ``nullCount``."""

    def add_action(self) -> AddAction:
        """Return the action that makes the file part of a table."""
        from deltalake.transaction import AddAction

        return AddAction(
            path=self.path,
            size=self.size,
            partition_values={},
            modification_time=self.modified,
            data_change=True,
            stats=json.dumps({"numRecords": self.rows, **self.bounds}),
        )


def stage_rows(rows: pa.Table, place: str, *, bounds: Sequence[str] = ()) -> DataFile:
    """Write a Parquet file into a table's directory; a commit makes it part of the table.

    :param rows: what to write.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param bounds: columns whose smallest and largest value the log shall give.
    :return: the file.
    :raises TableError: if the directory cannot be written.
    :raises TransientError: if its store does not take the file, or the disk is full.
    """
    import pyarrow.parquet as pq

    name = f"part-{uuid.uuid4()}.parquet"
    try:
        if is_local(place):
            Path(place).mkdir(parents=True, exist_ok=True)
        files = table_files(place)
        pq.write_table(rows, name, filesystem=files)
        info = files.get_file_info(name)
    except OSError as error:
        if is_local(place):
            raise not_taken(place, error) from error
        raise transient(error, place) from error
    return DataFile(
        path=name,
        size=info.size,
        rows=rows.num_rows,
        modified=int(time.time() * 1000),
        bounds=_bounds(rows, bounds) if bounds else {},
    )


def _bounds(rows: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    import pyarrow.compute as pc

    ranges = {name: pc.min_max(rows.column(name)).as_py() for name in names}
    return {
        "minValues": {name: found["min"] for name, found in ranges.items()},
        "maxValues": {name: found["max"] for name, found in ranges.items()},
        "nullCount": {name: rows.column(name).null_count for name in names},
    }


def settle_on_disk(place: str, files: Sequence[DataFile]) -> None:
    """Flush staged files: neither Spark nor delta-rs does, and a commit must not outlive its data.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param files: the staged files.
    """
    if is_local(place):
        folders = {(Path(place) / file.path).parent for file in files}
        for path in [*(Path(place) / file.path for file in files), *folders, *_existing(place)]:
            _fsync(path, place)


def sync_log(place: str) -> None:
    """Flush the newest commit of a table on a local disk.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    """
    if is_local(place):
        log = Path(place) / "_delta_log"
        newest = max((path.name for path in log.iterdir() if path.name.endswith(".json")), default=None)
        for path in (None if newest is None else log / newest, log):
            if path is not None:
                _fsync(path, place)


def _existing(place: str) -> list[Path]:
    return [path for path in (Path(place), Path(place).parent) if path.is_dir()]


def _fsync(path: Path, place: str) -> None:
    try:
        flush(path)
    except OSError as error:
        raise not_taken(place, error) from error
