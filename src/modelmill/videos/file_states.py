"""Whether the files that a table of videos names are as they were: by their times, nothing is read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.tables.reading import scan_arrow
from modelmill.videos.sources import local_path, sidecars_of

if TYPE_CHECKING:
    from modelmill.artifacts import TableRef

_BATCH_ROWS = 65_536


def file_states(table: TableRef, path: str | None, *, sidecars: bool = False) -> str:
    """Return a fingerprint of the files that a table names.

    :param table: the table.
    :param path: its column with paths; None or empty: it has none, since the videos are in a column.
    :param sidecars: whether files of subtitles beside the videos count.
    :return: SHA-256 over path, size, times and inode of each file, and of those that are not there.
    :raises TableError: if the table cannot be read, or has no such column.
    """
    digest = hashlib.sha256()
    for batch in scan_arrow(table, columns=[path], batch_rows=_BATCH_ROWS) if path else ():
        for name in batch.column(0).to_pylist():
            place = local_path(str(name or ""))
            files = [] if not place or "://" in place else [Path(place)]
            if files and files[0].name and sidecars:
                files += sidecars_of(files[0])
            digest.update(json.dumps([str(name), *map(_state, files)]).encode())
    return digest.hexdigest()


def _state(file: Path) -> list[int] | None:
    try:
        status = os.lstat(file)
    except (OSError, ValueError):  # it is not there, or there is a NUL in its name
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
