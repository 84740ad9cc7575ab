"""Make a dataset of a table: checked, deduplicated, split; refused rows are quarantined with their reason.

Every row of the source ends in exactly one of these states: kept, quarantined, duplicate. Rows that a shipped
test split has are kept, all of them, as long as they can be used at all: a benchmark stays standard.

Each row by itself is the work of :mod:`modelmill.datasets.preparation`, rows that share something are that of
:mod:`modelmill_jobs.row_decisions`. Results between the passes are files, and no pass holds more
than a part of the table in memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.datasets.build_record import (
    ALGORITHM,
    INDEX,
    Build,
    build_metadata,
    find_build,
    index_files,
    recipe,
)
from modelmill.datasets.dataset_rows import SPLIT_COLUMN, SplitRule, assemble, dataset_schema
from modelmill.datasets.index import sweep
from modelmill.datasets.preparation import prepare
from modelmill.datasets.prepared_columns import GROUP, SHIPPED, VALIDATION
from modelmill.datasets.prepared_columns import REASON as REFUSAL
from modelmill.datasets.request import BuildDatasetRequest, BuildDatasetResult
from modelmill.datasets.requirements import check_balance, check_counts, classes_without_train_rows
from modelmill.datasets.source import source_plan
from modelmill.datasets.summary import Summary, summarise
from modelmill.jobs import run_as_application
from modelmill.tables.commits import commit_files, committed_version
from modelmill.tables.opening import open_table
from modelmill.tables.staged_files import DataFile
from modelmill.tables.versions import table_states
from modelmill.tables.write_checks import spark_schema_to_delta
from modelmill.workspace import report
from modelmill_jobs.columns import quoted
from modelmill_jobs.engine_errors import as_input_error
from modelmill_jobs.near_duplicates import MOST_CROWDED
from modelmill_jobs.paths import plain_path
from modelmill_jobs.reading import read_table
from modelmill_jobs.row_decisions import DecidedRows, decided_rows
from modelmill_jobs.staging import Stage, map_batches, spark_schema
from modelmill_jobs.writing import checked_rows, make_directory, remove_folder, staged, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

_SUMMED_BYTES = 8 << 20
"""Size of the batches that are summed up: a sum costs the same for few rows and for many."""


def main(request: BuildDatasetRequest, spark: SparkSession) -> BuildDatasetResult:
    """Build a dataset of all rows of its source.

    :param request: the source, the options and the place.
    :param spark: session to use.
    :return: the dataset and the quarantined rows.
    :raises DatasetError: if the rows are not enough to learn from and to check on; nothing is written.
    """
    version = committed_version(request.to, request.transaction)
    if version is None:
        with as_input_error("the table must be readable", got=str(request.table)):
            version = _Building(request, spark).run()
    return request.result(version)


class _Building:
    """One build, from the source's rows to the commit."""

    def __init__(self, request: BuildDatasetRequest, spark: SparkSession) -> None:
        self.request = request
        self.spark = spark
        self.options, self.place = request.options, request.to
        self.plan, self.has_feed = source_plan(self.options, request.table)
        self.stage = Stage(spark, self.place, f"{INDEX}/{uuid.uuid4().hex}")
        kinds = zip(self.options.labels, self.plan.kinds, strict=True)
        self.single = [name for name, kind in kinds if kind == "class"]

    def run(self) -> int:
        """Build and commit; return the version."""
        made = make_directory(self.place)
        keep = False
        try:
            version, keep = self._run()
        except BaseException:
            remove_folder(self.place, INDEX if made else self.stage.folder, made=made)
            raise
        if not keep:
            remove_folder(self.place, self.stage.folder)
        newest = find_build(self.place, open_table(self.place).version())
        if newest is not None:
            sweep(self.place, newest, own=self.stage.folder)
        return version

    def _run(self) -> tuple[int, bool]:
        """Build and commit; return the version, and whether the intermediate results are an index now."""
        rows = self.stage.write(self._prepared(read_table(self.spark, self.request.table)), "rows")
        counts = _refused_and_shipped(rows)
        check_counts(counts, self.options, self.request.table, splits=lambda: self._unknown_splits(rows))
        own_validation = any(reason is None and split == VALIDATION for reason, split in counts)
        report(f"{self.stage.rows('rows'):,} rows are read and checked; copies are looked for")
        decided = decided_rows(rows, self.stage, self.plan)
        report("copies are found; the rows are split and written")
        rule = SplitRule(own_validation=own_validation)
        settled = True
        while True:
            with staged(self._assembled(decided, rule), self.place) as files:
                summary = self._summary(files)
                lacking = classes_without_train_rows(summary.classes, labels=self.single)
                hopeless = self.options.split.column is None and not summary.splits.get("train")
                given = not settled and self.options.split.column is not None
                if not lacking or own_validation or hopeless or given:
                    return self._commit(
                        decided, files, summary, own_validation=own_validation, settled=settled
                    )
            remove_folder(self.place, _folder(files))
            rule, decided = self._with_train_rows(decided, rule, lacking)
            settled = False

    def _prepared(self, raw: DataFrame) -> DataFrame:
        from pyspark.sql.types import StructType

        plan = self.plan

        def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
            return (prepare(batch, plan) for batch in batches)

        added = spark_schema(plan.added)
        return map_batches(raw, on_batches, StructType([*raw.schema.fields, *added.fields]))

    def _unknown_splits(self, rows: DataFrame) -> list[str]:
        from pyspark.sql import functions as sql

        name = quoted(self.options.split.column or "").cast("string")
        found = rows.where(sql.col(REFUSAL) == "split is unknown").select(name).distinct().limit(5)
        return [str(row[0]) for row in found.collect()]

    def _assembled(self, decided: DecidedRows, rule: SplitRule) -> DataFrame:
        plan = self.plan
        schema = spark_schema(dataset_schema(plan))
        return decided.joined(then=(lambda batch: assemble(batch, plan, rule), schema))

    def _summary(self, files: Sequence[DataFile]) -> Summary:
        """Sum up what was staged."""
        if not files:
            return Summary()
        text = self.options.text
        labels = list(zip(self.options.labels, self.plan.kinds, strict=True))

        def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
            import pyarrow as pa

            total = Summary()
            for batch in batches:
                total += summarise(batch, text=text, labels=labels, split=SPLIT_COLUMN)
            yield pa.RecordBatch.from_pydict({"summary": [total.model_dump_json()]})

        written = self.spark.read.schema(spark_schema(dataset_schema(self.plan))).parquet(
            plain_path(f"{self.place}/{_folder(files)}")
        )
        parts = map_batches(written, on_batches, "summary string", bytes_each=_SUMMED_BYTES).collect()
        return sum((Summary.model_validate_json(part[0]) for part in parts), Summary())

    def _with_train_rows(
        self, decided: DecidedRows, rule: SplitRule, lacking: dict[str, list[str]]
    ) -> tuple[SplitRule, DecidedRows]:
        """Give classes their train rows back that were carved out; refuse rows of classes that have none."""
        from pyspark.sql import functions as sql

        rare = decided.kept_with(lacking)
        if self.options.split.column is None:
            return rule, decided.refusing(rare)
        groups = rare.where(sql.col(SHIPPED) == 0).select(GROUP).distinct().collect()
        return SplitRule(rule.own_validation, frozenset(int(row[0]) for row in groups)), decided

    def _commit(
        self,
        decided: DecidedRows,
        files: Sequence[DataFile],
        summary: Summary,
        *,
        own_validation: bool,
        settled: bool,
    ) -> tuple[int, bool]:
        """Check the whole, and write both tables; return the version, and whether the index stays."""
        request = self.request
        fates = decided.fates()
        check_balance(fates, summary, self.options, single=self.single)
        refused = self._written(decided.left_out("quarantine", fates), request.quarantine, fates.reasons)
        dropped = self._written(decided.left_out("duplicates", fates), request.duplicates, fates.states)
        settled = settled and len(decided.crowded) <= MOST_CROWDED
        index = self.options.incremental and self.has_feed and settled
        build = Build(
            source=request.table.uri,
            source_version=request.table.version,
            source_state=table_states([request.table])[str(request.table)],
            algorithm=ALGORITHM,
            recipe=recipe(self.options, self.plan),
            mode="full",
            own_validation=own_validation,
            similar_texts=self.options.similar_texts,
            settled=settled,
            crowded=tuple(decided.crowded) if settled else (),
            fates=fates,
            summary=summary,
            quarantine_version=refused,
            duplicates_version=dropped,
            index=index_files(self.place, self.stage.files("rows")) if index else (),
            decisions=index_files(self.place, self.stage.files("decisions")) if index else (),
        )
        version = commit_files(
            self.place,
            files,
            schema=spark_schema_to_delta(spark_schema(dataset_schema(self.plan)).json()),
            mode="overwrite",
            transaction=request.transaction,
            metadata={"rows": summary.rows, **build_metadata(build)},
        )
        return version, index

    def _written(
        self, left_out: tuple[DataFrame | None, StructType], place: str, expected: Mapping[str, int]
    ) -> int:
        """Write a table beside the dataset; return its version."""
        request = self.request
        rows, schema = left_out
        table, count = write_table(
            rows,
            place,
            schema=schema,
            mode="overwrite",
            transaction=request.transaction,
            metadata={"operation": "build_dataset", "source": str(request.table)},
        )
        checked_rows(sum(expected.values()), count, what=place)
        return table.version


def _folder(files: Sequence[DataFile]) -> str:
    return files[0].path.rpartition("/")[0]


def _refused_and_shipped(rows: DataFrame) -> dict[tuple[str | None, int | None], int]:
    """Count rows by the reason of their refusal and by the split that they came with."""
    return {(row[0], row[1]): int(row[2]) for row in rows.groupBy(REFUSAL, SHIPPED).count().collect()}


if __name__ == "__main__":
    run_as_application(BuildDatasetRequest, main)
