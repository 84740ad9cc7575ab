"""Decides on every row of a Delta table, in this process or with Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.errors import TableError
from modelmill.jobs import JobResult, run_job
from modelmill.rules.explanation.explainer import Explained
from modelmill.rules.lifecycle.table_decider import TableDecider
from modelmill.rules.lifecycle.table_sample import sample_table
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.settings import Settings
from modelmill.tables.opening import open_table, table_schema
from modelmill.tables.reading import read_arrow
from modelmill.tables.table_request import TableRequest


class DecideResult(JobResult):
    """What was decided on."""

    table: TableRef
    rows: int


class DecideTableRequest(TableRequest[DecideResult]):
    """Decide on the rows of a Delta table by a rule set."""

    job = "decide"

    decider: TableDecider = Field(description="Rule set, pinned models and plan.")
    tracking_uri: str = Field("", description="MLflow server, for workers without the models.")


def table_decider(
    pinned: PinnedRuleSet,
    table: TableRef,
    settings: Settings,
    *,
    keep: Sequence[str] = (),
    explain: bool | Explained = False,
    plan_rows: int = 0,
) -> TableDecider:
    """Check a rule set against a table, and plan the order of its signals on a sample.

    :param pinned: the rule set.
    :param table: the table.
    :param settings: where the caches are.
    :param keep: columns to carry along beside the key.
    :param explain: whether each decision has its explanation, or which of them.
    :param plan_rows: rows on which the signals are measured; 0: they are ordered by their kinds alone.
    :return: what decides.
    :raises TableError: if a column is missing.
    :raises ConfigError: if columns collide.
    """
    decider = TableDecider(**dict(pinned), keep=tuple(keep), explain=explain)
    engine = decider.engine(table_schema(table), settings)
    decider.output_schema(engine)
    if plan_rows:
        sample = sample_table(table, rows=plan_rows, columns=decider.columns(engine))
        decider = decider.model_copy(update={"plan": engine.measure_plan(sample)})
    return decider


def decide_table(request: DecideTableRequest, settings: Settings, *, in_process_rows: int) -> TableRef:
    """Decide on a table.

    :param request: the table, what decides, and the place.
    :param settings: where Spark and the caches are.
    :param in_process_rows: a table with more rows is decided on with Spark.
    :return: the decisions, at the version that was written.
    :raises TableError: if a key is missing or not unique; nothing is written.
    """
    if open_table(request.table.uri, version=request.table.version).count() > in_process_rows:
        return run_job(request, settings=settings).table
    return _decide_in_process(request, settings)


def check_keys(missing: int, repeated: Sequence[Any], *, key: str, table: TableRef) -> None:
    """Refuse a table in which a key does not name one row: the decisions have each key once.

    :param missing: number of rows without a key.
    :param repeated: some keys of several rows.
    :param key: the column.
    :param table: the table, for the message.
    :raises TableError: if there are any.
    """
    if missing:
        raise TableError(
            f"every row must have a key in column {key!r} ({table})",
            got=f"{missing:,} rows without",
            remedy="leave these rows out when the table is made",
        )
    if repeated:
        raise TableError(
            f"a key in column {key!r} belongs to one row ({table})",
            got=", ".join(map(str, repeated)),
            remedy="name another key, or remove repeated rows when the table is made",
        )


def check_table_keys(table: TableRef, *, key: str) -> None:
    """Refuse a table in which a key does not name one row; see :func:`check_keys`.

    :param table: the table.
    :param key: the column.
    :raises TableError: if a key is missing or not unique.
    """
    _check_key_column(read_arrow(table, columns=[key]).column(key), key=key, table=table)


def _check_key_column(keys: pa.ChunkedArray, *, key: str, table: TableRef) -> None:
    import pyarrow.compute as pc

    counts = pc.value_counts(keys.drop_null())
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    check_keys(keys.null_count, repeated[:5], key=key, table=table)


def _decide_in_process(request: DecideTableRequest, settings: Settings) -> TableRef:
    from modelmill.tables.commits import write_rows

    decider, key = request.decider, request.decider.rule_set.key
    table = open_table(request.table.uri, version=request.table.version)
    engine = decider.engine(pa.schema(table.schema().to_arrow()), settings)
    rows = read_arrow(request.table, columns=decider.columns(engine))
    _check_key_column(rows.column(key), key=key, table=request.table)
    decided = [decider.decide(engine, batch) for batch in rows.to_batches()]
    found = pa.Table.from_batches(decided, decider.output_schema(engine))
    version = write_rows(
        request.to,
        found,
        mode="overwrite",
        transaction=request.transaction,
        metadata={"rows": found.num_rows, **decider.commit_metadata(request.table)},
    )
    return TableRef(uri=request.to, version=version)
