"""A Delta table at its newest version, opened again only when there is a newer one.

To open a table is to read its log from the last checkpoint on. Of a table on a local disk two looks at the
log's folder tell that nothing was committed since: the commit that was the last is the same file, and there
is none behind it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.tables.opening import open_table
from modelmill.tables.storage import is_local, table_exists

if TYPE_CHECKING:
    from deltalake import DeltaTable

_Mark = tuple[int, int, int]


class NewestTable:
    """A table that is asked for again and again. Threads may share it, and what it returns.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._table: DeltaTable | None = None
        self._mark: _Mark | None = None

    def opened(self) -> DeltaTable | None:
        """Return the table at its newest version; None if there is none.

        :return: the table, not to be changed by whoever gets it.
        :raises TableError: see :func:`~modelmill.tables.opening.open_table`.
        """
        with self._lock:
            known, mark = self._table, self._mark
            if known is not None and mark is not None and mark == _last_commit(self._place, known.version()):
                return known
            self._table = open_table(self._place) if table_exists(self._place) else None
            self._mark = None if self._table is None else _last_commit(self._place, self._table.version())
            return self._table


def _last_commit(place: str, version: int) -> _Mark | None:
    """Return what tells a commit's file from others; None: it is not the last, or not on a local disk."""
    if not is_local(place):
        return None
    log = Path(place, "_delta_log")
    try:
        state = (log / f"{version:020}.json").stat()
    except OSError:  # cleared away behind a checkpoint, or gone with the table
        return None
    is_last = not (log / f"{version + 1:020}.json").exists()
    return (state.st_ino, state.st_mtime_ns, state.st_size) if is_last else None
