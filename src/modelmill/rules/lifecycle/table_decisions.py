"""Deciding on a table: what is pinned before a row is read, and what is logged when it is done."""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from modelmill.artifacts import SignalsRef, TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.jobs import JobRequest, JobResult, run_job
from modelmill.rules.engine import Engine
from modelmill.rules.planning.plan import EvaluationPlan
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.pins import Pin, pin_models
from modelmill.tables.opening import open_table
from modelmill.tables.reading import check_columns, checked_files, read_arrow, read_batches
from modelmill.tables.storage import TableLocation, table_location

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.steps.decide import DecideConfig, DecideInputs

_SIGNALS = "signals:"
"""What a model's name begins with that stands for a model of an earlier step."""

_making = threading.Lock()


class Deciding(BaseModel):
    """All that a worker needs to decide: nothing is looked up again where rows are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule_set: RuleSet
    pins: dict[str, Pin]
    """What each model's name stands for in this run."""
    plan: EvaluationPlan | None = None
    keep: tuple[str, ...] = ()
    """Columns to carry along beside the key."""
    explain: bool = False
    """Whether each decision has its explanation."""

    def engine(self, schema: pa.Schema, settings: Settings | None = None) -> Engine:
        """Make the engine.

        :param schema: columns of the rows.
        :param settings: where caches are; None: from the environment.
        :return: the engine, with the pinned models and the plan.
        :raises ModelmillError: see :class:`~modelmill.rules.engine.Engine`.
        """
        return Engine(self.rule_set, schema, settings=settings, pins=self.pins, plan=self.plan)

    def read(self, engine: Engine) -> tuple[str, ...]:
        """Return the columns that are read: those of every signal, and those that are carried along.

        :param engine: what decides.
        :return: names.
        """
        used = [name for group in engine.groups.values() for name in group.columns]
        return tuple(dict.fromkeys([self.rule_set.key, *used, *self.keep]))


def prepare(
    rule_set: RuleSet,
    schema: pa.Schema,
    settings: Settings,
    *,
    models: Mapping[str, Pin] | None = None,
    keep: Sequence[str] = (),
) -> Deciding:
    """Look up the models of a rule set, once for a run.

    :param rule_set: the rule set.
    :param schema: columns of the rows.
    :param settings: where MLflow and the caches are.
    :param models: models of earlier steps, by the signal's name: what ``signals:NAME`` stands for.
    :param keep: columns to carry along beside the key.
    :return: what workers need.
    :raises ConfigError: if a model of an earlier step is not there.
    :raises TableError: if a column is missing.
    :raises TransientError: if MLflow does not answer.
    """
    check_columns(schema.names, [rule_set.key, *keep], place="the input")
    names = rule_set.models
    earlier = {f"{_SIGNALS}{name}": pin for name, pin in (models or {}).items()}
    unknown = [name for name in names if name.startswith(_SIGNALS) and name not in earlier]
    if unknown:
        raise ConfigError(
            "signals:NAME stands for a model of the step at the input port signals",
            got=", ".join(unknown),
            remedy=f"it has {', '.join(sorted(earlier)) or 'none: connect the port'}",
        )
    looked_up = pin_models([name for name in names if name not in earlier], settings)
    pins = {name: (earlier | looked_up)[name] for name in names}
    return Deciding(rule_set=rule_set, pins=pins, keep=tuple(keep))


def run(config: DecideConfig, inputs: DecideInputs, context: StepContext) -> TableRef:
    """Decide on a table.

    :param config: the step's configuration.
    :param inputs: the table, and models of earlier steps.
    :param context: the step's context.
    :return: the decisions, at the version that this run wrote.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    :raises TableError: if the table has no such column, or a key is missing or not unique.
    :raises ConfigError: if columns collide.
    """
    from modelmill.rules.lifecycle.decision_report import count_decisions, log_decisions
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set

    place = table_location(config.to)
    table = inputs.table
    rule_set = open_rule_set(source_of(config, inputs), context.settings)
    if place == table.uri:
        raise ConfigError("a table is not written over its source", got=place, remedy="name another table")
    source = open_table(table.uri, version=table.version)
    schema = pa.schema(source.schema().to_arrow())
    models = pinned_signals(inputs.signals, context) if inputs.signals else {}
    deciding = prepare(rule_set, schema, context.settings, models=models, keep=config.keep)
    engine = deciding.engine(schema, context.settings)
    deciding = deciding.model_copy(update={"explain": config.explain})
    output_schema(engine, deciding)
    if config.plan_rows:
        sample = rows_of(table, most=config.plan_rows, columns=deciding.read(engine))
        engine.use(engine.measure_plan(sample))
        deciding = deciding.model_copy(update={"plan": engine.plan})
    rows = source.count()
    began = time.monotonic()
    if rows <= config.in_process_rows:
        decisions = _in_process(engine, deciding, table, place, context)
    else:
        decisions = _with_spark(deciding, table, place, context)
    counts = count_decisions(decisions)
    log_decisions(counts, deciding, table, decisions, seconds=time.monotonic() - began, context=context)
    return decisions


