"""What becomes of rows that share a key, a content or nearly a text: Spark brings them together.

What is decided of them is said by :mod:`modelmill.datasets.deduplication`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelmill.datasets.build_record import Fates
from modelmill.datasets.dataset_rows import REASON_COLUMN
from modelmill.datasets.deduplication import (
    CLUSTER,
    COPY,
    KEPT,
    QUARANTINED,
    REASON,
    SET,
    STATE,
    decide,
    decisions_schema,
    final_column,
)
from modelmill.datasets.prepared_columns import (
    BUCKETS,
    CONTENT,
    HASH,
    IDENTITY,
    ORDER,
    ROW,
    SHIPPED,
    Preparation,
    label_column,
)
from modelmill.datasets.prepared_columns import REASON as REFUSAL
from modelmill_jobs.columns import quoted
from modelmill_jobs.near_duplicates import components, text_clusters
from modelmill_jobs.staging import Stage, Then, left_join, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ROWS_EACH = 250_000
"""Rows that one worker decides on at a time: about 150 MB."""


@dataclass(frozen=True)
class DecidedRows:
    """Prepared rows, and what was decided of those that share something."""

    stage: Stage
    plan: Preparation
    rows: DataFrame
    decisions: DataFrame
    crowded: Sequence[int]
    """Buckets of similar texts from which not all pairs were looked at."""
    decisions_name: str = "decisions"
    """Name of the decisions among the intermediate results."""

    def joined(self, *, then: Then | None = None) -> DataFrame:
        """Return the rows with the decisions, nulls where none was needed.

        :param then: what to make of the batches of that, and its columns; None: nothing.
        :return: the rows, or what was made of them.
        """
        lookup = self.stage.lookup(self.decisions_name, ROW)
        return left_join(self.rows.drop(BUCKETS), self.decisions, lookup, ROW, then=then)

    def fates(self) -> Fates:
        """Count the rows by what became of them."""
        from pyspark.sql import functions as sql

        refused = self.rows.where(sql.col(REFUSAL).isNotNull()).groupBy(REFUSAL).count().collect()
        reasons = {row[0]: int(row[1]) for row in refused}
        states: dict[str, int] = {}
        for state, reason, count in self.decisions.groupBy(STATE, REASON).count().collect():
            if reason is not None:
                reasons[reason] = reasons.get(reason, 0) + int(count)
            elif state != KEPT:
                states[state] = int(count)
        return Fates(
            rows_in=self.stage.rows("rows"),
            reasons=dict(sorted(reasons.items())),
            states=dict(sorted(states.items())),
        )

    def quarantined(self, fates: Fates) -> DataFrame:
        """Return the rows of the source that are refused, each with its reason.

        :param fates: what became of all rows.
        :return: the source's columns and the reason.
        """
        from pyspark.sql import functions as sql

        columns = [quoted(name) for name in self.plan.schema.names if name != REASON_COLUMN]
        if not fates.reasons:  # no need to read the rows
            return self.rows.select(*columns, sql.col(REFUSAL).alias(REASON_COLUMN)).limit(0)
        reason = sql.coalesce(sql.col(REFUSAL), sql.col(REASON))
        return self.joined().where(reason.isNotNull()).select(*columns, reason.alias(REASON_COLUMN))

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

    def without(self, rows: DataFrame, *, reason: str) -> DecidedRows:
        """Refuse rows that were kept.

        :param rows: some of :meth:`kept_with`.
        :param reason: why they are refused.
        :return: the same rows with other decisions.
        """
        from pyspark.sql import functions as sql

        finals = [
            self._final_label(index).alias(final_column(index))
            for index in range(len(self.plan.options.labels))
        ]
        refused = rows.select(
            ROW,
            sql.coalesce(SET, CONTENT[0]).alias(SET),
            sql.lit(QUARANTINED).alias(STATE),
            sql.lit(reason).alias(REASON),
            sql.lit(0).alias(COPY),
            *finals,
        )
        refused = self.stage.write(refused, "refused")
        others = self.decisions.join(refused.select(ROW), ROW, "left_anti")
        name = "all_decisions"
        decisions = self.stage.write(others.unionByName(refused), name)
        return replace(self, decisions=decisions, decisions_name=name)

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
    clusters, crowded = None, list[int]()
    if options.similar_texts is not None and options.text is not None:
        clusters, crowded = text_clusters(
            usable, stage, text=options.text, threshold=options.similar_texts, count=count
        )
    labels = [label_column(index) for index in range(len(options.labels))]
    slim = usable.select(ROW, HASH, ORDER, *CONTENT, *IDENTITY, SHIPPED, *labels)
    slim = _with_group(slim, clusters, stage, staged_as="edges_joined", member=CONTENT[0], group=CLUSTER)
    sets = _key_sets(slim, stage) if options.key is not None else None
    slim = _with_group(slim, sets, stage, staged_as="key_edges_joined", member=CLUSTER, group=SET)
    unique_key = options.key is not None
    schema = spark_schema(decisions_schema(plan.label_types))
    decisions = stage.by_parts(
        slim,
        SET,
        "decisions",
        lambda table: decide(table, labels, unique_key=unique_key),
        schema,
        count=count,
        each=ROWS_EACH,
    )
    return DecidedRows(stage=stage, plan=plan, rows=rows, decisions=decisions, crowded=crowded)


def _with_group(
    rows: DataFrame, groups: DataFrame | None, stage: Stage, *, staged_as: str, member: str, group: str
) -> DataFrame:
    """Add the group that each member belongs to; a member without one is a group of its own."""
    from pyspark.sql import functions as sql

    if groups is None:
        return rows.withColumn(group, sql.col(member))
    found = left_join(rows, groups, stage.lookup(staged_as, member), member)
    return found.withColumn(group, sql.coalesce(group, member))


def _key_sets(slim: DataFrame, stage: Stage) -> DataFrame | None:
    """Return the sets into which clusters fall that share a key; None if no key is shared."""
    from pyspark.sql import functions as sql

    keys = slim.groupBy(*IDENTITY).agg(sql.min(CLUSTER).alias("one"), sql.max(CLUSTER).alias("other"))
    shared = stage.write(keys.where("one != other").select(*IDENTITY, "one"), "shared_keys")
    if not stage.rows("shared_keys"):
        return None
    edges = (
        slim.select(*IDENTITY, CLUSTER)
        .join(shared, list(IDENTITY))
        .select("one", sql.col(CLUSTER).alias("other"))
    )
    edges = stage.write(edges.distinct(), "key_edges")
    return components(stage, "key_edges", edges, CLUSTER, SET)
