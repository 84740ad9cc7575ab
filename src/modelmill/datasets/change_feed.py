"""What changed in a table between two versions, read from its change data feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelmill.datasets.preparation import prepare
from modelmill.datasets.prepared_columns import HASH, Preparation
from modelmill.errors import TableError
from modelmill.tables.files import COMMIT_KEY, MANIFEST, commit_actions, file_digests
from modelmill.tables.opening import open_table
from modelmill.tables.row_hash import matched
from modelmill.tables.storage import table_files, table_location

if TYPE_CHECKING:
    import pyarrow as pa

_TYPE = "_change_type"
_GONE = ("delete", "update_preimage")


def read_changes(uri: str, plan: Preparation, *, after: int, until: int) -> tuple[pa.Table, pa.Table] | None:
    """Return the rows that came and the rows that went, prepared.

    A row that came and went again, or went and came again unchanged, is in neither.

    :param uri: the table.
    :param plan: how rows are prepared.
    :param after: version after which changes count.
    :param until: version until which they count, inclusive.
    :return: both, with the table's columns and the prepared ones; None if the feed does not reach back.
    :raises TableError: see :func:`~modelmill.tables.opening.open_table`; or if a file that one of our commits
        has added is not as it was written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from deltalake.exceptions import DeltaError

    table = open_table(uri, version=until)
    _check_files(table_location(uri), after=after, until=until)
    try:
        feed = pa.table(table.load_cdf(starting_version=after + 1, ending_version=until).read_all())
    except (DeltaError, OSError, ValueError, pa.ArrowException):
        return None  # cleaned up, or switched on later
    gone = pc.is_in(feed.column(_TYPE).cast(pa.string()), value_set=pa.array(_GONE))
    rows = feed.select(plan.schema.names).cast(plan.schema)
    came, went = _prepared(rows.filter(pc.invert(gone)), plan), _prepared(rows.filter(gone), plan)
    both = _in_both(came, went)
    return came.filter(pa.array(~both[0])), went.filter(pa.array(~both[1]))


def _check_files(place: str, *, after: int, until: int) -> None:
    """Compare the files that came with what their commits say: the feed's reader does not look at digests.

    Rows that went are compared with those of the last build, so that their files need no look.
    """
    for version in range(after + 1, until + 1):
        for action in commit_actions(place, version) or ():
            named = (action.get("commitInfo", {}).get(COMMIT_KEY) or {}).get(MANIFEST) or {}
            files = table_files(place).get_file_info([*named]) if named else []
            there = [info.path for info in files if info.is_file]  # one may have been cleaned up
            for path, digest in file_digests(place, there).items():
                if digest != named[path]:
                    raise TableError(
                        f"a file of the table must be as it was written ({place}@{version})",
                        got=path,
                        remedy="restore it from a copy",
                    )


def _prepared(rows: pa.Table, plan: Preparation) -> pa.Table:
    import pyarrow as pa

    batches = [prepare(batch, plan) for batch in rows.to_batches(max_chunksize=8192) if batch.num_rows]
    schema = pa.schema([*plan.schema, *plan.added])
    return pa.Table.from_batches(batches, schema).combine_chunks() if batches else schema.empty_table()


def _in_both(one: pa.Table, other: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows cancel each other out: copies are counted."""
    first, second = (np.asarray(table.column(HASH), np.int64) for table in (one, other))
    return matched(first, second), matched(second, first)