def source_of(config: DecideConfig, inputs: DecideInputs) -> str:
    """Return where the rule set of a step is.

    :param config: the step's configuration.
    :param inputs: what other steps hand over.
    :return: path, URL, or the name of a registered rule set.
    :raises ConfigError: if it is named twice, or not at all.
    """
    named = [one for one in (config.rule_set, inputs.rule_set and inputs.rule_set.uri) if one]
    if len(named) != 1:
        raise ConfigError(
            "a step decides by one rule set: the one under rule_set, or that of the input port",
            got=" and ".join(named) or "none",
            remedy="name one of them",
        )
    return named[0]


def pinned_signals(signals: SignalsRef, context: StepContext) -> dict[str, Pin]:
    """Bring the models of an earlier step to this machine.

    :param signals: the models.
    :param context: the step's context.
    :return: by the signal's name.
    """
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.registry.signal_models import read_signals

    return {
        name: Pin(model=model, folder=str(fetch_bundle(model, context.cache)), digest=model.digest)
        for name, model in read_signals(signals).items()
    }


def outside_state(source: str, settings: Settings) -> str:
    """Return a fingerprint of a rule set and of the versions that its models have now.

    :param source: path, URL, or the name of a registered rule set.
    :param settings: where MLflow is.
    :return: changes where a run would decide otherwise.
    """
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set

    rule_set = open_rule_set(source, settings)
    pins = pin_models([name for name in rule_set.models if not name.startswith(_SIGNALS)], settings)
    versions = "".join(f"{name}={pin.version}\n" for name, pin in sorted(pins.items()))
    return hashlib.sha256(f"{rule_set.digest}\n{versions}".encode()).hexdigest()


def rows_of(table: TableRef, *, most: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
    """Return rows from all over a table, evenly: its beginning may be all of one class.

    A table with more rows is read through. Where the log does not count them, they are the first ones.

    :param table: the table.
    :param most: rows at most.
    :param columns: what to read; None: all.
    :return: one batch; the same rows for the same version.
    """
    opened = open_table(table.uri, version=table.version)
    files = checked_files(opened, table)
    counts = [file.rows for file in files]
    total = sum(count for count in counts if count is not None) if None not in counts else 0
    wanted = np.arange(most) if total <= most else np.arange(most) * total // most
    batches: list[pa.RecordBatch] = []
    start = 0
    with read_batches(opened, table, files, columns=columns) as reader:
        for batch in reader:
            end = start + batch.num_rows
            first, last = np.searchsorted(wanted, (start, end))
            batches.append(batch.take(pa.array(wanted[first:last] - start)))
            start = end
            if last == len(wanted):
                break
        return one_batch(pa.Table.from_batches(batches, reader.schema))


def one_batch(rows: pa.Table) -> pa.RecordBatch:
    """Return a table as one batch.

    :param rows: the table.
    :return: the same rows.
    """
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema)


def output_schema(engine: Engine, deciding: Deciding) -> pa.Schema:
    """Return the columns of the decisions table.

    :param engine: what decides.
    :param deciding: what it was made of.
    :return: key, decision and explanation, and what is carried along.
    :raises ConfigError: if columns collide.
    """
    schema = engine.decision_schema(explain=deciding.explain)
    taken = [name for name in deciding.keep if name.lower() in {one.lower() for one in schema.names}]
    if taken:
        raise ConfigError(
            "the columns that are carried along have names of their own",
            got=", ".join(taken),
            remedy=f"the decisions have {', '.join(schema.names)}",
        )
    return pa.schema([*schema, *(engine.schema.field(name) for name in deciding.keep)])


