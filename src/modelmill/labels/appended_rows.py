"""Rows of an append-only Delta table in memory: of a newer version, only the new files are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.tables.files import ActiveFile, logged_files, path_within
from modelmill.tables.reading import check_new_files, check_rows, read_batches

if TYPE_CHECKING:
    from deltalake import DeltaTable


class AppendedRows:
    """The rows of a table, each of them handed out once, to one reader.

    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._table = ""
        self._version = -1
        self._files: set[str] = set()

    def fresh(self, table: DeltaTable | None) -> list[dict[str, Any]] | None:
        """Return the rows that were not handed out yet.

        :param table: the table at some version; None: there is none yet.
        :return: the rows, in no order; none of a version before one that was seen. None: files that were
            handed out are no longer in the table, which was compacted, restored or made anew; the reader
            begins again with another object.
        :raises TableError: if a new file is missing or damaged.
        """
        if table is None:
            return None if self._files else []
        made = str(table.metadata().id)
        if made == self._table and table.version() <= self._version:
            return []
        actions = logged_files(table).select(["path", "size_bytes", "num_records"])
        logged = actions.column("path").to_pylist()
        if not self._files.issubset(logged):
            return None
        # Each label is a file: of those that are known, nothing is looked at again.
        places = [place for place, path in enumerate(logged) if path not in self._files]
        new = [
            ActiveFile(path_within(row["path"], self._place), row["size_bytes"], row["num_records"], {})
            for row in actions.take(places).to_pylist()
        ]
        rows: list[dict[str, Any]] = []
        if new:
            ref = TableRef(uri=self._place, version=table.version())
            check_new_files(table, ref, new, since=self._version if made == self._table else -1)
            with read_batches(table, ref, new) as batches:
                rows = batches.read_all().to_pylist()
            check_rows(len(rows), table, new, shown=str(ref))
        self._files.update(logged)
        self._table, self._version = made, table.version()
        return rows
