"""Bringing a dataset up to date from the rows that changed, without Spark, to what a full build gives.

What becomes of a row depends on its closed set alone (see :mod:`modelmill.datasets.deduplication`). So only
the rows that changed and the closed sets that they touch are decided on again. What needs more than that (a
crowded bucket, a class that loses its train rows, other options) is left to a full build.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelmill.artifacts import TableRef
from modelmill.datasets.build_record import (
    ALGORITHM,
    Build,
    Fates,
    build_metadata,
    find_build,
    recipe,
)
from modelmill.datasets.change_feed import read_changes
from modelmill.datasets.closed_sets import decide_closed_sets
from modelmill.datasets.dataset_rows import (
    KEY_COLUMN,
    SPLIT_COLUMN,
    SplitRule,
    assemble,
    dataset_schema,
    duplicate_rows,
    left_out_schema,
    original_keys,
    quarantined_rows,
)
from modelmill.datasets.deduplication import KEPT, MERGED, REASON, STATE, TWIN, decisions_schema
from modelmill.datasets.index import FullBuildNeededError, Index, closure
from modelmill.datasets.prepared_columns import (
    BUCKETS,
    HASH,
    ROW,
    SHIPPED,
    VALIDATION,
)
from modelmill.datasets.prepared_columns import REASON as REFUSAL
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.datasets.requirements import check_balance, classes_without_train_rows
from modelmill.datasets.source import source_plan
from modelmill.datasets.summary import Summary, summarise
from modelmill.errors import TableError
from modelmill.tables.commits import committed_version
from modelmill.tables.lookup import LOOKUP_ROWS, join
from modelmill.tables.opening import open_table
from modelmill.tables.reading import checked_files
from modelmill.tables.row_replacement import replace_rows
from modelmill.tables.storage import table_exists
from modelmill.tables.versions import table_states

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CHANGED = 0.2
"""Share of changed rows above which a full build is less work."""
MOST_FILES = 64
"""Files of an index above which a full build is due, which merges them."""


def update(request: BuildDatasetRequest, *, log: Callable[[str], None]) -> int | None:
    """Bring a dataset up to date with its source, if that can be done with the rows that changed.

    :param request: the source, the options and the dataset's place.
    :param log: gets a line that says why a full build is needed.
    :return: the dataset's version; None if a full build is needed.
    :raises DatasetError: if what is left is not enough to learn from; nothing is written.
    """
    if not request.options.incremental or not table_exists(request.to):
        return None
    before = committed_version(request.to, request.transaction)
    if before is not None:
        return before
    try:
        return _Update(request).run(log)
    except FullBuildNeededError as reason:
        log(f"all rows are processed, since {reason}")
        return None


@dataclass(frozen=True)
class _Side:
    """Touched rows before or after the changes, and what they contribute to the two tables."""

    rows: pa.Table
    """Prepared rows with decisions."""
    dataset: pa.Table
    quarantine: pa.Table
    duplicates: pa.Table
    summary: Summary
    reasons: Counter[str]
    states: Counter[str]
    merged: Counter[str]


class _Update:
    def __init__(self, request: BuildDatasetRequest) -> None:
        import pyarrow as pa

        self.request = request
        self.options, self.source, self.place = request.options, request.table, request.to
        self.plan, has_feed = source_plan(self.options, self.source)
        self.version = open_table(self.place).version()
        try:
            build = find_build(self.place, self.version)
        except TableError as error:
            raise FullBuildNeededError(f"the last build is damaged ({error})") from error
        if build is not None and build.algorithm != ALGORITHM:
            raise FullBuildNeededError("another version of modelmill built the dataset, by other rules")
        if (
            build is None
            or build.recipe != recipe(self.options, self.plan)
            or build.source != self.source.uri
        ):
            raise FullBuildNeededError("the dataset was not built in the same way from the same table")
        last = TableRef(uri=self.source.uri, version=build.source_version)
        if build.source_state != table_states([last])[str(last)]:
            raise FullBuildNeededError("the source is not the table that it was")
        if not has_feed:
            raise FullBuildNeededError("the source has no change data feed (delta.enableChangeDataFeed)")
        if not build.index or not build.settled or self.source.version < build.source_version:
            raise FullBuildNeededError("the last build has nothing to continue from")
        if len(build.index) > MOST_FILES or sum(file.rows for file in build.decisions) > LOOKUP_ROWS:
            raise FullBuildNeededError("the last builds left many pieces")
        self._check_whole(build)
        self.build, self.index = build, Index(self.place, build)
        self.schema = pa.schema([*self.plan.schema, *self.plan.added])
        self.rule = SplitRule(own_validation=build.own_validation)

    def _check_whole(self, build: Build) -> None:
        """Make sure that what is kept of the last build is as it was written."""
        quarantine = TableRef(uri=self.request.quarantine, version=build.quarantine_version)
        duplicates = TableRef(uri=self.request.duplicates, version=build.duplicates_version)
        try:
            for table in (TableRef(uri=self.place, version=self.version), quarantine, duplicates):
                checked_files(open_table(table.uri, version=table.version), table)
        except TableError as error:
            raise FullBuildNeededError(f"the last build is damaged ({error})") from error

    def run(self, log: Callable[[str], None]) -> int:
        """Process the changes and commit; return the version."""
        import pyarrow as pa

        if self.source.version == self.build.source_version:
            return self.version
        came, went = self._changes()
        self.index.verify()
        decisions = self.index.decisions(decisions_schema(self.plan.label_types))
        touched, gone = self._touched(came, went, decisions)
        old = self._side(touched, decisions)
        stays = ~np.isin(np.asarray(touched.column(ROW), np.int64), gone)
        new_rows = _concat(touched.filter(pa.array(stays)), came)
        fresh = decide_closed_sets(new_rows, self.plan, crowded=self.build.crowded)
        new = self._side(new_rows, fresh)
        others = decisions.filter(
            pa.array(~np.isin(np.asarray(decisions.column(ROW)), np.asarray(touched.column(ROW))))
        )
        log(
            f"{came.num_rows} rows came and {went.num_rows} went since version {self.build.source_version}; "
            f"they touch {touched.num_rows} of {self.build.fates.rows_in} rows"
        )
        return self._commit(old, new, (came, gone, _concat(others, fresh)))

    def _changes(self) -> tuple[pa.Table, pa.Table]:
        changes = read_changes(
            self.source.uri, self.plan, after=self.build.source_version, until=self.source.version
        )
        if changes is None:
            raise FullBuildNeededError("the change data feed does not reach back to the last build")
        came, went = changes
        if came.num_rows + went.num_rows > MOST_CHANGED * self.build.fates.rows_in:
            raise FullBuildNeededError("many rows have changed")
        for rows, flips in ((came, not self.rule.own_validation), (went, self.rule.own_validation)):
            if flips and VALIDATION in rows.column(SHIPPED).to_pylist():
                raise FullBuildNeededError("validation rows of the source came or went")
        if "split is unknown" in came.column(REFUSAL).to_pylist():
            raise FullBuildNeededError("a split is unknown")
        return came, went

    def _touched(self, came: pa.Table, went: pa.Table, decisions: pa.Table) -> tuple[pa.Table, np.ndarray]:
        """Return the rows of the last build that changes touch, and the ids of those that went."""
        ids = self.index.touched(came, went, unique_key=self.options.key is not None)
        touched = self.index.rows(closure(ids, decisions), self.schema)
        hashes, rows = np.asarray(touched.column(HASH)), np.asarray(touched.column(ROW))
        gone: list[int] = []
        for hash_, count in Counter(went.column(HASH).to_pylist()).items():
            same = rows[hashes == hash_][:count]
            if len(same) < count:
                raise FullBuildNeededError("a row went that the last build has not seen")
            gone.extend(int(row) for row in same)
        return touched, np.array(gone, np.int64)

    def _side(self, rows: pa.Table, decisions: pa.Table) -> _Side:
        """Return what rows with decisions contribute to the two tables."""
        import pyarrow as pa
        import pyarrow.compute as pc

        decided = join(rows.drop_columns([BUCKETS]), decisions, ROW)
        batches = decided.combine_chunks().to_batches()
        dataset = pa.Table.from_batches(
            [assemble(part, self.plan, self.rule) for part in batches], dataset_schema(self.plan)
        )
        quarantine = pa.Table.from_batches(
            [quarantined_rows(part, self.plan) for part in batches],
            left_out_schema(self.plan, of="quarantine"),
        )
        keys = original_keys(batches)
        duplicates = pa.Table.from_batches(
            [duplicate_rows(part, self.plan, keys) for part in batches],
            left_out_schema(self.plan, of="duplicates"),
        )
        labels = list(zip(self.options.labels, self.plan.kinds, strict=True))
        summary = (
            summarise(dataset, text=self.options.text, labels=labels, split=SPLIT_COLUMN)
            if dataset.num_rows
            else Summary()
        )
        refusals = pc.coalesce(decided.column(REFUSAL), decided.column(REASON))
        kept = pc.fill_null(pc.equal(decided.column(STATE), KEPT), False)
        merged = decided.column(MERGED).filter(kept)
        return _Side(
            decided,
            dataset,
            quarantine,
            duplicates,
            summary,
            reasons=Counter(refusals.drop_null().to_pylist()),
            states=Counter(decided.column(STATE).filter(pc.is_valid(decided.column(TWIN))).to_pylist()),
            merged=Counter(name for names in merged.drop_null().to_pylist() for name in json.loads(names)),
        )

    def _commit(self, old: _Side, new: _Side, changes: tuple[pa.Table, np.ndarray, pa.Table]) -> int:
        """Check the whole, and write what differs.

        ``changes`` are the rows that came, the ids of those that went, and all decisions.
        """
        before, transaction = self.build, self.request.transaction
        came, gone, _ = changes
        summary = before.summary - old.summary + new.summary
        single = [n for n, kind in zip(self.options.labels, self.plan.kinds, strict=True) if kind == "class"]
        if classes_without_train_rows(summary.classes, labels=single):
            raise FullBuildNeededError("a class has lost its train rows")
        fates = Fates(
            rows_in=before.fates.rows_in + came.num_rows - len(gone),
            reasons=_counted(before.fates.reasons, old.reasons, new.reasons),
            states=_counted(before.fates.states, old.states, new.states),
            merged=_counted(before.fates.merged, old.merged, new.merged),
        )
        check_balance(fates, summary, self.options, single=single)
        refused = self._replaced("quarantine", old.quarantine, new.quarantine)
        dropped = self._replaced("duplicates", old.duplicates, new.duplicates)
        index, files = self.index.write_next(*changes)
        build = before.model_copy(
            update={
                "source_version": self.source.version,
                "source_state": table_states([self.source])[str(self.source)],
                "mode": "incremental",
                "fates": fates,
                "summary": summary,
                "quarantine_version": refused,
                "duplicates_version": dropped,
                "index": index,
                "decisions": files,
            }
        )
        version = replace_rows(
            self.place,
            self.version,
            gone=old.dataset,
            came=new.dataset,
            transaction=transaction,
            metadata=build_metadata(build),
            key=KEY_COLUMN,
            always=True,
        )
        if version is None:
            raise FullBuildNeededError("the dataset was changed by others")
        return version

    def _replaced(self, name: str, gone: pa.Table, came: pa.Table) -> int:
        """Bring the table beside the dataset up to date; return its version."""
        version = replace_rows(
            getattr(self.request, name),
            getattr(self.build, f"{name}_version"),
            gone=gone,
            came=came,
            transaction=self.request.transaction,
            metadata={"operation": "build_dataset", "source": str(self.source)},
        )
        if version is None:
            raise FullBuildNeededError(f"the table of {name} was changed by others")
        return version


def _counted(before: dict[str, int], old: Counter[str], new: Counter[str]) -> dict[str, int]:
    counts = Counter(before)
    counts.subtract(old)
    counts.update(new)
    return {name: count for name, count in sorted(counts.items()) if count}


def _concat(*tables: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables).combine_chunks()