def decide_rows(engine: Engine, batch: pa.RecordBatch, deciding: Deciding) -> pa.RecordBatch:
    """Decide on rows.

    :param engine: what decides.
    :param batch: the rows.
    :param deciding: what it was made of.
    :return: a row for each, in their order, see :func:`output_schema`.
    """
    found = engine.decide(batch, explain=deciding.explain)
    arrays = [*found.columns, *(batch.column(name) for name in deciding.keep)]
    names = [*found.schema.names, *deciding.keep]
    return pa.RecordBatch.from_arrays(arrays, names=names).cast(output_schema(engine, deciding))


def decide_batches(batches: Iterable[pa.RecordBatch], *, deciding: str) -> Iterator[pa.RecordBatch]:
    """Decide in a worker of the engine.

    :param batches: rows with the columns that are read.
    :param deciding: :class:`Deciding`, JSON.
    :yields: see :func:`output_schema`.
    """
    engine: Engine | None = None
    for batch in batches:
        if engine is None:
            made, engine = _worker_engine(deciding, batch.schema)
        yield decide_rows(engine, batch, made)


def _worker_engine(deciding: str, schema: pa.Schema) -> tuple[Deciding, Engine]:
    # One engine for each partition; what is expensive in it is loaded once for each process.
    with _making:
        made = _parsed(deciding)
        return made, made.engine(schema)


@functools.lru_cache(maxsize=2)
def _parsed(deciding: str) -> Deciding:
    return Deciding.model_validate_json(deciding)


def check_keys(missing: int, repeated: Sequence[Any], *, key: str, table: TableRef) -> None:
    """Refuse a table whose rows cannot be told apart: the decisions have each key once.

    :param missing: rows without a key.
    :param repeated: some keys that stand in several rows.
    :param key: the column.
    :param table: the table, for the message.
    :raises TableError: if there are any.
    """
    if missing:
        raise TableError(
            f"every row has a key in column {key!r} ({table})",
            got=f"{missing:,} rows without",
            remedy="leave these rows out when the table is made",
        )
    if repeated:
        raise TableError(
            f"a key in column {key!r} belongs to one row ({table})",
            got=", ".join(map(str, repeated)),
            remedy="name another key, or remove repeated rows when the table is made",
        )


def commit_metadata(deciding: Deciding, table: TableRef) -> dict[str, Any]:
    """Return what the commit of decisions says of itself.

    :param deciding: what decided.
    :param table: the input.
    :return: JSON.
    """
    rule_set = deciding.rule_set
    return {
        "operation": "decide",
        "source": str(table),
        "rule_set": f"{rule_set.rule_set}@{rule_set.digest[:12]}",
        "models": {name: pin.version for name, pin in sorted(deciding.pins.items())},
    }


def _in_process(
    engine: Engine, deciding: Deciding, table: TableRef, place: str, context: StepContext
) -> TableRef:
    import pyarrow.compute as pc

    from modelmill.tables.commits import write_rows

    rows = read_arrow(table, columns=deciding.read(engine))
    keys = rows.column(deciding.rule_set.key)
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    check_keys(keys.null_count, repeated[:5], key=deciding.rule_set.key, table=table)
    decided = [decide_rows(engine, batch, deciding) for batch in rows.to_batches()]
    found = pa.Table.from_batches(decided, output_schema(engine, deciding))
    version = write_rows(
        place,
        found,
        mode="overwrite",
        transaction=context.step_key,
        metadata={"rows": found.num_rows, **commit_metadata(deciding, table)},
    )
    return TableRef(uri=place, version=version)


class DecideResult(JobResult):
    """What was decided on."""

    table: TableRef
    rows: int


class DecideRequest(JobRequest[DecideResult]):
    """Decide on the rows of a Delta table by a rule set."""

    job = "decide"

    table: TableRef = Field(description="Table to decide on, at a version.")
    deciding: Deciding = Field(description="Rule set, pinned models and plan.")
    to: TableLocation = Field(description="Table with the decisions; each request makes a new version.")
    tracking_uri: str = Field("", description="MLflow server, for workers without the models.")
    transaction: str = Field(
        default_factory=lambda: uuid4().hex,
        description="Id under which the result is committed once: a retry has the same. Empty: a new one.",
    )


def _with_spark(deciding: Deciding, table: TableRef, place: str, context: StepContext) -> TableRef:
    request = DecideRequest(
        table=table,
        deciding=deciding,
        to=place,
        tracking_uri=context.settings.tracking_uri,
        transaction=context.step_key,
    )
    return run_job(request, settings=context.settings).table
