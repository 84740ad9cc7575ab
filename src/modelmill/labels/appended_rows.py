"""Rows of an append-only Delta table in memory: of a newer version, only the new files are read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.tables.files import ActiveFile, path_within
from modelmill.tables.reading import read_batches

if TYPE_CHECKING:
    from deltalake import DeltaTable


class AppendedRows:
    """All rows of a table, as far as they were asked for.

    Threads may share it. A table whose files were compacted, restored or written anew is read again whole.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._files: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def of(self, table: DeltaTable | None) -> list[dict[str, Any]]:
        """Return the rows of a version.

        :param table: the table at that version; None: there is none yet.
        :return: the rows, in no order.
        :raises TableError: if a file is missing or cannot be read.
        """
        if table is None:
            return []
        import pyarrow as pa

        actions = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes", "num_records"])
        logged = actions.column("path").to_pylist()
        with self._lock:
            if not self._files.issubset(logged):
                self._files, self._rows = set(), []
            # Each label is a file: of those that are known, nothing is looked at again.
            new = [
                ActiveFile(path_within(row["path"], self._place), row["size_bytes"], row["num_records"], {})
                for row in actions.to_pylist()
                if row["path"] not in self._files
            ]
            if new:
                ref = TableRef(uri=self._place, version=table.version())
                with read_batches(table, ref, new) as batches:
                    self._rows += batches.read_all().to_pylist()
                self._files.update(logged)
            return list(self._rows)
