"""The tables that jobs over videos grow: a video's rows stand in them once, whatever is killed or doubled.

A video is known by its key, its digest and a recipe: a hash of the task, its options, its path and the
columns that are carried along; in the quarantine also of the limits. What has its rows already is not worked
on again; rows of videos that are gone or have changed are taken out at the end of a run.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.errors import TransientError
from modelmill.tables.commits import commit_files
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.opening import open_table, transaction_version
from modelmill.tables.reading import read_arrow, scan_arrow
from modelmill.tables.row_replacement import replace_rows
from modelmill.tables.storage import table_exists
from modelmill.tables.versions import resolve_table

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

IDENTITY = ("key", "digest", "recipe")
_OWN = 5
"""Columns by which a job's table is known: those that all have, and the first of the job's own."""
_APPLICATION = "modelmill-videos"
"""Id that every commit of rows settles: of two writers upon one version, one is told to look again."""

Identity = tuple[str, str | None, str]


@dataclass(frozen=True)
class VideoTable:
    """A table that holds rows of videos.

    :param place: where it is, or will be.
    :param schema: its columns, :data:`IDENTITY` among them.
    """

    place: str
    schema: pa.Schema

    def begin(self, *, transaction: str) -> None:
        """Make the table if there is none. One that the same job made with other columns begins anew.

        Other columns are carried along, or another version measures more: no row that is there has them, and
        all videos are worked on again in any case, since the recipe is another one. Older versions of the
        table stay readable, as those of any table do.

        :param transaction: id under which that is committed once.
        :raises TableError: if the table is of another job; nothing is written.
        """
        from deltalake import Schema

        wanted = Schema.from_arrow(self.schema)
        table = open_table(self.place) if table_exists(self.place) else None
        found = wanted if table is None else table.schema()
        if (
            table is not None
            and found != wanted
            and [field.name for field in found.fields[:_OWN]] == self.schema.names[:_OWN]
        ):
            digest = hashlib.sha256(wanted.to_json().encode()).hexdigest()[:16]
            commit_files(
                self.place,
                [],
                schema=wanted,
                mode="overwrite",
                transaction=f"{transaction}-columns-{digest}-at-{table.version()}",
                metadata={"operation": "begun anew with other columns"},
            )
        self.append(self.schema.empty_table())

    def identities(self) -> set[Identity]:
        """Return the videos that have rows."""
        if not table_exists(self.place):
            return set()
        return _identities(read_arrow(resolve_table(self.place), columns=IDENTITY))

    def append(self, rows: pa.Table) -> bool:
        """Append the rows of some videos, save those that have rows already.

        :param rows: all the rows of each video, with the columns of the schema.
        :return: whether anything was added; an empty table is made if there is none.
        """
        propose = functools.partial(_missing, rows, self.place)
        return append_if(self.place, propose, schema=self.schema)

    def keep_only(self, wanted: set[Identity], *, transaction: str) -> TableRef:
        """Take out the rows of all other videos.

        :param wanted: the videos that stay.
        :param transaction: id under which that is committed once.
        :return: the table at its newest version.
        :raises TransientError: if another writer was faster.
        """
        newest = resolve_table(self.place)
        stale = self.identities() - wanted
        if not stale:
            return newest
        version = replace_rows(
            self.place,
            newest.version,
            gone=self._rows_of(newest, stale),
            came=self.schema.empty_table(),
            transaction=f"{transaction}-without-{len(stale)}-at-{newest.version}",
            metadata={"operation": "videos that are gone or have changed", "videos": len(stale)},
            key="key",
        )
        if version is None:
            raise TransientError("another writer was faster", got=self.place, remedy="try again")
        return TableRef(uri=self.place, version=version)

    def _rows_of(self, table: TableRef, videos: set[Identity]) -> pa.Table:
        import pyarrow as pa

        found = []
        for batch in scan_arrow(table, columns=self.schema.names, batch_rows=4096):
            mask = [row in videos for row in _rows(batch)]
            if any(mask):
                found.append(batch.filter(pa.array(mask)).cast(self.schema))
        return pa.Table.from_batches(found, schema=self.schema)


def _missing(rows: pa.Table, place: str, table: DeltaTable | None) -> Proposal | None:
    """Propose the rows of the videos that the table does not have."""
    import pyarrow as pa

    if table is None:
        return Proposal(rows if rows.num_rows else None, {_APPLICATION: 1})
    known = _identities(read_arrow(TableRef(uri=place, version=table.version()), columns=IDENTITY))
    new = rows.filter(pa.array([row not in known for row in _rows(rows)], pa.bool_()))
    if not new.num_rows:
        return None
    return Proposal(new, {_APPLICATION: (transaction_version(table, _APPLICATION) or 0) + 1})


def _rows(rows: pa.Table | pa.RecordBatch) -> Iterable[Identity]:
    columns: list[list[Any]] = [rows.column(name).to_pylist() for name in IDENTITY]
    return zip(*columns, strict=True)


def _identities(rows: pa.Table) -> set[Identity]:
    return set(_rows(rows))
