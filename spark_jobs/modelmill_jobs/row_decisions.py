"""What becomes of rows that share a key, a content or nearly a text: Spark brings them together.

What is decided of them is said by :mod:`modelmill.datasets.deduplication`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelmill.datasets.build_record import Fates
from modelmill.datasets.dataset_rows import (
    duplicate_rows,
    left_out_schema,
    quarantined_rows,
)
from modelmill.datasets.deduplication import (
    CLUSTER,
    KEPT,
    MERGED,
    REASON,
    SET,
    STATE,
    decide,
    decisions_schema,
    final_column,
)
from modelmill.datasets.near_copies import NearPairs
from modelmill.datasets.prepared_columns import (
    BUCKETS,
    CONTENT,
    HASH,
    IDENTITY,
    KEY,
    ORDER,
    ROW,
    SHIPPED,
    Preparation,
    label_column,
)
from modelmill.datasets.prepared_columns import REASON as REFUSAL
from modelmill.tables.lookup import Lookup
from modelmill_jobs.columns import quoted
from modelmill_jobs.near_duplicates import StagedPairs, components, near_pairs, text_clusters
from modelmill_jobs.staging import Stage, Then, join, read_batches, spark_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

LeftOut = Literal["quarantine", "duplicates"]
"""Tables beside a dataset."""

ROWS_EACH = 250_000
"""Rows that one worker decides on at a time: about 150 MB."""
KEYS_EACH = 3_500_000
"""Keys that one worker sorts at a time: about 150 MB."""


@dataclass(frozen=True)
class DecidedRows:
    """Prepared rows, and what was decided of those that share something."""

    stage: Stage
    plan: Preparation
    rows: DataFrame
    slim: DataFrame
    """The columns of usable rows that are decided by."""
    pairs: StagedPairs | None
    """The pairs of nearly equal texts; None if there are none."""
    crowded: Sequence[int]
    """Buckets of similar texts from which not all pairs were looked at."""
    refused: tuple[DataFrame, ...] = ()
    """Contents of classes without train rows, staged as ``refused0`` and so on."""

    @property
    def decisions_name(self) -> str:
        """Name of the decisions among the intermediate results."""
        return f"decisions{len(self.refused) or ''}"

    @cached_property
    def decisions(self) -> DataFrame:
        """The decisions on rows that share something, or are refused."""
        plan, pairs, place = self.plan, self.pairs, self.stage.place
        names = [f"refused{number}" for number in range(len(self.refused))]
        refused = [file.path for name in names for file in self.stage.files(name)]

        def on_part(table: pa.Table) -> pa.Table:
            contents = np.asarray(table.column(CONTENT[0]), np.int64)
            near = NearPairs.none() if pairs is None else pairs.among(contents)
            compare = None if pairs is None else pairs.compare
            known = [np.asarray(batch.column(0)) for batch in read_batches(place, refused)]
            out = np.concatenate(known) if known else None
            return decide(table, plan, near, compare, refused=out)

        schema, count = spark_schema(decisions_schema(plan.label_types)), self.stage.rows("rows")
        return self.stage.by_parts(
            self.slim, SET, self.decisions_name, on_part, schema, count=count, each=ROWS_EACH
        )

    def joined(self, *, then: Then | None = None) -> DataFrame:
        """Return the rows with the decisions, nulls where none was needed.

        :param then: what to make of the batches of that, and its columns; None: nothing.
        :return: the rows, or what was made of them.
        """
        decisions, lookup = self.decisions, self.stage.lookup(self.decisions_name, ROW)
        return join(self.rows.drop(BUCKETS), decisions, lookup, ROW, then=then)

    def fates(self) -> Fates:
        """Count the rows by what became of them."""
        from pyspark.sql import functions as sql

        refused = self.rows.where(sql.col(REFUSAL).isNotNull()).groupBy(REFUSAL).count().collect()
        reasons = {row[0]: int(row[1]) for row in refused}
        states: dict[str, int] = {}
        merged: Counter[str] = Counter()
        for state, reason, done, count in self.decisions.groupBy(STATE, REASON, MERGED).count().collect():
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) + int(count)
            elif state != KEPT:
                states[state] = states.get(state, 0) + int(count)
            elif done is not None:
                merged.update(dict.fromkeys(json.loads(done), int(count)))
        return Fates(
            rows_in=self.stage.rows("rows"),
            reasons=dict(sorted(reasons.items())),
            states=dict(sorted(states.items())),
            merged=dict(sorted(merged.items())),
        )

    def left_out(self, of: LeftOut, fates: Fates) -> tuple[DataFrame | None, StructType]:
        """Return the rows of the source that are not in the dataset: one pass over all rows for each table.

        :param of: ``quarantine``: the rows that are quarantined, each with its reason; ``duplicates``: those
            that another row stands for, with its key.
        :param fates: what became of all rows.
        :return: the rows, None if there are none; and their columns.
        """
        from pyspark.sql.types import StructType

        plan = self.plan
        rows = self.rows.select(*(quoted(name) for name in (*plan.schema.names, KEY, ROW, REFUSAL)))
        own = spark_schema(left_out_schema(plan, of=of))
        source = [rows.schema[name] for name in own.names if name in plan.schema.names]
        schema = StructType([*source, *own.fields[len(source) :]])
        decisions, lookup = self.decisions, self.stage.lookup(self.decisions_name, ROW)
        if of == "quarantine":
            told = (lambda batch: quarantined_rows(batch, plan)), schema
            return (join(rows, decisions, lookup, ROW, then=told) if fates.reasons else None), schema
        if not fates.states:
            return None, schema
        originals = self._originals()
        told = (lambda batch: duplicate_rows(batch, plan, (originals.keys(), originals.values(KEY)))), schema
        return join(rows, decisions, lookup, ROW, inner=True, then=told), schema

    def _originals(self) -> Lookup:
        """Return the keys of the rows that were decided on: some stand for others."""
        from pyspark.sql.types import StructType

        rows = self.rows.select(ROW, KEY)
        keys = (lambda batch: batch.select([ROW, KEY])), StructType(rows.schema.fields)
        lookup = self.stage.lookup(self.decisions_name, ROW)
        self.stage.write(join(rows, self.decisions, lookup, ROW, inner=True, then=keys), "originals")
        return Lookup(self.stage.place, tuple(file.path for file in self.stage.files("originals")), ROW)

    def kept_with(self, labels: Mapping[str, Collection[str]]) -> DataFrame:
        """Return the rows that are kept and have one of some labels, with their final labels.

        :param labels: labels to look for, by label column.
        :return: rows with decisions.
        """
        from pyspark.sql import functions as sql

        kept = sql.col(REFUSAL).isNull() & (sql.coalesce(sql.col(STATE), sql.lit(KEPT)) == KEPT)
        wanted = sql.lit(False)
        for index, name in enumerate(self.plan.options.labels):
            if name in labels:
                found = self._final_label(index).isin(list(labels[name]))
                wanted = wanted | sql.coalesce(found, sql.lit(False))
        return self.joined().where(kept).where(wanted)

    def refusing(self, rows: DataFrame) -> DecidedRows:
        """Quarantine rows whose class has no train rows, and decide again: they stand for no others.

        :param rows: some of :meth:`kept_with`.
        :return: the same rows with other decisions.
        """
        name = f"refused{len(self.refused)}"
        contents = self.stage.write(rows.select(CONTENT[0]).distinct(), name)
        return replace(self, refused=(*self.refused, contents))

    def _final_label(self, index: int) -> Column:
        from pyspark.sql import functions as sql

        decided = sql.col(final_column(index))
        return sql.when(sql.col(STATE).isNotNull(), decided).otherwise(sql.col(label_column(index)))


def decided_rows(rows: DataFrame, stage: Stage, plan: Preparation) -> DecidedRows:
    """Decide on rows that share something.

    :param rows: prepared rows, staged as ``rows``.
    :param stage: for intermediate results.
    :param plan: how they were prepared.
    :return: the rows with the decisions.
    """
    from pyspark.sql import functions as sql

    options = plan.options
    usable = rows.where(sql.col(REFUSAL).isNull())
    count = stage.rows("rows")
    pairs, crowded = None, list[int]()
    if options.similar_texts is not None and options.text is not None:
        pairs, crowded = near_pairs(
            usable, stage, text=options.text, threshold=options.similar_texts, count=count
        )
    clusters = text_clusters(stage) if pairs is not None else None
    clustered = {"staged_as": "edges_joined", "member": CONTENT[0], "group": CLUSTER}
    sets = None
    if options.key is not None:
        keys = _with_group(usable.select(*IDENTITY, CONTENT[0]), clusters, stage, **clustered)
        sets = _key_sets(keys.select(*IDENTITY, CLUSTER), stage)
    labels = [label_column(index) for index in range(len(options.labels))]
    slim = usable.select(ROW, HASH, ORDER, *CONTENT, *IDENTITY, SHIPPED, *labels)
    slim = _with_group(slim, clusters, stage, **clustered)
    slim = _with_group(slim, sets, stage, staged_as="key_edges_joined", member=CLUSTER, group=SET)
    return DecidedRows(stage=stage, plan=plan, rows=rows, slim=slim, pairs=pairs, crowded=crowded)


def _with_group(
    rows: DataFrame, groups: DataFrame | None, stage: Stage, *, staged_as: str, member: str, group: str
) -> DataFrame:
    """Add the group that each member belongs to; a member without one is a group of its own."""
    from pyspark.sql import functions as sql

    if groups is None:
        return rows.withColumn(group, sql.col(member))
    found = join(rows, groups, stage.lookup(staged_as, member), member)
    return found.withColumn(group, sql.coalesce(group, member))


def _key_sets(keys: DataFrame, stage: Stage) -> DataFrame | None:
    """Return the sets into which clusters fall that share a key; None if no key is shared."""
    count = stage.rows("rows")
    edges = stage.by_parts(
        keys, IDENTITY[0], "key_edges", _key_edges, "one bigint, other bigint", count=count, each=KEYS_EACH
    )
    if not stage.rows("key_edges"):
        return None
    return components(stage, "key_edges", edges, CLUSTER, SET)


def _key_edges(rows: pa.Table) -> pa.Table:
    """Return the smallest cluster of each key with each other one."""
    import pyarrow as pa

    key, more, cluster = (rows.column(name).to_numpy() for name in (*IDENTITY, CLUSTER))
    order = np.argsort(key)
    same = np.flatnonzero(key[order[1:]] == key[order[:-1]])
    shared = order[np.unique(np.concatenate([same, same + 1]))]
    shared = shared[np.lexsort((cluster[shared], more[shared], key[shared]))]
    key, more, cluster = key[shared], more[shared], cluster[shared]
    begins = np.ones(len(shared), bool)
    begins[1:] = (key[1:] != key[:-1]) | (more[1:] != more[:-1])
    smallest = cluster[begins][np.cumsum(begins) - 1]
    fresh = np.ones(len(shared), bool)
    fresh[1:] = begins[1:] | (cluster[1:] != cluster[:-1])
    chosen = fresh & (cluster != smallest)
    return pa.table({"one": smallest[chosen], "other": cluster[chosen]})
