"""Make a dataset of a table: checked, deduplicated, split; refused rows are quarantined with their reason.

Every row of the source ends in exactly one of these states: kept, quarantined, duplicate. Rows that a shipped
test split has are kept, all of them, as long as they can be used at all: a benchmark stays standard.

What a row is by itself is said by :mod:`modelmill.datasets.preparation`; what becomes of rows that share
something by :mod:`modelmill.datasets.deduplication`. Spark brings those rows together. Results between the
passes are files, and no pass holds more than a part of the table in memory.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import TableRef
from modelmill.datasets.assembly import REASON_COLUMN, SPLIT_COLUMN, SplitRule, assemble, dataset_schema
from modelmill.datasets.build_record import ALGORITHM, INDEX, Build, Fates, index_files, recipe
from modelmill.datasets.building import build_of, find_build, source_plan
from modelmill.datasets.deduplication import (
    CLUSTER,
    COPY,
    QUARANTINED,
    REASON,
    SET,
    STATE,
    decide,
    decisions_schema,
    final_column,
)
from modelmill.datasets.index import sweep
from modelmill.datasets.options import BuildDatasetConfig
from modelmill.datasets.preparation import (
    BUCKETS,
    CONTENT,
    GROUP,
    HASH,
    IDENTITY,
    ORDER,
    ROW,
    SHIPPED,
    VALIDATION,
    label_column,
    label_type,
    prepare,
)
from modelmill.datasets.preparation import REASON as REFUSAL
from modelmill.datasets.requirements import check_balance, check_counts, lacking_classes
from modelmill.datasets.summary import Summary, summarise
from modelmill.tables.commits import DataFile, commit_files, committed_version
from modelmill.tables.reading import MANIFEST, file_digests, open_table, spark_schema_to_delta, table_location
from modelmill_jobs.delta_io import (
    checked_rows,
    make_directory,
    plain_path,
    quoted,
    read_table,
    remove_folder,
    staged,
    write_table,
)
from modelmill_jobs.near_duplicates import MOST_CROWDED, components, text_clusters
from modelmill_jobs.sessions import as_application, job_session, one_line
from modelmill_jobs.staging import Stage, Then, joined, mapped, spark_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession

ROWS_EACH = 250_000
"""Rows that one worker decides on at a time: about 150 MB."""

_SUMMED_BYTES = 8 << 20
"""Size of the batches that are summed up: a sum costs the same for few rows and for many."""

NO_TRAIN_ROWS = "class has no train rows"


def main(argv: Sequence[str] | None = None, *, spark: SparkSession | None = None) -> dict[str, Any]:
    """Run the job.

    :param argv: arguments; None: the process's own.
    :param spark: session to use; None: see :func:`modelmill.spark.session`.
    :return: ``dataset`` and ``quarantine``, each with its version, and what the ``build`` says of itself.
    :raises DatasetError: if the rows are not enough to learn from and to check on; nothing is written.
    """
    parser = argparse.ArgumentParser(description="Make a dataset of a Delta table.")
    parser.add_argument("--table", required=True, help="the source")
    parser.add_argument("--version", type=int, required=True, help="its version")
    parser.add_argument("--config", required=True, help="configuration of the component build_dataset, JSON")
    parser.add_argument("--to", required=True, help="the dataset's table")
    parser.add_argument("--quarantine", required=True, help="the table for refused rows")
    parser.add_argument("--transaction", required=True, help="id under which the result is committed once")
    job = parser.parse_args(argv)
    config = BuildDatasetConfig.model_validate_json(job.config)
    source = TableRef(uri=job.table, version=job.version)
    place = table_location(job.to)
    before = committed_version(place, job.transaction)
    if before is None:
        with job_session(spark) as session, one_line("the table must be readable", got=str(source)):
            before = _Building(session, config, source, place).run(job.quarantine, job.transaction)
    build = build_of(place, before)
    return {
        "dataset": {"uri": place, "version": before},
        "quarantine": {"uri": table_location(job.quarantine), "version": build.quarantine_version},
        "build": build.model_dump(mode="json"),
    }


class _Building:
    """One build, from the source's rows to the commit."""

    def __init__(self, spark: SparkSession, config: BuildDatasetConfig, source: TableRef, place: str) -> None:
        self.spark = spark
        self.config = config
        self.source = source
        self.place = place
        self.plan, self.has_feed = source_plan(config, source)
        self.stage = Stage(spark, place, f"{INDEX}/{uuid.uuid4().hex}")
        self.decided_as = "decisions"
        self.crowded: list[int] = []
        self.label_types = [label_type(kind) for kind in self.plan.kinds]
        self.single = [
            name for name, kind in zip(config.labels, self.plan.kinds, strict=True) if kind == "class"
        ]
        self.labels = [label_column(index) for index in range(len(config.labels))]

    def run(self, quarantine: str, transaction: str) -> int:
        """Build and commit; return the version."""
        made = make_directory(self.place)
        keep = False
        try:
            version, keep = self._run(quarantine, transaction)
        except BaseException:
            remove_folder(self.place, INDEX if made else self.stage.folder, made=made)
            raise
        if not keep:
            remove_folder(self.place, self.stage.folder)
        newest = find_build(self.place, open_table(self.place).version())
        if newest is not None:
            sweep(self.place, newest, own=self.stage.folder)
        return version

    def _run(self, quarantine: str, transaction: str) -> tuple[int, bool]:
        raw = read_table(self.spark, self.source)
        rows = self.stage.write(self._prepared(raw), "rows")
        counts = _refused_and_shipped(rows)
        check_counts(counts, self.config, self.source, splits=lambda: self._unknown_splits(rows))
        own_validation = any(reason is None and split == VALIDATION for reason, split in counts)
        decisions = self._decided(rows)
        rule = SplitRule(own_validation=own_validation)
        with staged(self._assembled(rows, decisions, rule), self.place) as first:
            summary = self._summary(first)
            lacking = lacking_classes(summary.classes, labels=self.single)
            hopeless = self.config.split.column is None and not summary.splits.get("train")
            if not lacking or own_validation or hopeless:
                return self._commit(
                    raw, rows, decisions, rule, summary, first, quarantine, transaction, settled=True
                )
        remove_folder(self.place, _folder(first))
        rule, decisions = self._with_train_rows(rows, decisions, rule, lacking)
        with staged(self._assembled(rows, decisions, rule), self.place) as second:
            summary = self._summary(second)
            return self._commit(
                raw, rows, decisions, rule, summary, second, quarantine, transaction, settled=False
            )

    def _prepared(self, raw: DataFrame) -> DataFrame:
        from pyspark.sql.types import StructType

        plan = self.plan

        def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
            return (prepare(batch, plan) for batch in batches)

        added = spark_schema(plan.added)
        return mapped(raw, on_batches, StructType([*raw.schema.fields, *added.fields]))

    def _unknown_splits(self, rows: DataFrame) -> list[str]:
        from pyspark.sql import functions as sql

        name = quoted(self.config.split.column or "").cast("string")
        found = rows.where(sql.col(REFUSAL) == "split is unknown").select(name).distinct().limit(5)
        return [str(row[0]) for row in found.collect()]

    def _decided(self, rows: DataFrame) -> DataFrame:
        """Decide on rows that share something."""
        from pyspark.sql import functions as sql

        usable = rows.where(sql.col(REFUSAL).isNull())
        count = self.stage.rows("rows")
        clusters = None
        if self.config.similar_texts is not None and self.config.text is not None:
            clusters, self.crowded = text_clusters(
                usable, self.stage, text=self.config.text, threshold=self.config.similar_texts, count=count
            )
        slim = usable.select(ROW, HASH, ORDER, *CONTENT, *IDENTITY, SHIPPED, *self.labels)
        slim = self._grouped(slim, clusters, "edges_joined", CONTENT[0], CLUSTER)
        slim = self._grouped(slim, self._sets(slim), "key_edges_joined", CLUSTER, SET)
        unique_key, labels = self.config.key is not None, self.labels
        schema = spark_schema(decisions_schema(self.label_types))
        return self.stage.by_parts(
            slim,
            SET,
            "decisions",
            lambda table: decide(table, labels, unique_key=unique_key),
            schema,
            count=count,
            each=ROWS_EACH,
        )

    def _grouped(
        self, rows: DataFrame, groups: DataFrame | None, staged_as: str, member: str, name: str
    ) -> DataFrame:
        """Add a column that says to which group a member belongs; alone, it is a group of its own."""
        from pyspark.sql import functions as sql

        if groups is None:
            return rows.withColumn(name, sql.col(member))
        found = joined(rows, groups, self.stage.lookup(staged_as, member), member)
        return found.withColumn(name, sql.coalesce(name, member))

    def _sets(self, slim: DataFrame) -> DataFrame | None:
        """Return the sets into which clusters fall that share a key; None if no key is shared."""
        from pyspark.sql import functions as sql

        if self.config.key is None:
            return None
        keys = slim.groupBy(*IDENTITY).agg(sql.min(CLUSTER).alias("one"), sql.max(CLUSTER).alias("other"))
        shared = self.stage.write(keys.where("one != other").select(*IDENTITY, "one"), "shared_keys")
        if not self.stage.rows("shared_keys"):
            return None
        edges = (
            slim.select(*IDENTITY, CLUSTER)
            .join(shared, list(IDENTITY))
            .select("one", sql.col(CLUSTER).alias("other"))
        )
        edges = self.stage.write(edges.distinct(), "key_edges")
        return components(self.stage, "key_edges", edges, CLUSTER, SET)

    def _assembled(self, rows: DataFrame, decisions: DataFrame, rule: SplitRule) -> DataFrame:
        plan = self.plan
        schema = spark_schema(dataset_schema(plan))
        return self._told(rows, decisions, then=(lambda batch: assemble(batch, plan, rule), schema))

    def _told(self, rows: DataFrame, decisions: DataFrame, *, then: Then | None = None) -> DataFrame:
        """Return prepared rows with what was decided of them, or what ``then`` makes of that."""
        lookup = self.stage.lookup(self.decided_as, ROW)
        return joined(rows.drop(BUCKETS), decisions, lookup, ROW, then=then)

    def _quarantined(
        self, rows: DataFrame, decisions: DataFrame, names: Sequence[str], *, any_: bool
    ) -> DataFrame:
        from pyspark.sql import functions as sql

        columns = [quoted(name) for name in names if name != REASON_COLUMN]
        if not any_:  # no need to read the rows
            return rows.select(*columns, sql.col(REFUSAL).alias(REASON_COLUMN)).limit(0)
        reason = sql.coalesce(sql.col(REFUSAL), sql.col(REASON))
        told = self._told(rows, decisions)
        return told.where(reason.isNotNull()).select(*columns, reason.alias(REASON_COLUMN))

    def _summary(self, files: Sequence[DataFile]) -> Summary:
        """Sum up what was staged."""
        if not files:
            return Summary()
        plan, config = self.plan, self.config
        labels = list(zip(config.labels, plan.kinds, strict=True))

        def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
            import pyarrow as pa

            total = Summary()
            for batch in batches:
                total += summarise(batch, text=config.text, labels=labels, split=SPLIT_COLUMN)
            yield pa.RecordBatch.from_pydict({"summary": [total.model_dump_json()]})

        written = self.spark.read.schema(spark_schema(dataset_schema(plan))).parquet(
            plain_path(f"{self.place}/{_folder(files)}")
        )
        parts = mapped(written, on_batches, "summary string", bytes_each=_SUMMED_BYTES).collect()
        return sum((Summary.model_validate_json(part[0]) for part in parts), Summary())

    def _with_train_rows(
        self, rows: DataFrame, decisions: DataFrame, rule: SplitRule, lacking: dict[str, list[str]]
    ) -> tuple[SplitRule, DataFrame]:
        """Give classes their train rows back that were carved out; refuse rows of others that have none."""
        from pyspark.sql import functions as sql

        told = self._told(rows, decisions).where(
            sql.col(REFUSAL).isNull() & (sql.coalesce(sql.col(STATE), sql.lit("kept")) == "kept")
        )
        rare = sql.lit(False)
        finals = []
        for index, name in enumerate(self.config.labels):
            label = sql.when(sql.col(STATE).isNotNull(), sql.col(final_column(index))).otherwise(
                sql.col(self.labels[index])
            )
            finals.append(label.alias(final_column(index)))
            if name in lacking:
                rare = rare | sql.coalesce(label.isin(lacking[name]), sql.lit(False))
        found = told.where(rare)
        if self.config.split.column is not None:
            groups = found.where(sql.col(SHIPPED) == 0).select(GROUP).distinct().collect()
            return SplitRule(rule.own_validation, frozenset(int(row[0]) for row in groups)), decisions
        refused = found.select(
            ROW,
            sql.coalesce(SET, CONTENT[0]).alias(SET),
            sql.lit(QUARANTINED).alias(STATE),
            sql.lit(NO_TRAIN_ROWS).alias(REASON),
            sql.lit(0).alias(COPY),
            *finals,
        )
        refused = self.stage.write(refused, "refused")
        others = decisions.join(refused.select(ROW), ROW, "left_anti")
        self.decided_as = "all_decisions"
        return rule, self.stage.write(others.unionByName(refused), self.decided_as)

    def _commit(
        self,
        raw: DataFrame,
        rows: DataFrame,
        decisions: DataFrame,
        rule: SplitRule,
        summary: Summary,
        files: Sequence[DataFile],
        quarantine: str,
        transaction: str,
        *,
        settled: bool,
    ) -> tuple[int, bool]:
        """Check the whole, and write both tables; return the version, and whether the index stays."""
        fates = _fates(rows, decisions, self.stage.rows("rows"))
        check_balance(fates, summary, self.config, single=self.single)
        about = {"operation": "build_dataset", "source": str(self.source)}
        refused, count = write_table(
            self._quarantined(rows, decisions, raw.columns, any_=bool(fates.reasons)),
            quarantine,
            mode="overwrite",
            transaction=transaction,
            metadata=about,
        )
        checked_rows(sum(fates.reasons.values()), count, what=quarantine)
        settled = settled and len(self.crowded) <= MOST_CROWDED
        index = self.config.incremental and self.has_feed and settled
        build = Build(
            source=self.source.uri,
            source_version=self.source.version,
            algorithm=ALGORITHM,
            recipe=recipe(self.config, self.plan),
            mode="full",
            own_validation=rule.own_validation,
            settled=settled,
            crowded=tuple(self.crowded) if settled else (),
            fates=fates,
            summary=summary,
            quarantine_version=refused.version,
            index=index_files(self.place, self.stage.files("rows")) if index else (),
            decisions=index_files(self.place, self.stage.files("decisions")) if index else (),
        )
        version = commit_files(
            self.place,
            files,
            schema=spark_schema_to_delta(spark_schema(dataset_schema(self.plan)).json()),
            mode="overwrite",
            transaction=transaction,
            metadata={
                "rows": summary.rows,
                "build": build.model_dump(mode="json"),
                MANIFEST: file_digests(self.place, [file.path for file in files]),
            },
        )
        return version, index


def _folder(files: Sequence[DataFile]) -> str:
    return files[0].path.rpartition("/")[0]


def _refused_and_shipped(rows: DataFrame) -> dict[tuple[str | None, int | None], int]:
    """Count rows by the reason of their refusal and by the split that they came with."""
    return {(row[0], row[1]): int(row[2]) for row in rows.groupBy(REFUSAL, SHIPPED).count().collect()}


def _fates(rows: DataFrame, decisions: DataFrame, rows_in: int) -> Fates:
    from pyspark.sql import functions as sql

    reasons = {
        row[0]: int(row[1])
        for row in rows.where(sql.col(REFUSAL).isNotNull()).groupBy(REFUSAL).count().collect()
    }
    states: dict[str, int] = {}
    for state, reason, count in decisions.groupBy(STATE, REASON).count().collect():
        if reason is not None:
            reasons[reason] = reasons.get(reason, 0) + int(count)
        elif state != "kept":
            states[state] = int(count)
    return Fates(rows_in=rows_in, reasons=dict(sorted(reasons.items())), states=dict(sorted(states.items())))


if __name__ == "__main__":
    as_application(main)
